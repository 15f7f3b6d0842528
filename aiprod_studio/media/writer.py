"""Writing video with sound, frame by frame, in flat memory: .mp4, .webm, .gif or numbered .png."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import Flags as CodecFlags
from av.container import OutputContainer
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from av.video.stream import VideoStream

from aiprod_studio.errors import MediaError
from aiprod_studio.media.audio import Sound, clean, resample
from aiprod_studio.media.files import replacing
from aiprod_studio.media.gif import write_gif
from aiprod_studio.media.images import Frame, check_frame, write_sequence

_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class _Format:
    """How one container is written.

    Its sound may have one of `rates` (Hz) and takes at most `bits` a second and channel.
    """

    container: str
    video: str
    video_options: Mapping[str, str]
    audio: str
    rates: tuple[int, ...]
    bits: int
    side_step: int


_MP4 = _Format(
    "mp4",
    "libx264",
    # With more threads, or with its macroblock tree, x264 now and then gives other bytes for the
    # same frames: the tree's look-ahead reads memory that nobody has written.
    {"preset": "medium", "profile": "high", "threads": "1", "mbtree": "0"},
    "aac",
    (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    192_000,
    2,
)
_WEBM = _Format(
    "webm",
    "libvpx-vp9",
    {"b": "0", "deadline": "good", "cpu-used": "4", "tile-columns": "2", "threads": "4"},
    "libopus",
    (8_000, 12_000, 16_000, 24_000, 48_000),
    96_000,
    1,
)
_FORMATS = {".mp4": _MP4, ".m4v": _MP4, ".webm": _WEBM}


def write_video(
    path: Path,
    frames: Iterable[Frame],
    fps: float | Fraction,
    audio: Sound | None = None,
    sample_rate: int = 16_000,
    metadata: Mapping[str, str] | None = None,
    *,
    crf: int = 18,
    finish: Callable[[Path], None] | None = None,
) -> int:
    """Write frames uint8 `[H, W, 3]` and sound float32 `[C, S]` by the suffix; return the frames.

    .mp4 (H.264 + AAC), .webm (VP9 + Opus), .gif (silent, at most 50 fps), or a pattern such as
    `name_%05d.png` or a folder (silent). The sound is cut or padded to the picture's length.
    An odd side of an .mp4 gains one repeated row or column, as 4:2:0 needs even sides. `crf` is
    the quality, 0 best. `finish` gets the whole temporary file before it is renamed. `metadata`
    must use tags that the container knows: comment, description, title, ….
    The same input gives the same bytes. Raises `MediaError` for bad input or an unwritable
    `path` and `DoesNotFit` for a full disk; then no file of that name is left or changed.
    """
    rate = exact_rate(fps)
    suffix = path.suffix.lower()
    if suffix == ".gif":
        return write_gif(path, frames, rate, finish)
    if suffix in (".png", ""):
        return write_sequence(path, frames, metadata)
    form = _FORMATS.get(suffix)
    if form is None:
        raise MediaError(
            f"{path.name} has no video suffix that can be written. "
            "Use .mp4, .webm, .gif or name_%05d.png."
        )
    sound = None if audio is None else _encodable(audio, sample_rate, form)
    with replacing(path) as temporary:
        count = _write(temporary, form, frames, rate, sound, dict(metadata or {}), crf)
        if finish is not None:
            finish(temporary)
    return count


def exact_rate(fps: float | Fraction) -> Fraction:
    """Return frames a second as the fraction that is meant: 23.976 is 24000/1001.

    Raises `MediaError` unless `fps` is a number from 1/100 to 1,000.
    """
    if not 0.01 <= fps <= 1000:
        raise MediaError(f"{fps} frames a second cannot be written. Use 1 to 120.")
    if isinstance(fps, Fraction):
        return fps.limit_denominator(100_000)
    for whole in (24, 30, 48, 60, 120):
        film = Fraction(whole * 1000, 1001)
        if abs(fps - film) < 0.005:
            return film
    return Fraction(fps).limit_denominator(1001)


def _encodable(audio: Sound, sample_rate: int, form: _Format) -> tuple[Sound, int]:
    """Return the sound, and its rate in Hz, as the codec of `form` takes it."""
    sound = clean(audio)
    if sample_rate in form.rates:
        return sound, sample_rate
    rate = min((rate for rate in form.rates if rate >= sample_rate), default=form.rates[-1])
    return resample(sound, sample_rate, rate), rate


def _write(
    path: Path,
    form: _Format,
    frames: Iterable[Frame],
    fps: Fraction,
    sound: tuple[Sound, int] | None,
    metadata: dict[str, str],
    crf: int,
) -> int:
    """Encode everything into `path` and return the number of frames."""
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise MediaError("There are no frames to write. Render at least one.")
    check_frame(first)
    options = _container_options(form, fps, None if sound is None else sound[1])
    with (
        _interrupt_kept() as heed,
        av.open(f"file:{path}", "w", format=form.container, options=options) as container,
    ):
        container.metadata.update(metadata)
        video = _add_video(container, form, first, fps, crf)
        track = None if sound is None else _add_sound(container, form, *sound)
        count = 0
        # It may be a view of many frames, which must not stay in memory to the end.
        pictures = _pictures(chain(iter([first]), rest), video, fps)
        del first
        for picture in pictures:
            container.mux(video.encode(picture))
            count += 1
            heed()
            if track is not None:
                track.extend(math.floor(count / fps * track.rate))
        if track is not None:
            track.extend(round(count / fps * track.rate))
            container.mux(track.stream.encode(None))
        container.mux(video.encode(None))
    return count


@contextmanager
def _interrupt_kept() -> Iterator[Callable[[], None]]:
    """Keep a Ctrl-C back and yield the function that raises it: PyAV loses what is raised in it."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: None
        return
    asked = threading.Event()

    def heed() -> None:
        if asked.is_set():
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, lambda _number, _frame: asked.set())
    try:
        yield heed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        heed()


