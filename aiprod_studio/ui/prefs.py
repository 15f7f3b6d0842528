"""Preferences: what a person chose once, kept for every start."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from aiprod_studio.media.files import write_bytes
from aiprod_studio.settings import settings


@dataclass(frozen=True)
class Prefs:
    """`language` is the code of the interface's language; empty means the system's."""

    language: str = ""


def load_prefs() -> Prefs:
    """Return the preferences; the usual ones where there are none that can be read."""
    try:
        return Prefs(**json.loads(_file().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Prefs()


def save_prefs(prefs: Prefs) -> None:
    """Keep the preferences; raises as `write_bytes`."""
    write_bytes(_file(), json.dumps(dataclasses.asdict(prefs)).encode())


def _file() -> Path:
    return settings().home / "preferences.json"
