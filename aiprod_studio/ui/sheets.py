"""The sheets of the page: scripts, styles and whole pages that lie in files of their own."""

from __future__ import annotations

import re
from functools import cache

from aiprod_studio.settings import settings


@cache
def read_script(name: str) -> str:
    """Return a script, style sheet or page by its file name."""
    return (settings().assets / "ui" / name).read_text(encoding="utf-8")


def fill_page(name: str, parts: dict[str, str]) -> str:
    """Return a whole page with its gaps, names in braces, filled by `parts` as they are."""
    # Not str.format, as the style sheet is full of braces.
    return re.sub(r"\{(\w+)\}", lambda found: parts[found[1]], read_script(name))