def _container_options(form: _Format, fps: Fraction, sample_rate: int | None) -> dict[str, str]:
    if form.container != "mp4":
        return {"fflags": "+bitexact"}
    # The edit list counts in this unit: one that both clocks divide keeps both ends exact.
    unit = math.lcm(fps.numerator, sample_rate or 1000)
    return {
        "fflags": "+bitexact",
        "movflags": "+faststart",
        "movie_timescale": str(unit if unit < 2**31 else sample_rate or fps.numerator),
    }


def _add_video(
    container: OutputContainer, form: _Format, first: Frame, fps: Fraction, crf: int
) -> VideoStream:
    """Add the picture stream, BT.709 and 4:2:0, with a key frame every two seconds."""
    stream = container.add_stream(form.video, rate=fps)
    assert isinstance(stream, VideoStream)
    height, width = (side + -side % form.side_step for side in first.shape[:2])
    codec = stream.codec_context
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base = stream.time_base = 1 / fps
    codec.gop_size = max(1, round(2 * fps))
    codec.options = {**form.video_options, "crf": str(crf)}
    codec.flags |= int(CodecFlags.bitexact)
    codec.color_primaries = ColorPrimaries.BT709
    codec.color_trc = ColorTrc.BT709
    codec.colorspace = Colorspace.ITU709
    codec.color_range = ColorRange.MPEG
    return stream


def _pictures(
    frames: Iterable[Frame], video: VideoStream, fps: Fraction
) -> Iterator[av.VideoFrame]:
    """Yield the frames as the encoder takes them; raise `MediaError` when the size changes."""
    shape: tuple[int, ...] = ()
    reformatter = VideoReformatter()
    for number, frame in enumerate(frames):
        check_frame(frame)
        if frame.shape != (shape := shape or frame.shape):
            raise MediaError(
                f"Frame {number} is {frame.shape[1]}x{frame.shape[0]} and the first was "
                f"{shape[1]}x{shape[0]}. Resize all frames to one size."
            )
        spare = ((0, video.height - shape[0]), (0, video.width - shape[1]), (0, 0))
        even = np.pad(frame, spare, mode="edge") if spare[0][1] or spare[1][1] else frame
        picture = reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(even), "rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_SCALING,
        )
        picture.pts, picture.time_base, picture.duration = number, 1 / fps, 1
        yield picture


@dataclass
class _Track:
    """The sound of a file while it is written; `position` is the next sample."""

    container: OutputContainer
    stream: AudioStream
    sound: Sound
    rate: int
    position: int = 0

    def extend(self, end: int) -> None:
        """Encode the sound up to sample `end`, silence where there is none."""
        if end <= self.position:
            return
        part = self.sound[:, self.position : end]
        part = np.pad(part, ((0, 0), (0, end - self.position - part.shape[1])))
        layout = "mono" if len(part) == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), "fltp", layout)
        frame.sample_rate, frame.pts = self.rate, self.position
        frame.time_base = Fraction(1, self.rate)
        self.container.mux(self.stream.encode(frame))
        self.position = end


def _add_sound(container: OutputContainer, form: _Format, sound: Sound, rate: int) -> _Track:
    layout = "mono" if len(sound) == 1 else "stereo"
    stream = container.add_stream(form.audio, rate=rate, layout=layout)
    assert isinstance(stream, AudioStream)
    # FFmpeg's AAC starves the first frames below these rates: a beep at the start is lost.
    stream.codec_context.bit_rate = min(form.bits, 6 * rate) * len(sound)
    stream.codec_context.flags |= int(CodecFlags.bitexact)
    return _Track(container, stream, sound, rate)
