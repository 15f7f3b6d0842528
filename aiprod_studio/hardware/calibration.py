"""What was measured on this machine in place of what the catalogue and the probe assume."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

from aiprod_studio.errors import BadRequest
from aiprod_studio.types import Hardware, Memory, ModelCard

SPEEDS = frozenset({"flops", "half_flops"})
COEFFICIENTS = frozenset(
    field.name for field in dataclasses.fields(Memory) if field.type in ("int", "float")
)


def read_measured(path: Path, engine: str) -> dict[str, float]:
    """Return an engine's measured coefficients from a file of them, none where there is no file.

    The file is JSON: {"engine": {"slack": 1.1, "half_flops": 1e14}}; raises `BadRequest` when it
    is something else.
    """
    if not path.is_file():
        return {}
    try:
        measured = json.loads(path.read_text(encoding="utf-8")).get(engine, {})
        found = {str(name): float(value) for name, value in measured.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BadRequest(f"{path} cannot be read as coefficients. Delete or mend it.") from error
    wrong = [
        name
        for name, value in found.items()
        if name not in SPEEDS | COEFFICIENTS or not math.isfinite(value) or value < 0
    ]
    if wrong:
        raise BadRequest(f"{path} has a wrong value for {', '.join(wrong)}. Delete or mend it.")
    return found


def apply_measured(
    hardware: Hardware, card: ModelCard, measured: Mapping[str, float]
) -> tuple[Hardware, ModelCard]:
    """Return hardware and card with what was measured in place of what they assume."""
    speeds = {name: value for name, value in measured.items() if name in SPEEDS}
    terms = {name: value for name, value in measured.items() if name in COEFFICIENTS}
    memory = dataclasses.replace(card.memory, **terms)  # type: ignore[arg-type]
    return (
        dataclasses.replace(hardware, **speeds),  # type: ignore[arg-type]
        dataclasses.replace(card, memory=memory),
    )
