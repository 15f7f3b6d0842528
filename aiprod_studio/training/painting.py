"""Painted backgrounds: sky, skyline and ground of a place at an hour, in batched torch."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from aiprod_studio.training.world import load_world

RIDGES = ("flat", "hills", "peaks", "trees", "blocks")
# Per hour: the sky's upper and lower tint with its share, and the light on everything else.
_HOUR_SKY = torch.tensor(
    [
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
        [[0.45, 0.28, 0.52], [1.0, 0.55, 0.25]],
        [[0.02, 0.03, 0.10], [0.09, 0.12, 0.28]],
    ]
)
_HOUR_SKY_SHARE = torch.tensor([0.0, 0.8, 0.93])
HOUR_LIGHT = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.80, 0.66], [0.50, 0.56, 0.80]])


@cache
def _palette() -> dict[str, Tensor]:
    """Return the colours of every place: `sky`, `ground` `[P, 2, 3]`, `ridge` `[P, 3]`, …."""
    places = load_world().places
    colours = {
        name: torch.tensor([[_rgb(c) for c in p.facts[name]] for p in places])
        for name in ("sky", "ground")
    }
    colours["ridge"] = torch.tensor([_rgb(p.facts["ridge_colour"]) for p in places])
    colours["kind"] = torch.tensor([RIDGES.index(p.facts["ridge"]) for p in places])
    for name in ("water", "rough"):
        colours[name] = torch.tensor([float(p.facts[name]) for p in places])
    return colours


def _rgb(code: str) -> list[float]:
    return [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def _noise(shape: tuple[int, int, int], size: tuple[int, int], dice: torch.Generator) -> Tensor:
    """Return smooth noise in 0…1 `[B, *size]`, grown from a coarse grid of `shape`."""
    coarse = torch.rand(shape, generator=dice).unsqueeze(1)
    return F.interpolate(coarse, size, mode="bicubic", align_corners=False).squeeze(1).clamp(0, 1)


def _skyline(kinds: Tensor, width: int, dice: torch.Generator) -> Tensor:
    """Return the skyline's height above the horizon `[B, width]`, in shares of the frame."""
    B = len(kinds)
    x = torch.linspace(0, 1, width).expand(B, width)

    def line(points: int, mode: str) -> Tensor:
        coarse = torch.rand(B, 1, points, generator=dice)
        smooth = {} if mode == "nearest" else {"align_corners": True}
        return F.interpolate(coarse, width, mode=mode, **smooth).squeeze(1)

    phase = torch.rand(B, 2, 1, generator=dice) * 6.28
    hills = 0.07 + 0.04 * torch.sin(7 * x + phase[:, 0]) + 0.025 * torch.sin(17 * x + phase[:, 1])
    peaks = 0.04 + 0.22 * line(9, "linear")
    saw = (x * 22 + phase[:, 0]) % 1
    trees = 0.10 + 0.08 * line(16, "nearest") + 0.10 * (1 - (2 * saw - 1).abs())
    blocks = 0.08 + 0.30 * line(22, "nearest") ** 1.5
    flat = torch.full_like(x, 0.012)
    profiles = torch.stack([flat, hills, peaks, trees, blocks], dim=1)
    return profiles[torch.arange(B), kinds]


def paint_sky(
    place: Tensor, hour: Tensor, size: tuple[int, int], horizon: float, dice: torch.Generator
) -> Tensor:
    """Return skies `[B, 3, H, W]`: gradient, sun or moon, stars and clouds."""
    B, (H, W) = len(place), size
    y = (torch.linspace(0, 1, H) / horizon).clamp(0, 1).view(1, 1, H, 1)
    share = _HOUR_SKY_SHARE[hour].view(B, 1, 1)
    ends = _palette()["sky"][place] * (1 - share) + _HOUR_SKY[hour] * share
    space = (place == [p.id for p in load_world().places].index("space")).view(B, 1, 1)
    ends = torch.where(space, _palette()["sky"][place], ends)
    sky = ends[:, 0, :, None, None] * (1 - y) + ends[:, 1, :, None, None] * y
    sky = sky.expand(B, 3, H, W).contiguous()

    dark = torch.maximum((hour == 2).float(), space.view(B).float()).view(B, 1, 1)
    stars = (torch.rand(B, H, W, generator=dice) > 0.994).float() * (1 - 0.7 * y[:, 0])
    sky += (stars * dark).unsqueeze(1) * 0.8

    cx = torch.rand(B, 1, 1, generator=dice) * 0.7 + 0.15
    cy = (torch.rand(B, 1, 1, generator=dice) * 0.25 + 0.08) + 0.22 * (hour == 1).view(B, 1, 1)
    rows = torch.linspace(0, H / W, H).view(1, H, 1)
    columns = torch.linspace(0, 1, W).view(1, 1, W)
    away = ((columns - cx) ** 2 + (rows - cy * H / W) ** 2).sqrt() * W / H
    disc = torch.sigmoid((0.055 - away) * 160)
    glow = torch.exp(-away * 6) * (0.45 - 0.25 * dark)
    tint = torch.tensor([[1.0, 0.97, 0.80], [1.0, 0.72, 0.38], [0.93, 0.95, 1.0]])[hour]
    light = (disc + glow).clamp(0, 1).unsqueeze(1)
    sky = sky * (1 - light) + tint[:, :, None, None] * light

    amount = torch.rand(B, 1, 1, generator=dice) * 0.9 * (1 - space.float())
    puffs = 0.6 * _noise((B, 7, 7), size, dice) + 0.4 * _noise((B, 18, 14), size, dice)
    cloud = ((puffs - 0.55) * 5).clamp(0, 1) * amount * (1 - 0.6 * dark)
    cloud_tint = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.66, 0.55], [0.22, 0.25, 0.38]])[hour]
    cloud = cloud.unsqueeze(1)
    return sky * (1 - cloud) + cloud_tint[:, :, None, None] * cloud


