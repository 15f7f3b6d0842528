"""The starter's small world as data: subjects, places, times, motions, cameras and their art."""

from __future__ import annotations

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

SPRITE_PIXELS = 128


@dataclass(frozen=True)
class Concept:
    """One thing that a caption can name, with its English words and its other facts."""

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
    return Concept(row["id"], tuple(row["words"]), facts)


@cache
def load_sprites(pixels: int) -> Tensor:
    """Return the subjects' artwork, premultiplied RGBA float32 `[N, 4, pixels, pixels]`."""
    sheet = np.asarray(Image.open(settings().assets / "sprites" / "fluent.webp").convert("RGBA"))
    count = sheet.shape[0] // SPRITE_PIXELS
    tiles = torch.from_numpy(sheet.copy()).view(count, SPRITE_PIXELS, SPRITE_PIXELS, 4)
    rgba = tiles.permute(0, 3, 1, 2).float() / 255
    rgba = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)
    return F.interpolate(rgba, (pixels, pixels), mode="area")


def pack_sprites(artwork: Path, sheet: Path) -> None:
    """Stack the subjects' pictures from a folder of emoji artwork into one column of sprites.

    Each picture is trimmed to its visible box and centred, standing on the sprite's lower edge.
    """
    column = Image.new("RGBA", (SPRITE_PIXELS, SPRITE_PIXELS * len(load_world().subjects)))
    for row, subject in enumerate(load_world().subjects):
        picture = Image.open(artwork / f"{subject.facts['sprite']}.webp").convert("RGBA")
        picture = picture.crop(picture.getchannel("A").point(lambda a: a > 16 and 255).getbbox())
        scale = (SPRITE_PIXELS - 4) / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        left = (SPRITE_PIXELS - size[0]) // 2
        column.paste(picture, (left, row * SPRITE_PIXELS + SPRITE_PIXELS - 2 - size[1]))
    column.save(sheet, lossless=False, quality=90, method=6)
