from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from aiprod_studio.errors import DoesNotFit, MediaError
from aiprod_studio.media import video
from aiprod_studio.media.images import write_image
from aiprod_studio.media.video import probe, read_clip, read_frames
from aiprod_studio.media.writer import write_video

MS = Fraction(1, 1000)


def encode(path: Path, frames, stamps, rotation=None, pixels="yuv420p", codec="libx264", **tags):
    """Write frames with time stamps in milliseconds by PyAV alone."""
    frames = list(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.time_base = stream.codec_context.time_base = MS
        stream.pix_fmt = pixels
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for frame, stamp in zip(frames, stamps, strict=True):
            if rotation and not stamp:
                stream.set_display_rotation(*rotation)
            picture = av.VideoFrame.from_ndarray(frame, "rgba" if frame.shape[2] == 4 else "rgb24")
            picture.pts, picture.time_base, picture.duration = stamp, MS, 40
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def corner() -> np.ndarray:
    """Return a picture of 64x32 that is white in its top left corner only."""
    image = np.zeros((32, 64, 3), np.uint8)
    image[:16, :16] = 255
    return image


@pytest.mark.parametrize(
    ("rotation", "turned"),
    [
        (None, lambda image: image),
        ((90,), lambda image: np.rot90(image, 1)),
        ((180,), lambda image: np.rot90(image, 2)),
        ((-90,), lambda image: np.rot90(image, -1)),
        ((0, True, False), lambda image: image[:, ::-1]),
    ],
)
def test_rotation_is_honoured(tmp_path, rotation, turned):
    encode(tmp_path / "a.mp4", [corner()] * 2, [0, 40], rotation)
    expected = turned(corner()).astype(int)
    frame = next(read_frames(tmp_path / "a.mp4"))
    info = probe(tmp_path / "a.mp4")
    assert frame.shape == expected.shape == (info.height, info.width, 3)
    assert np.abs(frame - expected).mean() < 12


def test_variable_frame_rate_is_resampled_by_time(tmp_path, moving, numbers):
    path = tmp_path / "a.mkv"
    encode(path, moving(6), [0, 40, 80, 200, 240, 400])
    frames = np.stack(list(read_frames(path, 25)))
    shown = numbers(frames)
    assert shown[:11] == [0, 1, 2, 2, 2, 3, 4, 4, 4, 4, 5]
    assert np.stack(list(read_frames(path, 50))).shape[0] in (21, 22)


def test_phone_video_gets_the_usual_rate_near_its_average(tmp_path, moving):
    stamps = [round(number * 1000 / 30) + (number * 7) % 5 for number in range(30)]
    encode(tmp_path / "a.mp4", moving(30), stamps)
    info = probe(tmp_path / "a.mp4")
    assert info.fps in (30, Fraction(30_000, 1001))
    assert len(list(read_frames(tmp_path / "a.mp4"))) == info.frames == 30


@pytest.mark.parametrize("fps", [12, 48])
def test_another_rate_keeps_the_length(tmp_path, moving, numbers, fps):
    write_video(tmp_path / "a.mp4", moving(24), 24)
    frames = np.stack(list(read_frames(tmp_path / "a.mp4", fps)))
    assert len(frames) == fps
    assert numbers(frames) == sorted(numbers(frames))


def test_probe_tells_what_a_file_holds(tmp_path, moving, tone):
    path = tmp_path / "a.mp4"
    write_video(path, moving(24), 23.976, tone(16_000, 16_000), 16_000, {"comment": "hello"})
    info = probe(path)
    assert (info.width, info.height, info.frames) == (64, 48, 24)
    assert info.fps == Fraction(24_000, 1001)
    assert info.seconds == pytest.approx(1.001)
    assert (info.has_audio, info.sample_rate) == (True, 16_000)
    assert info.metadata["comment"] == "hello"


def test_a_silent_clip_has_no_sound(tmp_path, moving):
    write_video(tmp_path / "a.mp4", moving(5), 24)
    clip = read_clip(tmp_path / "a.mp4")
    assert clip.audio is None
    assert clip.frames.shape == (5, 48, 64, 3)
    assert clip.frames.dtype == np.uint8
    assert not probe(tmp_path / "a.mp4").has_audio


def test_sound_is_resampled_and_stays_as_long_as_the_picture(tmp_path, moving, tone):
    write_video(tmp_path / "a.mp4", moving(24), 24, tone(48_000, 48_000, 2), 48_000)
    clip = read_clip(tmp_path / "a.mp4", 16_000)
    assert clip.audio.shape == (2, 16_000)
    assert clip.sample_rate == 16_000


def test_transparent_gifs_are_over_white(tmp_path):
    frames = []
    for number in range(3):
        image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
        image.paste((200, 0, 0, 255), (number * 4, 4, number * 4 + 4, 8))
        frames.append(image)
    frames[0].save(
        tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100, disposal=2
    )
    clip = read_clip(tmp_path / "a.gif")
    assert clip.frames.shape == (3, 16, 16, 3)
    assert clip.fps == 10
    assert clip.frames[2, 12, 12].tolist() == [255, 255, 255]
    assert clip.frames[2, 5, 9].tolist() == [200, 0, 0]


def test_transparent_video_is_over_white(tmp_path):
    image = np.zeros((16, 16, 4), np.uint8)
    image[:8] = (0, 0, 200, 255)
    encode(tmp_path / "a.mov", [image, image], [0, 40], pixels="rgba", codec="png")
    frame = next(read_frames(tmp_path / "a.mov"))
    assert frame[12, 3].tolist() == [255, 255, 255]
    assert frame[3, 3].tolist() == [0, 0, 200]


@pytest.mark.parametrize("trc", [18])
def test_hdr_white_becomes_white(tmp_path, trc):
    grey = np.full((32, 32, 3), 190, np.uint8)
    colours = {"color_trc": trc, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    encode(tmp_path / "a.mp4", [grey, grey], [0, 40], pixels="yuv420p10le", **colours)
    assert next(read_frames(tmp_path / "a.mp4")).mean() > 235


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "50%d.png", "x:y.png"])
def test_still_pictures_are_clips_of_one_frame(tmp_path, name):
    write_image(tmp_path / name, corner())
    assert probe(tmp_path / name).frames == 1
    assert read_clip(tmp_path / name).frames.shape == (1, 32, 64, 3)


def test_bad_files_are_explained(tmp_path, moving, tone):
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nfile:good.mp4\n#EXT-X-ENDLIST\n")
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile good.mp4\n")
    write_video(tmp_path / "good.mp4", moving(10), 24)
    whole = (tmp_path / "good.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:600])
    for name in ("text.mp4", "list.mp4", "concat.mp4", "cut.mp4"):
        for read in (probe, read_clip, lambda path: list(read_frames(path))):
            with pytest.raises(MediaError, match="cannot be read"):
                read(tmp_path / name)
    with pytest.raises(MediaError, match="does not exist"):
        probe(tmp_path / "missing.mp4")
    with av.open(str(tmp_path / "a.flac"), "w") as container:
        stream = container.add_stream("flac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match="holds no picture"):
        probe(tmp_path / "a.flac")


def test_clips_too_large_for_memory_are_refused(tmp_path, moving, monkeypatch):
    write_video(tmp_path / "a.mp4", moving(10), 24)
    monkeypatch.setattr(video, "CLIP_BYTES", 9 * 64 * 48 * 3)
    with pytest.raises(DoesNotFit, match="Cut it shorter"):
        read_clip(tmp_path / "a.mp4")