def paint_ground(
    place: Tensor, hour: Tensor, size: tuple[int, int], horizon: float, dice: torch.Generator
) -> Tensor:
    """Return skyline and ground over nothing, premultiplied RGBA `[B, 4, H, W]`."""
    B, (H, W) = len(place), size
    look = _palette()
    light = HOUR_LIGHT[hour][:, :, None, None]
    y = torch.linspace(0, 1, H).view(1, H, 1)
    height = _skyline(look["kind"][place], W, dice).unsqueeze(1)
    ridge = ((y - (horizon - height)) * H).clamp(0, 1)
    depth = ((y - horizon) / (1 - horizon)).clamp(0, 1)
    ground = ((y - horizon) * H).clamp(0, 1).expand(B, H, W)

    ends = look["ground"][place]
    near = depth.unsqueeze(1)
    colour = ends[:, 0, :, None, None] * (1 - near) + ends[:, 1, :, None, None] * near
    grain = _noise((B, 40, 30), size, dice) * 0.6 + _noise((B, 64, 64), size, dice) * 0.4 - 0.5
    colour = colour * (1 + 0.35 * (grain * look["rough"][place].view(B, 1, 1)).unsqueeze(1))

    shore = look["water"][place].view(B, 1, 1)
    waves = torch.sin(90 * depth.sqrt() + 6 * _noise((B, 12, 8), size, dice))
    wet = ((shore - depth) * 14).clamp(0, 1) * (shore > 0)
    water = torch.tensor([0.16, 0.50, 0.72]).view(1, 3, 1, 1) * (1 + 0.16 * waves.unsqueeze(1))
    foam = torch.exp(-(((depth - shore) * 28) ** 2)) * ((shore > 0) & (shore < 1))
    water = water + foam.unsqueeze(1)
    colour = colour * (1 - wet.unsqueeze(1)) + water * wet.unsqueeze(1)

    tone = look["ridge"][place][:, :, None, None]
    windows = _windows(size, dice) * (look["kind"][place] == RIDGES.index("blocks")).view(B, 1, 1)
    lit = torch.tensor([[0.25], [0.6], [1.0]])[hour].view(B, 1, 1) * windows
    far = tone * (0.85 + 0.3 * _noise((B, 10, 24), size, dice).unsqueeze(1)) * light
    far = far + lit.unsqueeze(1) * torch.tensor([0.55, 0.48, 0.22]).view(1, 3, 1, 1)
    ground = ground.unsqueeze(1)
    rgb = far * (1 - ground) + colour * light * ground
    alpha = torch.maximum(ridge.expand(B, H, W).unsqueeze(1), ground)
    return torch.cat([rgb.clamp(0, 1) * alpha, alpha], dim=1)


def _windows(size: tuple[int, int], dice: torch.Generator) -> Tensor:
    """Return a grid of lit windows `[1, H, W]` in 0…1."""
    H, W = size
    rows, columns = torch.arange(H).view(H, 1) % 6, torch.arange(W).view(1, W) % 5
    frame = ((rows < 3) & (columns < 2)).float()
    on = torch.rand(1, H // 6 + 1, W // 5 + 1, generator=dice) > 0.45
    grown = on.float().repeat_interleave(6, 1).repeat_interleave(5, 2)[:, :H, :W]
    return frame * grown
