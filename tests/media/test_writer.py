import itertools
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from aiprod_studio.errors import MediaError
from aiprod_studio.media.video import probe, read_clip
from aiprod_studio.media.writer import exact_rate, write_video

NTSC = Fraction(24_000, 1001)


def boxes(path: Path) -> list[str]:
    """Return the names of the top-level boxes of an mp4 file."""
    data, names, at = path.read_bytes(), [], 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        names.append(name.decode())
        at += size
    return names


def decoded(path: Path) -> tuple[int, int]:
    """Return how many frames and sound samples a plain decoder finds."""
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    with av.open(str(path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    return frames, samples


@pytest.mark.parametrize(
    ("count", "fps", "rate"),
    [
        (1, Fraction(24), 16_000),
        (17, NTSC, 16_000),
        (49, Fraction(30_000, 1001), 44_100),
        (50, Fraction(25), 48_000),
        (5, Fraction(1), 24_000),
    ],
)
def test_mp4_has_every_frame_and_sound_of_the_same_length(
    tmp_path, moving, numbers, tone, count, fps, rate
):
    path = tmp_path / "a.mp4"
    sound = tone(round(count / fps * rate) + 999, rate)
    assert write_video(path, moving(count), fps, sound, rate) == count
    length = round(count / fps * rate)
    assert decoded(path)[0] == count
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.average_rate == fps
        assert video.duration * video.time_base == count / fps
        assert audio.duration * audio.time_base == Fraction(length, rate)
    clip = read_clip(path)
    assert numbers(clip.frames) == [number % 40 for number in range(count)]
    assert clip.audio.shape == (1, length)
    assert np.abs(clip.audio - sound[:, :length])[:, 50:-50].max() < 0.1


def test_a_short_sound_is_followed_by_silence(tmp_path, moving, tone):
    write_video(tmp_path / "a.mp4", moving(48), 24, tone(16_000, 16_000, 2), 16_000)
    sound = read_clip(tmp_path / "a.mp4").audio
    assert sound.shape == (2, 32_000)
    assert np.abs(sound[:, :15_000]).max() > 0.4
    assert np.abs(sound[:, 18_000:]).max() < 0.01


def test_mp4_plays_in_browsers(tmp_path, moving, tone):
    path = tmp_path / "a.mp4"
    write_video(path, moving(24, 63, 47), 24, tone(16_000, 16_000), 16_000)
    names = boxes(path)
    assert names.index("moov") < names.index("mdat")
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0].codec_context, container.streams.audio[0]
        assert (video.name, video.pix_fmt, video.profile) == ("h264", "yuv420p", "High")
        assert (video.width, video.height) == (64, 48)
        assert (video.color_primaries, video.color_trc, video.colorspace) == (1, 1, 1)
        assert video.color_range == 1
        assert audio.codec_context.name == "aac"
    assert probe(path).fps == 24


@pytest.mark.parametrize(("width", "height"), [(64, 48), (1280, 720)])
def test_colours_come_back(tmp_path, width, height):
    bars = np.zeros((height, width, 3), np.uint8)
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (128, 128, 128)]
    for number, colour in enumerate(colours):
        bars[:, number * width // 4 : (number + 1) * width // 4] = colour
    for name in ("a.mp4", "a.webm"):
        write_video(tmp_path / name, [bars], 24)
        read = read_clip(tmp_path / name).frames[0]
        for number, colour in enumerate(colours):
            middle = read[height // 2, number * width // 4 + width // 8]
            assert np.abs(middle.astype(int) - colour).max() <= 6


@pytest.mark.parametrize("fps", [24, NTSC])
def test_webm_has_every_frame_odd_sides_and_sound(tmp_path, moving, numbers, tone, fps):
    path = tmp_path / "a.webm"
    write_video(path, moving(31, 63, 47), fps, tone(44_100 * 3, 44_100), 44_100, {"comment": "é"})
    info = probe(path)
    assert (info.width, info.height, info.frames, info.fps) == (63, 47, 31, fps)
    assert info.metadata["comment"] == "é"
    assert decoded(path) == (31, round(31 / fps * 48_000))
    assert numbers(read_clip(path).frames) == list(range(31))


def test_gif_keeps_frames_speed_and_colours(tmp_path, moving, numbers):
    path = tmp_path / "a.gif"
    assert write_video(path, moving(25, 63, 47), 24) == 25
    clip = read_clip(path)
    assert clip.frames.shape == (25, 47, 63, 3)
    assert abs(clip.seconds - 25 / 24) < 0.02
    assert numbers(clip.frames) == list(range(25))


def test_fast_gifs_drop_frames_and_not_speed(tmp_path, moving):
    assert write_video(tmp_path / "a.gif", moving(60), 60) == 50
    info = probe(tmp_path / "a.gif")
    assert (info.frames, info.seconds) == (50, 1.0)


def test_numbered_pictures_and_folders(tmp_path, moving):
    assert write_video(tmp_path / "a_%02d.png", moving(3), 24) == 3
    assert write_video(tmp_path / "folder", moving(2), 24) == 2
    assert sorted(file.name for file in tmp_path.glob("**/*.png")) == [
        "a_00.png",
        "a_01.png",
        "a_02.png",
        "frame_00000.png",
        "frame_00001.png",
    ]


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif"])
def test_the_same_input_gives_the_same_bytes(tmp_path, moving, tone, name):
    files = []
    for folder in ("one", "two"):
        path = tmp_path / folder / name
        write_video(path, moving(20), 24, tone(16_000, 16_000), 16_000, {"comment": "x"})
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_tags_may_be_large(tmp_path, moving):
    text = "雪" * 100_000
    write_video(tmp_path / "a.mp4", moving(2), 24, metadata={"comment": text})
    assert probe(tmp_path / "a.mp4").metadata["comment"] == text


@pytest.mark.parametrize(
    ("fps", "exact"),
    [
        (23.976, NTSC),
        (24_000 / 1001, NTSC),
        (29.97, Fraction(30_000, 1001)),
        (12.5, Fraction(25, 2)),
    ],
)
def test_rates_become_the_fraction_that_is_meant(fps, exact):
    assert exact_rate(fps) == exact


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_impossible_rates_are_refused(fps):
    with pytest.raises(MediaError, match="frames a second"):
        exact_rate(fps)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a_%d.png"])
def test_what_fails_leaves_the_old_file_alone(tmp_path, moving, name):
    old = tmp_path / (name % 0 if "%" in name else name)
    old.write_bytes(b"old")

    def breaking(error):
        yield from moving(3)
        raise error

    odd = [*moving(2), *moving(1, 32, 32)]
    for frames, error in [
        ([], MediaError),
        (breaking(KeyboardInterrupt()), KeyboardInterrupt),
        (breaking(RuntimeError("engine")), RuntimeError),
        ([np.zeros((4, 4, 3), np.float32)], MediaError),
        (odd if "png" not in name else [], MediaError),
    ]:
        with pytest.raises(error):
            write_video(tmp_path / name, frames, 24)
        assert old.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [old]


def test_a_failing_finish_leaves_nothing(tmp_path, moving):
    def finish(path):
        assert path.suffix == ".mp4"
        assert probe(path).frames == 3
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", moving(3), 24, finish=finish)
    assert not list(tmp_path.iterdir())


def test_unknown_suffixes_and_shapes_of_sound_are_refused(tmp_path, moving):
    with pytest.raises(MediaError, match="suffix"):
        write_video(tmp_path / "a.xyz", moving(3), 24)
    with pytest.raises(MediaError, match="channels"):
        write_video(tmp_path / "a.mp4", moving(3), 24, np.zeros((6, 100), np.float32))
    assert not list(tmp_path.iterdir())


_ENDLESS = """
import itertools, sys
import numpy as np
from pathlib import Path
from aiprod_studio.media.writer import write_video
frame = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
write_video(Path(sys.argv[1]), itertools.repeat(frame), 24, np.zeros((1, 99999), np.float32))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "left"), [(signal.SIGKILL, 1), (signal.SIGINT, 0)])
def test_a_killed_write_leaves_no_final_file(tmp_path, number, left):
    command = [sys.executable, "-c", _ENDLESS, str(tmp_path / "a.mp4")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while not any(file.stat().st_size for file in tmp_path.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        try:
            assert process.wait(30) != 0
        finally:
            process.kill()
    remains = list(tmp_path.iterdir())
    assert len(remains) == left
    assert all(file.name.startswith(".") for file in remains)


def test_no_ctrl_c_is_lost_in_the_encoder(tmp_path):
    frame = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    sound = np.zeros((1, 99_999), np.float32)
    for wait in np.linspace(0.02, 0.08, 40):
        frames = itertools.repeat(frame, 20_000)
        strike = threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT))
        strike.start()
        with pytest.raises(KeyboardInterrupt):
            write_video(tmp_path / "a.mp4", frames, 24, sound)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


_FULL = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from aiprod_studio.errors import DoesNotFit
from aiprod_studio.media.writer import write_video
from aiprod_studio.media.audio import write_wav
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
frames = np.random.default_rng(0).integers(0, 255, (12, 48, 64, 3), np.uint8)
sound = np.zeros((1, 8000), np.float32)
for name in ("a.mp4", "a.webm", "a.gif", "a_%d.png", "a.wav"):
    path = folder / name
    def write():
        if name == "a.wav":
            write_wav(path, sound, 16000)
        else:
            write_video(path, frames, 24, sound)
    write()
    whole = folder / (name % 0 if "%" in name else name)
    size = whole.stat().st_size
    for file in folder.iterdir():
        file.unlink()
    for limit in (0, 40, size // 3, size // 2, size - 4000, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(0, limit), resource.RLIM_INFINITY))
        try:
            write()
        except DoesNotFit as error:
            assert "Free some space" in str(error)
            assert not list(folder.iterdir()), (name, limit, list(folder.iterdir()))
        else:
            raise AssertionError((name, limit, size))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(name)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file size limits")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", _FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["a.mp4", "a.webm", "a.gif", "a_%d.png", "a.wav"]


_LONG = """
import resource, sys
import numpy as np
from pathlib import Path
from aiprod_studio.media.writer import write_video
count = int(sys.argv[2])
noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
frames = (np.roll(noise, number, 1) for number in range(count))
sound = np.zeros((1, 16000 * count // 24), np.float32)
write_video(Path(sys.argv[1]), frames, 24, sound)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no getrusage")
@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_memory_does_not_grow_with_length(tmp_path, name):
    peaks = []
    for count in (60, 800):
        command = [sys.executable, "-c", _LONG, str(tmp_path / name), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    # The frames alone would be 27 MB more, the process itself takes about 100 MB.
    assert peaks[1] < peaks[0] * 1.15


def test_frames_are_taken_one_by_one(tmp_path, moving):
    taken = []

    def watched():
        for number, frame in enumerate(itertools.islice(moving(100), 100)):
            taken.append(number)
            if number == 99:
                assert any(file.stat().st_size for file in tmp_path.iterdir())
            yield frame

    assert write_video(tmp_path / "a.mp4", watched(), 24) == 100
    assert taken == list(range(100))


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a_%d.png"])
def test_frames_are_let_go_of_with_all_that_they_are_views_of(tmp_path, moving, name):
    chunks = []

    def views():
        for number in range(4):
            assert all(one() is None for one in chunks[: number - 1])
            chunk = np.stack(list(moving(3)))
            chunks.append(weakref.ref(chunk))
            yield from chunk
            del chunk

    assert write_video(tmp_path / name, views(), 24) == 12


def test_the_same_soft_frames_give_the_same_bytes_every_time(tmp_path):
    chance = np.random.default_rng(2)  # frames for which x264's macroblock tree fails this
    frames = []
    for _ in range(5):
        blots = chance.normal(120, 15, (8, 8, 3)).clip(0, 255).astype(np.uint8)
        frames.append(np.asarray(Image.fromarray(blots).resize((64, 64), Image.Resampling.BICUBIC)))
    written = set()
    for _ in range(12):
        # What lies in memory that is taken anew differs from turn to turn.
        rubbish = [chance.bytes(chance.integers(1_000, 400_000)) for _ in range(30)]
        del rubbish
        write_video(tmp_path / "clip.mp4", frames, 8)
        written.add((tmp_path / "clip.mp4").read_bytes())
    assert len(written) == 1
