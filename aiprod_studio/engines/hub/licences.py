"""Which licences were accepted here, kept in the studio's data folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiprod_studio.engines.hub.errors import TermsNotAccepted
from aiprod_studio.engines.hub.source import Source
from aiprod_studio.media.files import write_bytes
from aiprod_studio.settings import settings


def is_accepted(source: Source) -> bool:
    """Say whether the engine's licence needs no acceptance or was accepted here before."""
    return not source.licence.accept or source.licence.name in _accepted().get(source.engine, {})


def accept(source: Source) -> None:
    """Note, with the time, that the user has accepted the engine's licence."""
    notes = _accepted()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    notes.setdefault(source.engine, {}).setdefault(source.licence.name, now)
    write_bytes(_path(), json.dumps(notes, indent=2).encode())


def require(source: Source) -> None:
    """Raise `TermsNotAccepted`, with the terms, unless the engine's licence is accepted."""
    if is_accepted(source):
        return
    terms = source.licence
    raise TermsNotAccepted(
        f"{source.name} comes under the {terms.name}. {terms.allows} Read it at {terms.page} and "
        f"run 'aiprod-studio models download {source.engine} --accept-licence'."
    )


def _path() -> Path:
    return settings().home / "licences.json"


def _accepted() -> dict[str, Any]:
    try:
        notes = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}
