"""Reading video: any file that FFmpeg reads, upright, at one constant frame rate."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from av.video.stream import VideoStream

from aiprod_studio.errors import DoesNotFit, MediaError
from aiprod_studio.media.audio import Sound, decode_audio, fitted
from aiprod_studio.media.clip import Clip
from aiprod_studio.media.containers import decodable, open_media
from aiprod_studio.media.images import PIXEL_LIMIT, Frame, fit, read_image

CLIP_BYTES = 8 * 2**30
"""The most memory in bytes that the frames of one clip may take."""

_STILLS = ("image2", "png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe")
_STILL_RATE = Fraction(25)
_COMMON = tuple(Fraction(n) for n in (24, 25, 30, 48, 50, 60, 120))
_COMMON += tuple(Fraction(n * 1000, 1001) for n in (24, 30, 60))
_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds: upright size in pixels, and its length at the constant rate `fps`.

    `metadata` has lower-case tag names; `sample_rate` is in Hz, 0 without sound.
    """

    width: int
    height: int
    fps: Fraction
    frames: int
    seconds: float
    has_audio: bool
    sample_rate: int = 0
    metadata: dict[str, str] = field(default_factory=dict)


def probe(path: Path) -> VideoInfo:
    """Return what a video, gif or picture holds, without decoding more than its first frame.

    Raises `MediaError` for a file that is missing, foreign, damaged or has no picture.
    """
    with open_media(path) as container:
        stream = _video_stream(container, path)
        tags = _tags(container)
        if container.format.name in _STILLS:
            height, width = read_image(path).shape[:2]
            return VideoInfo(width, height, _STILL_RATE, 1, 1 / 25, False, metadata=tags)
        fps = _rate(stream, path)
        first = next(container.decode(stream), None)
        if first is None:
            raise MediaError(f"{path.name} holds no picture. Choose another file.")
        turned = _turn(np.empty((first.height, first.width, 0), np.uint8), _orientation(first))
        sounds = decodable(container.streams.audio)
        rate = sounds[0].rate if sounds else 0
    frames = _count(path, fps)
    return VideoInfo(
        turned.shape[1],
        turned.shape[0],
        fps,
        frames,
        frames / fps.numerator * fps.denominator,
        bool(rate),
        rate,
        tags,
    )


def read_frames(path: Path, fps: float | Fraction | None = None) -> Iterator[Frame]:
    """Yield frames uint8 `[H, W, 3]`, upright, over white, `fps` a second (default: the file's).

    A variable or other frame rate is resampled by the time stamps: every output frame shows the
    picture nearest to its time. Raises `MediaError` as `probe` does, also half-way.
    """
    with open_media(path) as container:
        stream = _video_stream(container, path)
        if container.format.name in _STILLS:
            yield read_image(path)
            return
        stream.thread_type = "AUTO"
        own = _rate(stream, path)
        rate = own if fps is None else Fraction(fps)
        reformatter = VideoReformatter()
        shape: tuple[int, ...] = ()
        for frame, repeats in _paced(_timed(container.decode(stream), stream, 1 / own), rate):
            if repeats or not shape:
                picture = _upright(frame, reformatter)
                shape = shape or picture.shape
                if picture.shape != shape:
                    picture = fit(picture, shape[1], shape[0])
                for _ in range(repeats):
                    yield picture
        if not shape:
            raise MediaError(f"{path.name} holds no picture. Choose another file.")


def read_clip(path: Path, sample_rate: int | None = None) -> Clip:
    """Return a whole file as a `Clip`, its sound (at `sample_rate` Hz) as long as the picture.

    Raises `MediaError` as `probe` does, and `DoesNotFit` for more frames than `CLIP_BYTES`.
    """
    info = probe(path)
    most = CLIP_BYTES // (info.width * info.height * 3)
    if info.frames > most:
        raise DoesNotFit(
            f"{path.name} has {info.frames:,} frames of {info.width}x{info.height}, too many to "
            "hold at once. Cut it shorter or make it smaller."
        )
    kind = np.dtype((np.uint8, (info.height, info.width, 3)))
    frames = np.asarray(np.fromiter(islice(read_frames(path), most), kind), np.uint8)
    if not info.has_audio:
        return Clip(frames, float(info.fps))
    rate = sample_rate or info.sample_rate
    length = round(len(frames) / info.fps * rate)
    return Clip(frames, float(info.fps), read_sound(path, rate, length), rate)


def read_sound(path: Path, rate: int, length: int) -> Sound:
    """Return the sound `[C, length]` that plays with the picture of a file, at `rate` Hz."""
    with open_media(path) as container:
        sound, start = decode_audio(container, rate)
        picture = _video_stream(container, path)
        shift = round((start - _seconds(picture.start_time, picture)) * rate)
    if shift > 0:
        sound = np.pad(sound, ((0, 0), (shift, 0)))
    return np.ascontiguousarray(fitted(sound[:, max(0, -shift) :], length))


def _seconds(ticks: int | None, stream: VideoStream) -> float:
    return float((ticks or 0) * (stream.time_base or 0))


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    stream = next(iter(decodable(container.streams.video)), None)
    if stream is None:
        raise MediaError(f"{path.name} holds no picture. Choose a video or an image.")
    if stream.width * stream.height > PIXEL_LIMIT:
        raise MediaError(
            f"{path.name} has {stream.width}x{stream.height} pixels, more than "
            f"{PIXEL_LIMIT / 1e6:.0f} million. Shrink it first."
        )
    return stream


