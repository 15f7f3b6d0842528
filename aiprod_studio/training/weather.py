"""Weather over a scene's frames: rain, snowfall and fog."""

from __future__ import annotations

import torch
from torch import Tensor

from aiprod_studio.training.painting import HORIZON, HOUR_LIGHT, scatter

CLOUDS = {"clear": (0.0, 0.9), "rain": (0.9, 1.0), "snowfall": (0.8, 1.0), "fog": (0.3, 1.0)}


def veil(frames: Tensor, weather: str, hour: int) -> None:
    """Dim what lies behind the subjects in frames `[T, 3, H, W]` of 0…1, in place."""
    if weather == "fog":
        rows = torch.linspace(0, 1, frames.shape[-2]).view(-1, 1)
        thick = 0.35 + 0.5 * torch.exp(-(((rows - HORIZON) / 0.22) ** 2))
        frames.lerp_(_grey(hour).expand_as(frames), thick.expand_as(frames))
    elif weather in ("rain", "snowfall"):
        frames.lerp_((_grey(hour) * 0.75).expand_as(frames), torch.full_like(frames, 0.3))


def fall(frames: Tensor, weather: str, hour: int, fps: float, dice: torch.Generator) -> None:
    """Let rain or snow fall over frames `[T, 3, H, W]` of 0…1, or a last haze lie, in place."""
    T, _, H, W = frames.shape
    if weather == "fog":
        frames.lerp_(_grey(hour).expand_as(frames), torch.full_like(frames, 0.22))
        return
    if weather not in ("rain", "snowfall"):
        return
    rain = weather == "rain"
    chance = scatter(H, W, dice)
    drops = (chance > 0.994) * (0.4 + 100 * (chance - 0.994))
    if rain:
        streak = torch.stack([drops.roll(row, 0) for row in range(max(2, H // 16))]).amax(dim=0)
    else:
        across = torch.maximum(drops, 0.6 * drops.roll(1, 1))
        streak = torch.maximum(across, 0.6 * across.roll(1, 0))
    speed, wind = (1.7, 0.12) if rain else (0.32, 0.10)
    for frame in range(T):
        at = frame / fps
        here = streak.roll((int(speed * H * at), int(wind * W * at)), (0, 1))
        frames[frame] += (0.3 if rain else 0.75) * here * (0.35 + 0.65 * HOUR_LIGHT[hour].mean())
    frames.clamp_(max=1)


def _grey(hour: int) -> Tensor:
    """Return the colour `[3, 1, 1]` of hazy air."""
    return (0.82 * HOUR_LIGHT[hour]).view(3, 1, 1)
