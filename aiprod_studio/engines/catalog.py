"""The catalogue: every engine that this studio knows, read from `presets/models/*.toml`."""

from __future__ import annotations

import dataclasses
import tomllib
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiprod_studio.errors import BadRequest
from aiprod_studio.settings import settings
from aiprod_studio.types import Memory, ModelCard, Part

if TYPE_CHECKING:
    from aiprod_studio.engines.engine import Engine

# The families whose adapter exists; the rows of others can be downloaded, not rendered.
RENDERABLE = frozenset({"native", "wan", "ltx", "ltx2"})
# What the id of an engine begins with that is any repository of the Hub.
HUB = "hub:"


@cache
def cards() -> dict[str, ModelCard]:
    """Return every engine's card by its id."""
    return {row["id"]: _card(row) for row in rows().values()}


def can_render(engine: str) -> bool:
    """Say whether this studio has the code that renders with an engine of the catalogue."""
    return engine.startswith(HUB) or _family(engine) in RENDERABLE


def find_card(engine: str) -> ModelCard:
    """Return the card of an engine that can render; `BadRequest` names the ones that can.

    That of "hub:owner/name" is made of what is on this disk; raises as `find_folder` for it.
    """
    if engine.startswith(HUB):
        from aiprod_studio.engines.hub.repo import repo_card

        return repo_card(engine)
    if engine not in cards() or not can_render(engine):
        known = ", ".join(sorted(filter(can_render, cards())))
        what = "cannot render yet" if engine in cards() else "does not exist"
        raise BadRequest(f"The engine '{engine}' {what}. Choose one of: {known}.")
    return cards()[engine]


def find_engine(engine: str) -> Engine:
    """Return the engine of that id, not loaded; `BadRequest` names the known ones.

    Its `load` raises `ModelUnavailable` where weights that must be downloaded are not on this
    disk, and `TermsNotAccepted` where their licence must be accepted first.
    """
    card = find_card(engine)
    family = HUB if engine.startswith(HUB) else _family(engine)
    # torch and its kin start only when they are needed.
    if family == "native":
        from aiprod_studio.engines.native import NativeEngine

        return NativeEngine(card, settings().assets / Path(rows()[engine]["bundle"]))
    from aiprod_studio.engines.weights import quiet

    quiet()
    find_folder = partial(_folder, engine)
    if family == HUB:
        from aiprod_studio.engines.hub_repo import HubEngine

        return HubEngine(card, find_folder)
    if family == "wan":
        from aiprod_studio.engines.wan import WanEngine

        second = rows()[engine].get("default_guidance_2", card.default_guidance)
        return WanEngine(card, find_folder, second / card.default_guidance)
    if family == "ltx":
        from aiprod_studio.engines.ltx import LTXEngine

        return LTXEngine(card, find_folder)
    from aiprod_studio.engines.ltx2 import LTX2Engine

    return LTX2Engine(card, find_folder)


def _folder(engine: str, task: str) -> Path:
    """Return the folder of downloaded weights."""
    from aiprod_studio.engines.hub.folders import find_folder  # which needs this module

    return find_folder(engine, task)


def _family(engine: str) -> str:
    family: str = rows()[engine].get("family", "native")
    return family


@cache
def rows() -> dict[str, dict[str, Any]]:
    """Return every row of the catalogue by its id, as it stands in its file."""
    paths = sorted((settings().presets / "models").glob("*.toml"))
    found = [tomllib.loads(path.read_text("utf-8")) for path in paths]
    return {row["id"]: row for row in found}


def _card(row: dict[str, Any]) -> ModelCard:
    fields = {field.name for field in dataclasses.fields(ModelCard)}
    values = _tuples({key: value for key, value in row.items() if key in fields})
    values["parts"] = {name: _part(table) for name, table in row.get("parts", {}).items()}
    if "variants" in row:
        tasks = [task for variant in row["variants"] for task in variant["tasks"]]
        values["tasks"] = (*dict.fromkeys(tasks), "lora")
    values["memory"] = Memory(**_tuples(row.get("memory", {})))
    return ModelCard(**values)


def _part(table: dict[str, Any]) -> Part:
    """Return a part of a row; float32 is twice bfloat16, int8 as large as float8."""
    sizes = {name: round(gigabytes * 1e9) for name, gigabytes in table["gigabytes"].items()}
    sizes.setdefault("float32", 2 * sizes["bfloat16"])
    sizes["float16"] = sizes["bfloat16"]
    if "float8" in sizes:
        sizes["int8"] = sizes["float8"]
    stored = round(table["parameters"] * table["stored_bytes"])
    return Part(sizes, stored, table.get("blocks", 0), table.get("outside", 0.0))


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table with its lists as tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
