"""The wording of the page: described in each language, and told to each in the one they read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import gradio as gr

from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.theme import build_head

_LAYOUT = threading.RLock()
"""Gradio lays out one page at a time in a process."""


class Worded(gr.Blocks):  # type: ignore[misc]  # Gradio has no types
    """A page whose description is in the language that `say` speaks when it is asked for.

    `build` lays the same page out anew, of which only the words are taken: what answers the events
    stays, and asks `say` each time for its own.
    """

    def __init__(self, say: Texts, build: Callable[[], gr.Blocks], **options: Any) -> None:
        self._say = say
        self._build = build
        self._first = say.language
        self._described: dict[str, Any] = {}
        super().__init__(**options)

    @property
    def config(self) -> Any:
        """What the page's own program is told of it, in the language of whoever asks."""
        with _LAYOUT:
            language = self._say.language
            if language not in self._described:
                self._described[language] = self._describe()
            return self._described[language]

    @config.setter
    def config(self, described: Any) -> None:
        self._described = {self._first: described}

    def _describe(self) -> Any:
        first = self._described[self._first]
        fresh = self._build().get_config_file()["components"]
        components = [
            {**old, "props": new["props"]}
            for old, new in zip(first["components"], fresh, strict=True)
        ]
        return {**first, "components": components, "head": build_head(self._say)}
