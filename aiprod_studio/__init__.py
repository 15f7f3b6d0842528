"""AIPROD Studio: a prompt in any language becomes a video with sound, on your own machine."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["Clip", "Request", "Studio", "StudioError", "__version__"]

_HOMES = {"Clip": "media.clip", "Request": "types", "Studio": "studio", "StudioError": "errors"}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import aiprod_studio` stays fast."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
