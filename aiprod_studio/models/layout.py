"""The layout: where figures and camera are from frame to frame, settled before all is painted.

A small network of its own denoises tracks, one row a frame, from what the prompt says; the backbone
reads them as features of its tokens. Which motion it is, who is who, and when something hits the
ground is then decided once, for picture and sound alike (grounded generation, as in Lin et al.,
VideoDirectorGPT, 2023, and Ma et al., TrailBlazer, 2023).

Tracks are `[B, T, TRACKS]`, a row for each frame, every number of about unit scale: for each of
`SLOTS` figures of `FIGURE`, then the camera's pan, tilt and zoom, then how near a landing is, at
the frame and half a frame later. The first `ALIKE` figures are of one kind, then comes another
subject, then a third.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ALIKE = 3
SLOTS = ALIKE + 2
FIGURE = ("there", "x", "y", "tall", "slim", "cos", "sin", "side")
VIEW = 3 + 2
TRACKS = SLOTS * len(FIGURE) + VIEW
GROUP = 4  # frames of a latent; the first latent has one

_POINT = 11
CELL_FEATURES = GROUP * (3 * _POINT + 3) + 1
SOUND_FEATURES = 4
_EDGE, _REACH, _NOWHERE = 8.0, 1.5, 99.0
# What makes them numbers of about unit scale; what moves little, but is seen, is enlarged.
_PLACE, _SIZE, _SLIM, _TURN, _CAMERA = 6.0, 3.0, 8.0, 2.0, 8.0
_MARKS = 64


@dataclass(frozen=True)
class LayoutConfig:
    """Frames and their rate, the text's width and registers, and how wide and deep it is.

    `heard` is how many numbers are taken from each register.
    """

    frames: int = 17
    fps: float = 8.0
    text_width: int = 256
    registers: int = 12
    heard: int = 32
    width: int = 160
    heads: int = 5
    layers: int = 3

    @classmethod
    def starter(cls) -> LayoutConfig:
        """Return the size that a laptop's processor runs."""
        return cls()

    @classmethod
    def base(cls) -> LayoutConfig:
        """Return the size beside the base backbone."""
        return cls(49, 8.0, 768, 16, 64, 512, 8, 6)


@dataclass(frozen=True)
class Figures:
    """Figures as the camera sees them, each `[B, T, n]`; `there` is 0 or 1.

    `x`, `y` and `tall` are shares of the frame, `slim` the artwork's width over its height, `turn`
    radians, `side` -1 where it is mirrored.
    """

    there: Tensor
    x: Tensor
    y: Tensor
    tall: Tensor
    slim: Tensor
    turn: Tensor
    side: Tensor


@dataclass(frozen=True)
class Layout:
    """What the backbone reads of tracks, by latent.

    Of cells `[B, T', rows, columns, CELL_FEATURES]`, of sounds `[B, n, SOUND_FEATURES]`, and where
    there are sketches, what the animatic shows in the cells (`models.sketches`).
    """

    cells: Tensor
    sounds: Tensor
    animatic: Tensor | None = None


def write_tracks(figures: Figures, camera: Tensor, landing: Tensor) -> Tensor:
    """Return tracks of `SLOTS` figures, the camera `[B, T, 3]` and landings `[B, T, 2]` in 0…1."""
    there = figures.there
    columns = (
        (figures.x - 0.5) * _PLACE,
        (figures.y - 0.5) * _PLACE,
        (figures.tall.clamp(min=1e-3).log() + 0.7) * _SIZE,
        figures.slim.clamp(min=1e-3).log() * _SLIM,
        figures.turn.cos() * _TURN,
        figures.turn.sin() * _TURN,
        figures.side,
    )
    rows = torch.stack([there * 2 - 1, *(there * column for column in columns)], dim=-1)
    return torch.cat([rows.flatten(2), camera * _CAMERA, landing * 3 - 1], dim=-1)


def read_tracks(tracks: Tensor) -> tuple[Figures, Tensor, Tensor]:
    """Return the figures, the camera `[B, T, 3]` and the landings `[B, T, 2]` of tracks."""
    rows, camera, landing = torch.split(tracks, [SLOTS * len(FIGURE), 3, 2], dim=-1)
    shape = (*rows.shape[:2], SLOTS, len(FIGURE))
    there, x, y, tall, slim, cos, sin, side = rows.reshape(shape).unbind(-1)
    figures = Figures(
        there=(there.mean(dim=1, keepdim=True) > 0).to(x).expand_as(x),
        x=x / _PLACE + 0.5,
        y=y / _PLACE + 0.5,
        tall=(tall / _SIZE - 0.7).exp(),
        slim=(slim / _SLIM).exp(),
        turn=torch.atan2(sin, cos),
        side=torch.where(side.mean(dim=1, keepdim=True) < 0, -1.0, 1.0).expand_as(x),
    )
    return figures, camera / _CAMERA, ((landing + 1) / 3).clamp(0, 1)


