"""Extending: a clip that goes on from the end of another, as one file."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from aiprod_studio.errors import BadRequest, MediaError
from aiprod_studio.media.audio import Sound, fitted, resample
from aiprod_studio.media.clip import Reel
from aiprod_studio.media.images import Frame, resize
from aiprod_studio.media.video import probe, read_frames, read_sound
from aiprod_studio.sentences import Said
from aiprod_studio.types import SECONDS_LIMIT, Request

FADE_SECONDS = 0.02
# A frame that lies at a whole number is found in spite of rounding.
NEARLY = 1e-6
# The frames of the old clip that are read at once.
CHUNK = 8


def continued(request: Request) -> Request:
    """Return a request with the size and frame rate that it leaves open taken from its clip.

    One that extends nothing stays as it is. Raises `BadRequest` when the file is no clip, or
    when the whole would be longer than `SECONDS_LIMIT`.
    """
    if request.extend is None:
        return request
    path = Path(request.extend)
    try:
        info = probe(path)
    except MediaError as error:
        told = "This cannot be extended: {why}"
        raise BadRequest(Said("said.no_extension", told, why=str(error))) from error
    if info.frames < 2:
        told = (
            "{name} is a single picture, no clip. Choose a video to extend, or let the new clip "
            "begin with that picture."
        )
        raise BadRequest(Said("said.one_picture", told, name=path.name))
    found: dict[str, Any] = {"width": info.width, "height": info.height, "fps": float(info.fps)}
    missing = {name: value for name, value in found.items() if getattr(request, name) is None}
    if info.seconds + (request.seconds or 0.0) > SECONDS_LIMIT:
        told = (
            "{name} has {seconds:.0f} seconds of {width}x{height}; what is added would make it too "
            "long. Cut it shorter, or extend its last part."
        )
        size = {"width": info.width, "height": info.height}
        raise BadRequest(Said("said.too_long", told, name=path.name, seconds=info.seconds, **size))
    return dataclasses.replace(request, **missing)


def whole_seconds(request: Request) -> float:
    """Return the length of the finished file of a completed request; raises `MediaError`."""
    assert request.seconds is not None
    before = 0.0 if request.extend is None else probe(Path(request.extend)).seconds
    return before + request.seconds


def read_end(path: Path) -> Frame:
    """Return the last frame `[H, W, 3]` of a clip; raises `MediaError`."""
    last: Frame = deque(read_frames(path), maxlen=1).pop()
    return last


def append(path: Path, new: Reel, size: tuple[int, int], fps: float) -> Reel:
    """Return the clip in a file and then `new`, at `size` (width, height) and `fps`.

    The first frame of `new` shows what the clip ends with, and is left out. Raises `MediaError`,
    also while the frames are taken.
    """
    old = _open(path)
    length = max(1, round(old.count * fps / old.fps))
    more = round((new.count - 1) * fps / new.fps)
    # A new picture shows at once: the one that is left out would repeat the last.
    before = [int(n * old.fps / fps + NEARLY) for n in range(length)]
    after = [math.ceil((n + 1) * new.fps / fps - NEARLY) for n in range(more)]
    both = chain(_pick(old.chunks, before), _pick(new.chunks, after))
    rate = old.sample_rate if old.audio is not None else new.sample_rate
    sound = None
    if old.audio is not None or new.audio is not None:
        sound = _join_sound(old, new, rate, length / fps, (length + more) / fps)
    return Reel((resize(chunk, *size) for chunk in both), length + more, fps, sound, rate)


def _open(path: Path) -> Reel:
    """Return a file as a clip whose frames are read as they are taken."""
    info, frames = probe(path), read_frames(path)
    chunks = (np.stack(few) for few in iter(lambda: list(islice(frames, CHUNK)), []))
    if not info.has_audio:
        return Reel(chunks, info.frames, float(info.fps))
    sound = read_sound(path, info.sample_rate, round(info.frames / info.fps * info.sample_rate))
    return Reel(chunks, info.frames, float(info.fps), sound, info.sample_rate)


def _pick(chunks: Iterable[Frame], numbers: list[int]) -> Iterator[Frame]:
    """Yield the frames of those rising numbers, in chunks; beyond the end, the last one."""
    wanted, end = np.array(numbers, int), 0
    for chunk in chunks:
        begin, end = end, end + len(chunk)
        first, last = np.searchsorted(wanted, (begin, end))
        yield chunk[wanted[first:last] - begin]
    yield np.repeat(chunk[-1:], np.sum(wanted >= end), axis=0)


def _join_sound(old: Reel, new: Reel, rate: int, seam: float, end: float) -> Sound:
    """Return the sound `[C, S]` of both clips, `new` taking over at `seam` of `end` seconds."""
    begin, length = round(seam * rate), round(end * rate)
    first, second = (_sound_at(reel, rate) for reel in (old, new))
    # The left-out frame of the new clip sounds while the old one ends.
    lead = round(rate / new.fps)
    fade = min(round(FADE_SECONDS * rate), lead, begin)
    channels = max(len(first), len(second))
    joined = np.zeros((channels, length), np.float32)
    joined[:, :begin] = fitted(first, begin)
    joined[:, begin:] = fitted(second[:, lead:], length - begin)
    rising = np.linspace(0, 1, fade, dtype=np.float32)
    joined[:, begin - fade : begin] *= 1 - rising
    joined[:, begin - fade : begin] += rising * fitted(second[:, lead - fade : lead], fade)
    return joined


def _sound_at(reel: Reel, rate: int) -> Sound:
    """Return the sound of a clip at `rate` Hz, silence where it has none."""
    if reel.audio is None:
        return np.zeros((1, 0), np.float32)
    return resample(reel.audio, reel.sample_rate, rate)
