"""Painted backdrops: sky, skyline and ground of a place at an hour, in either style."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aiprod_studio.training.world import Concept

HORIZON = 0.58  # where sky and ground meet, in shares of the canvas from its top
DAY, SUNSET, NIGHT = range(3)
# Per hour: the sky's upper and lower tint with its share, and the light on everything else.
_HOUR_SKY = torch.tensor(
    [
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
        [[0.45, 0.28, 0.52], [1.0, 0.55, 0.25]],
        [[0.02, 0.03, 0.10], [0.09, 0.12, 0.28]],
    ]
)
_HOUR_SKY_SHARE = (0.0, 0.8, 0.93)
HOUR_LIGHT = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.80, 0.66], [0.50, 0.56, 0.80]])
_DISC = torch.tensor([[1.0, 0.97, 0.80], [1.0, 0.72, 0.38], [0.93, 0.95, 1.0]])
_CLOUD = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.66, 0.55], [0.22, 0.25, 0.38]])
_WINDOW = torch.tensor([[0.62, 0.84, 0.98], [1.0, 0.66, 0.42], [0.07, 0.10, 0.24]])
_WATER = torch.tensor([0.16, 0.50, 0.72]).view(3, 1, 1)


@dataclass(frozen=True)
class Backdrop:
    """A place at an hour (0 day, 1 sunset, 2 night), how cloudy (0…1), flat or with texture."""

    place: Concept
    hour: int
    clouds: float
    flat: bool
    height: int
    width: int

    def colour(self, name: str) -> Tensor:
        """Return a colour of the place `[3, 1, 1]`, or two of them `[2, 3, 1, 1]`."""
        codes = self.place.facts[name]
        if isinstance(codes, str):
            return _rgb(codes)
        return torch.stack([_rgb(code) for code in codes])

    def noise(self, rows: int, columns: int, dice: torch.Generator) -> Tensor:
        """Return smooth noise `[H, W]` in 0…1, grown from a coarse grid."""
        coarse = torch.rand(1, 1, rows, columns, generator=dice)
        size = (self.height, self.width)
        smooth = F.interpolate(coarse, size, mode="bicubic", align_corners=False)
        return smooth[0, 0].clamp(0, 1)


def paint_sky(backdrop: Backdrop, dice: torch.Generator) -> Tensor:
    """Return a sky `[3, H, W]` in 0…1: gradient, sun or moon, stars and clouds; or a wall."""
    y = (torch.linspace(0, 1, backdrop.height) / HORIZON).clamp(0, 1).view(1, -1, 1)
    upper, lower = backdrop.colour("sky")
    if backdrop.place.facts.get("indoors"):
        return _paint_wall(backdrop, upper * (1 - y) + lower * y, dice)
    space = backdrop.place.id == "space"
    if not space:
        share = _HOUR_SKY_SHARE[backdrop.hour]
        tints = _HOUR_SKY[backdrop.hour][..., None, None]
        upper = upper * (1 - share) + tints[0] * share
        lower = lower * (1 - share) + tints[1] * share
    sky = (upper * (1 - y) + lower * y).expand(3, backdrop.height, backdrop.width).clone()
    dark = space or backdrop.hour == NIGHT
    if dark:
        stars = scatter(backdrop.height, backdrop.width, dice) > 0.994
        sky += stars.float() * (1 - 0.7 * y[0]) * 0.8
    _light(sky, backdrop, dark, dice)
    if not space:
        puffs = 0.6 * backdrop.noise(7, 7, dice) + 0.4 * backdrop.noise(18, 14, dice)
        edge = 20 if backdrop.flat else 5
        cloud = ((puffs - 0.55) * edge).clamp(0, 1) * backdrop.clouds * (0.4 if dark else 1)
        sky = sky.lerp(_CLOUD[backdrop.hour].view(3, 1, 1).expand_as(sky), cloud.expand_as(sky))
    whole: Tensor = sky.clamp(0, 1)
    return whole


def paint_ground(backdrop: Backdrop, dice: torch.Generator) -> Tensor:
    """Return skyline and ground over nothing, premultiplied RGBA `[4, H, W]`."""
    H, W = backdrop.height, backdrop.width
    facts = backdrop.place.facts
    light = torch.ones(3, 1, 1) if facts.get("indoors") and backdrop.hour == DAY else None
    light = HOUR_LIGHT[backdrop.hour].view(3, 1, 1) if light is None else light
    y = torch.linspace(0, 1, H).view(H, 1)
    height = _SKYLINES[facts["ridge"]](W, dice)
    ridge = ((y - (HORIZON - height)) * H).clamp(0, 1)
    depth = ((y - HORIZON) / (1 - HORIZON)).clamp(0, 1)
    ground = ((y - HORIZON) * H).clamp(0, 1)

    upper, lower = backdrop.colour("ground")
    colour = (upper * (1 - depth) + lower * depth).expand(3, H, W)
    if not backdrop.flat:
        grain = backdrop.noise(40, 30, dice) * 0.6 + backdrop.noise(64, 64, dice) * 0.4 - 0.5
        colour = colour * (1 + 0.35 * facts["rough"] * grain)
    if facts.get("boards"):
        colour = colour * (1 - 0.16 * _boards(depth, W))
    if facts["water"]:
        colour = _flood(colour, depth, backdrop, dice)

    tone = backdrop.colour("ridge_colour")
    shade = 1.0 if backdrop.flat else 0.85 + 0.3 * backdrop.noise(10, 24, dice)
    far = tone * shade * light
    if facts["ridge"] == "alps":
        snow = ((height - (HORIZON - y) - 0.16) * -20 - 1).clamp(0, 1)
        far = far.lerp((0.95 * light).expand(3, H, W), snow.expand(3, H, W))
    if facts["ridge"] == "blocks":
        far = far + _windows(H, W, dice) * (0.25, 0.6, 1.0)[backdrop.hour] * _rgb("#8c7a38")
    rgb = far * (1 - ground) + colour * light * ground
    alpha = torch.maximum(ridge, ground).expand(1, H, W)
    return torch.cat([rgb.clamp(0, 1) * alpha, alpha])


def scatter(height: int, width: int, dice: torch.Generator) -> Tensor:
    """Return random specks `[H, W]` in 0…1, as large in the frame whatever its size in pixels."""
    side = _speck(height, width)
    specks = torch.rand(-(-height // side), -(-width // side), generator=dice)
    return _grown(specks, side, side, height, width)


def _speck(height: int, width: int) -> int:
    """Return the side in pixels of the smallest thing in a frame."""
    return max(1, min(height, width) // 128)


def _grown(cells: Tensor, rows: int, columns: int, height: int, width: int) -> Tensor:
    """Return cells grown to so many pixels each, cut to `[H, W]`."""
    return cells.repeat_interleave(rows, 0).repeat_interleave(columns, 1)[:height, :width]


def _rgb(code: str) -> Tensor:
    """Return a colour `[3, 1, 1]` of its hexadecimal name."""
    return torch.tensor([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]).view(3, 1, 1)


def _light(sky: Tensor, backdrop: Backdrop, dark: bool, dice: torch.Generator) -> None:
    """Put the sun or the moon with its glow into a sky, in place."""
    H, W = backdrop.height, backdrop.width
    x, y = torch.rand(2, generator=dice).tolist()
    x, y = 0.15 + 0.7 * x, 0.08 + 0.25 * y + 0.22 * (backdrop.hour == SUNSET)
    rows, columns = torch.linspace(0, 1, H).view(H, 1), torch.linspace(0, 1, W)
    away = (((columns - x) * W / H) ** 2 + (rows - y) ** 2).sqrt()
    glow = torch.exp(-away * 6) * (0.2 if dark else 0.45)
    light = (torch.sigmoid((0.055 - away) * 160) + glow).clamp(0, 1)
    sky.lerp_(_DISC[backdrop.hour].view(3, 1, 1).expand_as(sky), light.expand_as(sky))


def _paint_wall(backdrop: Backdrop, wall: Tensor, dice: torch.Generator) -> Tensor:
    """Return a wall `[3, H, W]` with a window that shows the hour."""
    H, W = backdrop.height, backdrop.width
    lamp = (1.0, 0.92, 0.72)[backdrop.hour]
    wall = (wall * lamp).expand(3, H, W).clone()
    left = int((0.12 + 0.5 * torch.rand(1, generator=dice).item()) * W)
    top, tall, wide = int(0.14 * H), int(0.28 * H), int(0.24 * W)
    border = max(1, H // 60)
    wall[:, top - border : top + tall + border, left - border : left + wide + border] = 0.93 * lamp
    pane = _WINDOW[backdrop.hour].view(3, 1, 1)
    wall[:, top : top + tall, left : left + wide] = pane
    cross = 0.93 * lamp
    wall[:, top + tall // 2 : top + tall // 2 + border, left : left + wide] = cross
    wall[:, top : top + tall, left + wide // 2 : left + wide // 2 + border] = cross
    return wall


def _flood(colour: Tensor, depth: Tensor, backdrop: Backdrop, dice: torch.Generator) -> Tensor:
    """Cover the ground with water from its bank to its shore, in shares of the ground's depth."""
    shore, bank = backdrop.place.facts["water"], backdrop.place.facts.get("bank", -1.0)
    waves = torch.sin(90 * depth.sqrt() + 6 * backdrop.noise(12, 8, dice))
    wet = ((shore - depth) * 14).clamp(0, 1) * ((depth - bank) * 14).clamp(0, 1)
    water = _WATER * (1 + (0.06 if backdrop.flat else 0.16) * waves)
    if shore < 1:
        water = water + torch.exp(-(((depth - shore) * 28) ** 2))
    return colour.lerp(water, wet.expand_as(water))