def lay_cells(tracks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return what the tracks say of every cell of a grid `[B, T', rows, columns, CELL_FEATURES]`.

    For each frame of the latent: which point of whose artwork lies amid the cell, how large and how
    turned that is, and where the camera looks. A kind's nearest one stands for all of it.
    """
    figures, camera, _ = read_tracks(tracks)
    seen, away = _look_at(figures, grid)
    nearest = away[..., :ALIKE].argmin(dim=-1, keepdim=True)[..., None]
    alike = seen[..., :ALIKE, :].gather(-2, nearest.expand(*nearest.shape[:-1], _POINT))
    seen = torch.cat([alike, seen[..., ALIKE:, :]], dim=-2).flatten(-2)
    view = (camera * 4)[:, :, None, None].expand(*seen.shape[:-1], 3)
    frames = torch.cat([seen, view], dim=-1)
    cells = by_latent(frames)
    return torch.cat([cells, torch.ones_like(cells[..., :1])], dim=-1)


def by_latent(frames: Tensor) -> Tensor:
    """Return features `[B, T', rows, columns, GROUP * F]` of latents of frames' `[B, T, …, F]`.

    The first latent holds one frame, which stands for all of its features.
    """
    first = frames[:, :1].repeat(1, GROUP, 1, 1, 1)
    groups = torch.cat([first, frames[:, 1:]], dim=1).unfold(1, GROUP, GROUP)
    return groups.transpose(-1, -2).flatten(-2)


def locate(figures: Figures, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return which point of each figure's artwork lies amid every cell, both `[B, T, rows, columns,
    n]`: across and down, from -1 to 1 inside.
    """
    rows, columns = grid
    down = (torch.arange(rows, device=figures.x.device) + 0.5).view(-1, 1, 1) / rows
    across = (torch.arange(columns, device=figures.x.device) + 0.5).view(-1, 1) / columns
    _, x, y, tall, slim, turn, side = _everywhere(figures)
    # A turn mixes both axes, which count in pixels: here in shares of the frame's height.
    x, y, cos, sin = (across - x) * columns / rows, down - y, turn.cos(), turn.sin()
    u = 2 * side / (tall * slim) * (cos * x + sin * y)
    v = 2 / tall * (cos * y - sin * x)
    return u, v


def _everywhere(figures: Figures) -> list[Tensor]:
    """Return the figures' numbers with room for rows and columns `[B, T, 1, 1, n]`."""
    return [getattr(figures, each.name)[:, :, None, None] for each in dataclasses.fields(figures)]


def _look_at(figures: Figures, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return features of all figures amid every cell `[B, T, rows, columns, SLOTS, _POINT]`.

    Beside them, how far outside of each figure that is, 1 at its edge, as `[…, SLOTS]`.
    """
    there, _, _, tall, slim, turn, side = _everywhere(figures)
    u, v = locate(figures, grid)
    away = torch.maximum(u.abs(), v.abs()) + _NOWHERE * (1 - there)
    inside = torch.sigmoid(_EDGE * (1.1 - away))
    u, v = u.clamp(-_REACH, _REACH), v.clamp(-_REACH, _REACH)
    waves = [wave(math.pi * part) for part in (u, v) for wave in (torch.sin, torch.cos)]
    size = [turn.cos() * side, turn.sin(), tall.log() + 0.7, slim.log() * 4]
    point = [each.expand_as(inside) for each in (torch.ones_like(u), u, v, *waves, *size)]
    return inside.unsqueeze(-1) * torch.stack(point, dim=-1), away


def lay_sounds(tracks: Tensor, count: int, fps: float) -> Tensor:
    """Return how near a landing is in `count` audio latents, 12.5 a second `[B, count, 4]`."""
    landing = read_tracks(tracks)[2].flatten(1)
    seconds = torch.arange(SOUND_FEATURES * count, device=tracks.device) + 0.5
    seconds = seconds / (SOUND_FEATURES * 12.5)
    at = (seconds * 2 * fps).clamp(0, landing.shape[1] - 1)
    before = at.long().clamp(max=max(0, landing.shape[1] - 2))
    after = (before + 1).clamp(max=landing.shape[1] - 1)
    near = torch.lerp(landing[:, before], landing[:, after], (at - before).expand(len(landing), -1))
    return near.view(len(near), count, SOUND_FEATURES) * 2


class Block(nn.Module):
    """Attention among figures and view, then a feed-forward layer, both told what is wanted."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_in, self.norm_out = (nn.LayerNorm(width, 1e-5, False) for _ in range(2))
        self.told = nn.Linear(width, 4 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.grow, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        nn.init.zeros_(self.told.weight)
        nn.init.zeros_(self.told.bias)

    def forward(self, x: Tensor, wanted: Tensor) -> Tensor:
        """Map `[B, N, D]` to the same shape; `wanted` is `[B, D]`."""
        B, N, D = x.shape
        scale, shift, scale2, shift2 = self.told(wanted).unsqueeze(1).chunk(4, dim=-1)
        y = self.norm_in(x) * (1 + scale) + shift
        q, k, v = self.qkv(y).view(B, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, N, D))
        y = self.norm_out(x) * (1 + scale2) + shift2
        out: Tensor = x + self.shrink(F.gelu(self.grow(y)))
        return out


class LayoutPlanner(nn.Module):
    """The denoiser of tracks; it predicts the clean ones.

    A figure's whole way through the clip is one token, and one is the view's: camera and landings.
    Ways are told as waves, cosines of rising frequency, all at unit scale: so noise hides a shake
    as it hides a walk across the frame, and who stands still does not tremble by what is left.
    """

    scale: Tensor

    def __init__(self, config: LayoutConfig) -> None:
        super().__init__()
        self.config = config
        width, figure, view = config.width, config.frames * len(FIGURE), config.frames * VIEW
        self.read = nn.Linear(config.text_width, config.heard)
        self.understand = nn.Linear(config.registers * config.heard, width)
        self.time = nn.Linear(_MARKS, width)
        self.figure_in, self.view_in = nn.Linear(figure, width), nn.Linear(view, width)
        self.slots = nn.Parameter(torch.empty(SLOTS + 1, width).uniform_(-1, 1))
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.register_buffer("scale", torch.ones(config.frames * TRACKS))
        self.figure_out, self.view_out = nn.Linear(width, figure), nn.Linear(width, view)

    def to_waves(self, tracks: Tensor) -> Tensor:
        """Return tracks `[B, frames, TRACKS]` as waves of the same shape, the slowest first."""
        waves = _cosines(self.config.frames, tracks.device) @ tracks
        return waves / self.scale.view(-1, TRACKS)

    def from_waves(self, waves: Tensor) -> Tensor:
        """Return the tracks that waves tell."""
        cosines = _cosines(self.config.frames, waves.device)
        tracks: Tensor = cosines.T @ (waves * self.scale.view(-1, TRACKS))
        return tracks

    def forward(self, waves: Tensor, times: Tensor, features: Tensor) -> Tensor:
        """Return the clean waves that noisy ones `[B, frames, TRACKS]` hide.

        `times` `[B, 1]` are in 0 (clean) … 1 (noise), `features` the text encoder's `[B, R, D]`.
        """
        B, T, _ = waves.shape
        figures, view = torch.split(waves, [SLOTS * len(FIGURE), VIEW], dim=-1)
        figures = figures.reshape(B, T, SLOTS, -1).transpose(1, 2).flatten(2)
        tokens = [self.figure_in(figures), self.view_in(view.flatten(1)).unsqueeze(1)]
        x = torch.cat(tokens, dim=1) + self.slots
        wanted = self.understand(self.read(features).flatten(1))
        wanted = F.silu(wanted + self.time(_marks(times[:, 0] * 1000)))
        for block in self.blocks:
            x = block(x, wanted)
        x = self.norm(x)
        figures = self.figure_out(x[:, :SLOTS]).view(B, SLOTS, T, -1).transpose(1, 2).flatten(2)
        return torch.cat([figures, self.view_out(x[:, SLOTS]).view(B, T, VIEW)], dim=-1)


def _cosines(frames: int, device: torch.device) -> Tensor:
    """Return the discrete cosine transform of so many frames, an orthogonal matrix."""
    at = torch.arange(frames, device=device)
    rows: Tensor = torch.cos(math.pi / frames * at.view(-1, 1) * (at + 0.5)) * (2 / frames) ** 0.5
    rows[0] /= 2**0.5
    return rows


def _marks(values: Tensor) -> Tensor:
    """Return sines and cosines of `[B]` at many rates: `[B, _MARKS]`."""
    rates = torch.exp(torch.arange(_MARKS // 2, device=values.device) * (-9.2 / (_MARKS // 2)))
    turns = values.float().unsqueeze(-1) * rates
    return torch.cat([torch.sin(turns), torch.cos(turns)], dim=-1)
