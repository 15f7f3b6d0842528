"""Extending: a clip that goes on from the end of another, as one file."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from aiprod_studio.errors import BadRequest, MediaError
from aiprod_studio.media.audio import Sound, fitted, resample
from aiprod_studio.media.clip import Clip
from aiprod_studio.media.images import Frame, resize
from aiprod_studio.media.video import CLIP_BYTES, probe, read_clip, read_frames
from aiprod_studio.types import SECONDS_LIMIT, Request

FADE_SECONDS = 0.02
# A frame that lies at a whole number is found in spite of rounding.
NEARLY = 1e-6


def continued(request: Request) -> Request:
    """Return a request with the size and frame rate that it leaves open taken from its clip.

    One that extends nothing stays as it is. Raises `BadRequest` when the file is no clip, or
    when the whole would be longer than `SECONDS_LIMIT` or `CLIP_BYTES`.
    """
    if request.extend is None:
        return request
    path = Path(request.extend)
    try:
        info = probe(path)
    except MediaError as error:
        raise BadRequest(f"This cannot be extended: {error}") from error
    if info.frames < 2:
        raise BadRequest(
            f"{path.name} is a single picture, no clip. Choose a video to extend, or let the new "
            "clip begin with that picture."
        )
    found: dict[str, Any] = {"width": info.width, "height": info.height, "fps": float(info.fps)}
    missing = {name: value for name, value in found.items() if getattr(request, name) is None}
    full = dataclasses.replace(request, **missing)
    assert full.width is not None
    assert full.height is not None
    assert full.fps is not None
    seconds = info.seconds + (request.seconds or 0.0)
    if seconds > SECONDS_LIMIT or seconds * full.fps * full.width * full.height * 3 > CLIP_BYTES:
        raise BadRequest(
            f"{path.name} has {info.seconds:.0f} seconds of {info.width}x{info.height}; what is "
            "added would make it too long to hold. Cut it shorter, or extend its last part."
        )
    return full


def whole_seconds(request: Request) -> float:
    """Return the length of the finished file of a completed request; raises `MediaError`."""
    assert request.seconds is not None
    before = 0.0 if request.extend is None else probe(Path(request.extend)).seconds
    return before + request.seconds


def read_end(path: Path) -> Frame:
    """Return the last frame `[H, W, 3]` of a clip; raises `MediaError`."""
    last: Frame = deque(read_frames(path), maxlen=1).pop()
    return last


def append(path: Path, new: Clip, size: tuple[int, int], fps: float) -> Clip:
    """Return the clip in a file and then `new`, at `size` (width, height) and `fps`.

    The first frame of `new` shows what the clip ends with, and is left out. Raises `MediaError`.
    """
    old = read_clip(path)
    length = max(1, round(len(old.frames) * fps / old.fps))
    more = round((len(new.frames) - 1) * fps / new.fps)
    # A new picture shows at once: the one that is left out would repeat the last.
    before = [int(n * old.fps / fps + NEARLY) for n in range(length)]
    after = [math.ceil((n + 1) * new.fps / fps - NEARLY) for n in range(more)]
    both = (_pick(old.frames, before), _pick(new.frames, after))
    frames = np.concatenate([resize(part, *size) for part in both])
    rate = old.sample_rate if old.audio is not None else new.sample_rate
    sound = None
    if old.audio is not None or new.audio is not None:
        sound = _join_sound(old, new, rate, length / fps, len(frames) / fps)
    return Clip(frames, fps, sound, rate)


def _pick(frames: Frame, numbers: list[int]) -> Frame:
    """Return the frames `[T, H, W, 3]` of those numbers; beyond the end, the last one."""
    most = len(frames) - 1
    return frames if numbers == list(range(most + 1)) else frames[np.minimum(numbers, most)]


def _join_sound(old: Clip, new: Clip, rate: int, seam: float, end: float) -> Sound:
    """Return the sound `[C, S]` of both clips, `new` taking over at `seam` of `end` seconds."""
    begin, length = round(seam * rate), round(end * rate)
    first, second = (_sound_at(clip, rate) for clip in (old, new))
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


def _sound_at(clip: Clip, rate: int) -> Sound:
    """Return the sound of a clip at `rate` Hz, silence where it has none."""
    if clip.audio is None:
        return np.zeros((1, 0), np.float32)
    return resample(clip.audio, clip.sample_rate, rate)
