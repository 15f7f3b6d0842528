"""What LoRAs add to a model's card, for the planner: sizes as their files tell, no weights read."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache
from pathlib import Path

from aiprod_studio.types import ModelCard, Part

# Assumption for a LoRA that is not on this disk yet: more than most, which are of rank 16 to 64.
UNKNOWN_RANK = 128


def with_loras(card: ModelCard, texts: tuple[str, ...]) -> ModelCard:
    """Return the card with the values that LoRAs add to its denoisers; asks no network.

    One that cannot be read here is taken to be of rank `UNKNOWN_RANK` in every layer. Raises
    `BadRequest` for a text that names no LoRA.
    """
    if not texts or "lora" not in card.tasks:
        return card
    # The Hub's client starts only when it is needed.
    from aiprod_studio.engines.loras import DENOISERS, find_here, half_of, is_for

    parts = dict(card.parts)
    for text in texts:
        path, weight = find_here(text)
        values, half = _values_in(path), half_of(path)
        for name in DENOISERS:
            # One of weight 0 is not added at all.
            if weight and name in parts and is_for(half, name, DENOISERS[1] in parts):
                part = parts[name]
                more = _unknown(part, card.memory.width) if values is None else values
                parts[name] = dataclasses.replace(part, loras=part.loras + more)
    return dataclasses.replace(card, parts=parts)


def _unknown(part: Part, width: int) -> int:
    """Return the values of a LoRA that nobody knows: most layers are squares of the width."""
    return round(part.sizes["bfloat16"] / 2 * 2 * UNKNOWN_RANK / width)


def _values_in(path: Path) -> int | None:
    """Return the values in a file of safetensors, None where it is none or not here."""
    from safetensors import SafetensorError

    if not path.is_file():
        return None
    try:
        told = path.stat()
        return _count(path, told.st_size, told.st_mtime_ns)
    except (OSError, SafetensorError):
        return None


@lru_cache(maxsize=64)
def _count(path: Path, size: int, changed: int) -> int:
    """Return the values in a file as long as it does not change, by its header alone."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    return sum(map(math.prod, shapes))