def _boards(depth: Tensor, width: int) -> Tensor:
    """Return the gaps between floorboards that run away from the eye, 0…1 `[H, W]`."""
    across = (torch.linspace(-1, 1, width) / (0.35 + depth)).expand(len(depth), width)
    return ((across * 3.2) % 1 < 0.06).float()


def _windows(height: int, width: int, dice: torch.Generator) -> Tensor:
    """Return a grid of lit windows `[H, W]` in 0…1."""
    side = _speck(height, width)
    rows, columns = torch.arange(height).view(height, 1) // side, torch.arange(width) // side
    frame = ((rows % 6 < 3) & (columns % 5 < 2)).float()
    on = torch.rand(height // (6 * side) + 1, width // (5 * side) + 1, generator=dice) > 0.45
    return frame * _grown(on.float(), 6 * side, 5 * side, height, width)


def _line(points: int, width: int, mode: str, dice: torch.Generator) -> Tensor:
    """Return a random line `[W]` in 0…1 through a number of points."""
    coarse = torch.rand(1, 1, points, generator=dice)
    smooth = {} if mode == "nearest" else {"align_corners": True}
    return F.interpolate(coarse, width, mode=mode, **smooth)[0, 0]


def _flat(width: int, dice: torch.Generator) -> Tensor:
    return torch.full((width,), 0.012)


def _hills(width: int, dice: torch.Generator) -> Tensor:
    x, (first, second) = torch.linspace(0, 1, width), torch.rand(2, generator=dice) * 6.28
    return 0.07 + 0.04 * torch.sin(7 * x + first) + 0.025 * torch.sin(17 * x + second)


def _peaks(width: int, dice: torch.Generator) -> Tensor:
    return 0.04 + 0.22 * _line(9, width, "linear", dice)


def _alps(width: int, dice: torch.Generator) -> Tensor:
    rough = 0.03 * _line(40, width, "linear", dice)
    return 0.08 + 0.34 * _line(6, width, "linear", dice) + rough


def _trees(width: int, dice: torch.Generator) -> Tensor:
    phase = torch.rand(1, generator=dice) * 6.28
    saw = (torch.linspace(0, 1, width) * 22 + phase) % 1
    return 0.10 + 0.08 * _line(16, width, "nearest", dice) + 0.10 * (1 - (2 * saw - 1).abs())


def _canopy(width: int, dice: torch.Generator) -> Tensor:
    phase = torch.rand(1, generator=dice) * 6.28
    crowns = torch.sin(torch.linspace(0, 1, width) * 30 + phase).abs().sqrt()
    return 0.24 + 0.12 * crowns + 0.10 * _line(7, width, "linear", dice)


def _blocks(width: int, dice: torch.Generator) -> Tensor:
    return 0.08 + 0.30 * _line(22, width, "nearest", dice) ** 1.5


# Each returns a skyline's height above the horizon `[W]`, in shares of the canvas.
_SKYLINES = {
    "flat": _flat,
    "hills": _hills,
    "peaks": _peaks,
    "alps": _alps,
    "trees": _trees,
    "canopy": _canopy,
    "blocks": _blocks,
}
