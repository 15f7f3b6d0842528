"""The starter's small world as data: subjects, places, times, motions, cameras and their art."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from aiprod_studio.settings import settings

ABSENT = -1  # the class number of what is not there, or is not said
SPRITE_PIXELS = 128
_COLUMNS = 16
_HELD_OUT = 0.15


@dataclass(frozen=True)
class Concept:
    """One thing that a caption can name, with a subject's English names and its other facts."""

    id: str
    words: tuple[str, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class World:
    """All concepts by kind, in the order of their class numbers."""

    subjects: tuple[Concept, ...]
    places: tuple[Concept, ...]
    times: tuple[Concept, ...]
    motions: tuple[Concept, ...]
    cameras: tuple[Concept, ...]
    styles: tuple[Concept, ...]
    weathers: tuple[Concept, ...]
    relations: tuple[Concept, ...]
    sizes: tuple[Concept, ...]
    counts: tuple[Concept, ...]

    @property
    def kinds(self) -> dict[str, tuple[Concept, ...]]:
        """The concept tables by the name of their kind."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@cache
def load_world() -> World:
    """Read `assets/world.toml`."""
    tables = tomllib.loads((settings().assets / "world.toml").read_text("utf-8"))
    return World(**{kind: tuple(map(_read_concept, rows)) for kind, rows in tables.items()})


def _read_concept(row: dict[str, Any]) -> Concept:
    facts = {key: value for key, value in row.items() if key not in ("id", "words")}
    return Concept(row["id"], tuple(row.get("words", ())), facts)


@cache
def held_out_combinations() -> Tensor:
    """Return which subjects in which places with which motions are never trained on.

    The truth values `[subjects, places, motions]` depend on names alone: a world may grow.
    """
    world = load_world()
    shares = [
        hashlib.sha256(f"{subject.id}/{place.id}/{motion.id}".encode()).digest()[0] / 256
        for subject in world.subjects
        for place in world.places
        for motion in world.motions
    ]
    shape = len(world.subjects), len(world.places), len(world.motions)
    return torch.tensor(shares).view(shape) < _HELD_OUT


@cache
def load_sprites(pixels: int) -> Tensor:
    """Return the artwork by style and subject, premultiplied RGBA float32 `[S, N, 4, p, p]`."""
    sheets = [_read_sheet(style.facts["sheet"], pixels) for style in load_world().styles]
    return torch.stack(sheets)


def _read_sheet(name: str, pixels: int) -> Tensor:
    """Return the subjects' artwork in one style `[N, 4, pixels, pixels]`."""
    picture = Image.open(settings().assets / "sprites" / f"{name}.webp").convert("RGBA")
    sheet, p = np.asarray(picture), SPRITE_PIXELS
    grid = torch.from_numpy(sheet.copy()).view(len(sheet) // p, p, _COLUMNS, p, 4)
    tiles = grid.permute(0, 2, 4, 1, 3).flatten(0, 1)[: len(load_world().subjects)]
    rgba = tiles.float() / 255
    rgba = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)
    return F.interpolate(rgba, (pixels, pixels), mode="area")


def pack_sprites(artwork: Path, sheet: Path) -> None:
    """Lay the subjects' pictures from a folder of emoji artwork into one sheet, row by row.

    Each picture is trimmed to its visible box and centred, standing on the sprite's lower edge.
    """
    rows = -(-len(load_world().subjects) // _COLUMNS)
    whole = Image.new("RGBA", (SPRITE_PIXELS * _COLUMNS, SPRITE_PIXELS * rows))
    for row, subject in enumerate(load_world().subjects):
        picture = Image.open(artwork / f"{subject.facts['sprite']}.webp").convert("RGBA")
        picture = picture.crop(picture.getchannel("A").point(lambda a: a > 16 and 255).getbbox())
        scale = (SPRITE_PIXELS - 4) / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        left = (SPRITE_PIXELS - size[0]) // 2
        top = SPRITE_PIXELS - 2 - size[1]
        corner = (row % _COLUMNS * SPRITE_PIXELS, row // _COLUMNS * SPRITE_PIXELS)
        whole.paste(picture, (corner[0] + left, corner[1] + top))
    whole.save(sheet, lossless=False, quality=90, method=6)
