"""Presets: named partial requests, one TOML file each."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiprod_studio.errors import BadRequest, StudioError
from aiprod_studio.settings import settings
from aiprod_studio.types import Request


@dataclass(frozen=True)
class Preset:
    """A named set of request values; what it leaves out stays as the engine likes it."""

    name: str
    description: str
    values: dict[str, Any]


def preset_files() -> dict[str, Path]:
    """Return every preset's file by name; a person's own win over those that are shipped."""
    folders = (settings().presets, settings().home / "presets")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def load_preset(name: str) -> Preset:
    """Return the preset called `name`; raises `BadRequest`, naming those that exist."""
    files = preset_files()
    if name not in files:
        raise BadRequest(
            f"There is no preset {name!r}. Use one of: {', '.join(sorted(files)) or 'none'}."
        )
    return read_preset(files[name])


def read_preset(path: Path) -> Preset:
    """Return the preset in a TOML file; raises `BadRequest` for unknown keys or bad values."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRequest(
            f"The preset {path.name} cannot be read ({error.strerror}). Check the file."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadRequest(
            f"The preset {path.name} is not valid TOML ({error}). Correct it or use another preset."
        ) from error
    description = values.pop("description", "")
    known = {field.name for field in dataclasses.fields(Request)} - {"prompt"}
    unknown = sorted(set(values) - known)
    if unknown:
        raise BadRequest(
            f"The preset {path.name} has an unknown key {', '.join(map(repr, unknown))}. "
            f"Use only: description, {', '.join(sorted(known))}."
        )
    try:
        Request(prompt="a preset", **values)
    except StudioError as error:
        raise BadRequest(f"The preset {path.name} is wrong: {error}") from error
    return Preset(path.stem, str(description), values)