def _tags(container: InputContainer) -> dict[str, str]:
    return {name.lower(): value for name, value in container.metadata.items()}


def _rate(stream: VideoStream, path: Path) -> Fraction:
    """Return the constant frame rate for a stream: its own, or the usual one near its average."""
    average, base = stream.average_rate, stream.base_rate
    if stream.codec_context.name == "gif":
        # A gif has no rate, and what FFmpeg guesses from its first frames is off.
        average, base = _average(path), None
    rate = average or base or _STILL_RATE
    if average and average != base:
        near = min(_COMMON, key=lambda common: abs(common - rate))
        if base in _COMMON and abs(base - rate) < rate / 20:
            rate = base
        elif abs(near - rate) < rate / 100:
            rate = near
    return max(Fraction(1, 10), min(Fraction(240), rate)).limit_denominator(100_000)


def _count(path: Path, fps: Fraction) -> int:
    """Return how many frames `read_frames` yields, without decoding."""
    with open_media(path) as container:
        stream = _video_stream(container, path)
        if stream.frames and stream.average_rate == stream.base_rate == fps:
            return stream.frames
    spans = _spans(path, 1 / fps)
    return max(1, round((spans[-1][1] - spans[0][0]) * fps))


def _average(path: Path) -> Fraction | None:
    """Return the frames a second over the whole file."""
    spans = _spans(path, 1 / _STILL_RATE)
    seconds = spans[-1][1] - spans[0][0]
    return len(spans) / seconds if seconds else None


def _spans(path: Path, usual: Fraction) -> list[tuple[Fraction, Fraction]]:
    """Return begin and end of all frames in seconds, sorted, from the packets of the file."""
    with open_media(path) as container:
        stream = _video_stream(container, path)
        unit = stream.time_base or usual
        spans = sorted(
            (packet.pts * unit, packet.pts * unit + ((packet.duration or 0) * unit or usual))
            for packet in container.demux(stream)
            if packet.pts is not None and not packet.is_discard
        )
    return spans or [(Fraction(0), usual)]


def _timed(
    frames: Iterable[VideoFrame], stream: VideoStream, usual: Fraction
) -> Iterator[tuple[VideoFrame, Fraction, Fraction]]:
    """Yield each frame with its begin and end in seconds after the first frame."""
    origin: Fraction | None = None
    begin = end = Fraction(0)
    for frame in frames:
        unit = frame.time_base or stream.time_base or usual
        time = end if frame.pts is None else frame.pts * unit
        origin = time if origin is None else origin
        begin = end if frame.pts is None else time - origin
        end = begin + (frame.duration * unit if frame.duration else usual)
        yield frame, begin, end


def _paced(
    frames: Iterable[tuple[VideoFrame, Fraction, Fraction]], fps: Fraction
) -> Iterator[tuple[VideoFrame, int]]:
    """Yield each frame with how many output frames show it: those nearest to its time."""
    held: VideoFrame | None = None
    shown = 0
    finish = Fraction(0)
    for frame, begin, end in frames:
        if held is not None:
            upto = max(shown, round(begin * fps))
            yield held, upto - shown
            shown = upto
        held, finish = frame, max(finish, end)
    if held is not None:
        yield held, max(round(finish * fps), 1) - shown if shown else max(1, round(finish * fps))


def _upright(frame: VideoFrame, reformatter: VideoReformatter) -> Frame:
    """Return a decoded frame as BT.709 RGB uint8 `[H, W, 3]`, turned by its display matrix."""
    alpha_inside = any(part.is_alpha for part in frame.format.components)
    pixels = "rgba" if alpha_inside or frame.format.name == "pal8" else "rgb24"
    unmarked = frame.colorspace in (Colorspace.DEFAULT, 2) and frame.height >= 720
    hdr = frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
    plain = reformatter.reformat(
        frame,
        format=pixels,
        src_colorspace=Colorspace.ITU709 if unmarked else None,
        dst_color_range=ColorRange.JPEG,
        dst_color_trc=ColorTrc.BT709 if hdr else None,
        dst_color_primaries=ColorPrimaries.BT709 if hdr else None,
        interpolation=_SCALING,
    )
    image = np.asarray(plain.to_ndarray(), np.uint8)
    if pixels == "rgba":
        alpha = image[..., 3:].astype(np.uint16)
        over = image[..., :3] * alpha + 255 * (255 - alpha)
        image = ((over + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(_turn(image, _orientation(frame)))


def _orientation(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Return the signs of the display matrix a, b, c, d that turn the stored picture upright."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return (1, 0, 0, 1)
    values = struct.unpack("=9i", bytes(matrix)[:36])
    a, b, c, d = (round(values[index] / 65536) for index in (0, 1, 3, 4))
    return (a, b, c, d) if abs(a * d - b * c) == 1 else (1, 0, 0, 1)


def _turn(image: Frame, orientation: tuple[int, int, int, int]) -> Frame:
    """Return `[H, W, C]` moved so that stored (x, y) shows at (a·x + c·y, b·x + d·y)."""
    a, b, c, d = orientation
    if a == 0:
        image = image.swapaxes(0, 1)
        a, d = c, b
    return image[:: 1 if d > 0 else -1, :: 1 if a > 0 else -1]
