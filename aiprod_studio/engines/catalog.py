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

# What the id of an engine begins with that is any repository of the Hub.
HUB = "hub:"


@cache
def cards() -> dict[str, ModelCard]:
    """Return every engine's card by its id."""
    found = [_card(row) for row in rows().values()]
    tasks = dict.fromkeys(task for card in found for task in card.tasks)
    able = {task: tuple(card.id for card in found if task in card.tasks) for task in tasks}
    return {card.id: dataclasses.replace(card, others=able) for card in found}


def find_card(engine: str) -> ModelCard:
    """Return the card of an engine; `BadRequest` names those that there are.

    That of "hub:owner/name" is made of what is on this disk; raises as `find_folder` for it.
    """
    if engine.startswith(HUB):
        from aiprod_studio.engines.hub.repo import repo_card

        return dataclasses.replace(repo_card(engine), others=cards()["starter"].others)
    return listed_card(engine)


def listed_card(engine: str) -> ModelCard:
    """Return the card of an engine that the studio lists itself; else as `find_card` raises."""
    if engine not in cards():
        known = ", ".join(sorted(cards()))
        raise BadRequest(f"The engine '{engine}' does not exist. Choose one of: {known}.")
    return cards()[engine]


def find_engine(engine: str) -> Engine:
    """Return the engine of that id, not loaded; `BadRequest` names the known ones.

    Its `load` raises `ModelUnavailable` where weights that must be downloaded are not on this
    disk, and `TermsNotAccepted` where their licence must be accepted first.
    """
    card = find_card(engine)
    family = HUB if engine.startswith(HUB) else rows()[engine].get("family", "native")
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
        gguf = rows()[engine].get("gguf", False)
        return WanEngine(card, find_folder, second / card.default_guidance, gguf)
    if family == "ltx":
        from aiprod_studio.engines.ltx import LTXEngine

        return LTXEngine(card, find_folder)
    from aiprod_studio.engines.ltx2 import LTX2Engine

    return LTX2Engine(card, find_folder)


def bundled_bytes(engine: str) -> int:
    """Return the bytes of the weights that come with the studio, all their files together."""
    bundle = settings().assets / Path(rows()[engine]["bundle"])
    files = bundle.parent.glob(f"{bundle.stem}*{bundle.suffix}")
    return sum(file.stat().st_size for file in files)


def _folder(engine: str, task: str) -> Path:
    """Return the folder of downloaded weights."""
    from aiprod_studio.engines.hub.folders import find_folder  # which needs this module

    return find_folder(engine, task)


@cache
def rows() -> dict[str, dict[str, Any]]:
    """Return every row of the catalogue by its id, as it stands in its file.

    One that is `like` another has what it does not say itself from there, but for `default_gb`.
    """
    paths = sorted((settings().presets / "models").glob("*.toml"))
    found = {row["id"]: row for row in (tomllib.loads(path.read_text("utf-8")) for path in paths)}
    return {
        name: _like(row, found[row["like"]]) if "like" in row else row
        for name, row in found.items()
    }


def _like(row: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return a row with what only the other one says, table by table."""
    inherited = {key: value for key, value in other.items() if key != "default_gb"}
    joined = {
        key: {**other[key], **value}
        for key, value in row.items()
        if isinstance(value, dict) and key in other
    }
    return {**inherited, **row, **joined}


def _card(row: dict[str, Any]) -> ModelCard:
    fields = {field.name for field in dataclasses.fields(ModelCard)}
    values = _tuples({key: value for key, value in row.items() if key in fields})
    values["parts"] = {name: _part(table) for name, table in row.get("parts", {}).items()}
    if "variants" in row:
        tasks = [task for variant in row["variants"] for task in variant["tasks"]]
        values["tasks"] = (*dict.fromkeys(tasks), "lora", "cache")
    values["memory"] = Memory(**_tuples(row.get("memory", {})))
    values["refine_steps"] = len(row.get("recipe", {}).get("refine", ()))
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
