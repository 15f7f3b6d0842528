"""The catalogue: every engine that this studio knows, read from `presets/models/*.toml`."""

from __future__ import annotations

import dataclasses
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiprod_studio.errors import BadRequest
from aiprod_studio.settings import settings
from aiprod_studio.types import ModelCard

if TYPE_CHECKING:
    from aiprod_studio.engines.engine import Engine


@cache
def cards() -> dict[str, ModelCard]:
    """Return every engine's card by its id."""
    return {row["id"]: _card(row) for row in _rows().values()}


def find_card(engine: str) -> ModelCard:
    """Return an engine's card; `BadRequest` names the known ones."""
    if engine not in cards():
        known = ", ".join(sorted(cards()))
        raise BadRequest(f"There is no engine '{engine}'. Choose one of: {known}.")
    return cards()[engine]


def find_engine(engine: str) -> Engine:
    """Return the engine of that id, not loaded; `BadRequest` names the known ones."""
    from aiprod_studio.engines.native import NativeEngine  # torch starts only when it is needed

    card = find_card(engine)
    return NativeEngine(card, settings().assets / Path(_rows()[engine]["bundle"]))


@cache
def _rows() -> dict[str, dict[str, Any]]:
    paths = sorted((settings().presets / "models").glob("*.toml"))
    rows = [tomllib.loads(path.read_text("utf-8")) for path in paths]
    return {row["id"]: row for row in rows}


def _card(row: dict[str, Any]) -> ModelCard:
    fields = {field.name for field in dataclasses.fields(ModelCard)}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    return ModelCard(**{key: value for key, value in values.items() if key in fields})
