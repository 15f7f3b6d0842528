"""Dust and splashes: what flies up where a subject lands."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aiprod_studio.training.choreography import Pose
from aiprod_studio.training.painting import HOUR_LIGHT, Backdrop
from aiprod_studio.training.sounds import Events

NEVER = 99.0
_LASTS = 0.5  # seconds until all has settled
_SPECKS = 7


def since_landing(motion: str, events: Events, time: Tensor, row: int) -> Tensor:
    """Return the seconds `[T]` since clip `row`'s subject last landed; `NEVER` where it did not."""
    if motion == "bounce":
        beat = time[row] * events.rate[row] + events.phase[row]
        return beat % 1 / events.rate[row]
    if motion == "fall":
        since = time[row] - events.landing[row]
        return torch.where(since >= 0, since, NEVER)
    return torch.full_like(time[row], NEVER)


def throw_up(
    frames: Tensor, pose: Pose, since: Tensor, backdrop: Backdrop, scale: float = 1.0
) -> None:
    """Let dust, or water, fly up in frames `[T, 3, H, W]` of 0…1, `since` `[T]` seconds, in place.

    `pose` is one clip's, `[1, T]`, whose subject is `scale` times as large as is usual.
    """
    H, W = frames.shape[-2:]
    wet = backdrop.place.facts["water"] == 1
    colour = 0.6 + 0.4 * backdrop.colour("ground").amax(dim=0) if not wet else torch.ones(3, 1, 1)
    colour = colour * HOUR_LIGHT[backdrop.hour].view(3, 1, 1)
    for frame in (since < _LASTS).nonzero().flatten().tolist():
        age, ground = since[frame].item(), pose.ground[0, frame].item()
        room = max(1.0, scale)
        top, bottom = int((ground - 0.3 * room) * H), int((ground + 0.08 * room) * H)
        top, bottom = max(0, top), min(H, bottom)
        rows = ((torch.arange(top, bottom) + 0.5) / H)[:, None]
        columns = (torch.arange(W) + 0.5) / W
        thick = torch.zeros(bottom - top, W)
        for speck in range(_SPECKS):
            # From straight left to straight right, the middle ones highest.
            across = -math.cos(math.pi * speck / (_SPECKS - 1))
            height = (1.2 - abs(across)) * (1.6 if wet else 0.6) * scale
            reach = pose.wide[0, frame].item() * 0.45 + 0.5 * age * scale
            x = pose.x[0, frame].item() + across * reach
            y = ground - height * age * (1 - age / _LASTS)
            size = (0.018 if wet else 0.028 + 0.08 * age) * scale
            thick += torch.exp(-(((columns - x) * W / H) ** 2 + (rows - y) ** 2) / size**2)
        thick = thick.clamp(max=1) * (0.95 if wet else 0.75) * (1 - age / _LASTS)
        here = frames[frame, :, top:bottom]
        here.lerp_(colour.expand_as(here), thick.expand_as(here))
