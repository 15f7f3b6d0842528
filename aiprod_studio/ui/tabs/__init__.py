"""The tabs: one file each. To add one, write its file and name it here."""

from __future__ import annotations

from collections.abc import Callable

from aiprod_studio.ui.bench import Bench, Page
from aiprod_studio.ui.tabs import create, library, models, system

TABS: dict[str, Callable[[Bench, Page], None]] = {
    "create": create.build,
    "library": library.build,
    "models": models.build,
    "system": system.build,
}
"""What builds each tab, by its id; the text "tab.<id>" is its name."""
