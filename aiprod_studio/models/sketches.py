"""Sketches: what each kind of figure looks like, small, before anything is painted.

A small network draws them from what the prompt says; laid along the tracks of a layout they make an
animatic, the rough moving draft that the backbone reads cell by cell. So a figure looks the same in
every frame, and one beside it is as easy as one alone (learned textures that are looked up where
they are seen, as in Thies et al., Deferred Neural Rendering, 2019).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aiprod_studio.models.layout import ALIKE, GROUP, Figures, by_latent, locate, read_tracks

FINE = 8  # pixels of the animatic along a side of a cell
ANIMATIC_FEATURES = GROUP * FINE * FINE * 4


@dataclass(frozen=True)
class SketcherConfig:
    """The text's width, which of its registers name each kind of figure and the style, and sizes.

    Sketches have `size` pixels a side; `width` is the network's.
    """

    text_width: int = 256
    figures: tuple[int, ...] = (0, 8, 11)
    style: int = 5
    size: int = 24
    width: int = 160

    @classmethod
    def starter(cls) -> SketcherConfig:
        """Return the size that a laptop's processor runs."""
        return cls()

    @classmethod
    def base(cls) -> SketcherConfig:
        """Return the size beside the base backbone."""
        return cls(text_width=768, size=48, width=512)


class Sketcher(nn.Module):
    """Draws a sketch of every kind of figure that a prompt may name."""

    def __init__(self, config: SketcherConfig) -> None:
        super().__init__()
        self.config = config
        text, width = config.text_width, config.width
        self.figures = nn.ModuleList(nn.Linear(text, width) for _ in config.figures)
        self.style, self.mix = nn.Linear(text, width), nn.Linear(width, width)
        self.draw = nn.Linear(width, 4 * config.size**2)

    def forward(self, features: Tensor) -> Tensor:
        """Return premultiplied RGBA in 0…1 `[B, kinds, 4, size, size]` of features `[B, R, D]`."""
        config = self.config
        named = [
            read(features[:, register])
            for read, register in zip(self.figures, config.figures, strict=True)
        ]
        x = torch.stack(named, dim=1) + self.style(features[:, config.style]).unsqueeze(1)
        drawn = self.draw(F.gelu(self.mix(F.gelu(x))))
        return torch.sigmoid(drawn).view(*x.shape[:2], 4, config.size, config.size)


def lay_sketches(tracks: Tensor, sketches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return what the animatic shows in every cell `[B, T', rows, columns, ANIMATIC_FEATURES]`.

    Tracks and sketches are those of `animate`.
    """
    canvas = animate(tracks, sketches, (grid[0] * FINE, grid[1] * FINE))
    cells = canvas.view(*canvas.shape[:3], grid[0], FINE, grid[1], FINE)
    return by_latent(cells.permute(0, 2, 3, 5, 1, 4, 6).flatten(4))


def animate(
    tracks: Tensor, sketches: Tensor, size: tuple[int, int], frames: slice = slice(None)
) -> Tensor:
    """Return those frames of the animatic `[B, 4, T, height, width]`, premultiplied RGBA.

    `sketches` `[B, kinds, 4, side, side]` are drawn over nothing along tracks `[B, T, TRACKS]`, of
    which the whole clip tells who is there and how they stand: whose feet are higher in the frame
    is farther away.
    """
    figures = read_tracks(tracks)[0]
    feet = (figures.y + figures.tall / 2).mean(dim=1)
    B, T = len(tracks), len(range(tracks.shape[1])[frames])
    canvas = tracks.new_zeros(B, 4, T, *size)
    for slot in feet.argsort(dim=1).T:
        rows = (figures.there[torch.arange(B), 0, slot] > 0).nonzero()[:, 0]
        if not len(rows):
            continue
        slots = slot[rows]
        columns = (getattr(figures, each.name) for each in dataclasses.fields(figures))
        one = Figures(*(column[rows, frames, slots].unsqueeze(2) for column in columns))
        points = torch.cat(locate(one, size), dim=-1).flatten(1, 2)
        looks = sketches[rows, (slots - ALIKE + 1).clamp(min=0)].to(points)
        drawn = F.grid_sample(looks, points, align_corners=False).view(-1, 4, T, *size)
        canvas[rows] = drawn + canvas[rows] * (1 - drawn[:, 3:])
    return canvas
