"""The words of the interface: one TOML file per language, the same keys in each."""

from __future__ import annotations

import locale
import os
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiprod_studio.settings import settings

LANGUAGES = {
    "en": "English",
    "de": "Deutsch",
    "es": "Español",
    "fr": "Français",
    "it": "Italiano",
    "pt": "Português",
    "ru": "Русский",
    "ar": "العربية",
    "hi": "हिन्दी",
    "zh": "简体中文",
    "ja": "日本語",
    "ko": "한국어",
}
"""Every language of the interface by its code, under its own name."""

RIGHT_TO_LEFT = frozenset({"ar"})


class Texts:
    """The texts of one language; called with a key, it returns the text with the values put in.

    What a language lacks is in English. `turned` are called when the language is another one.
    """

    def __init__(self, language: str) -> None:
        self.turned: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._speak(language)

    def turn(self, language: str) -> None:
        """Speak another language from now on."""
        with self._lock:
            if language != self.language:
                self._speak(language)
                for tell in self.turned:
                    tell()

    def _speak(self, language: str) -> None:
        self._texts = read_texts("en") | read_texts(language)
        self.language = language

    def __call__(self, key: str, **values: Any) -> str:
        """Return the text under `key`, such as "create.render"."""
        text = self._texts[key]
        if self.direction == "rtl":
            values = {name: _isolate(value) for name, value in values.items()}
        return text.format(**values) if values else text

    @property
    def direction(self) -> str:
        """The direction in which the language is written: ltr or rtl."""
        return "rtl" if self.language in RIGHT_TO_LEFT else "ltr"


def _isolate(value: Any) -> Any:
    """Return a value of several words marked as one, so that they keep their order in Arabic.

    What is one word, such as an address or a password, may be copied and stays as it is.
    """
    return f"\u2068{value}\u2069" if isinstance(value, str) and " " in value else value


def text_file(language: str) -> Path:
    """Return the file of a language."""
    return settings().assets / "ui" / "texts" / f"{language}.toml"


def read_texts(language: str) -> dict[str, str]:
    """Return every text of a language by its dotted key."""
    tables = tomllib.loads(text_file(language).read_text(encoding="utf-8"))
    return {f"{table}.{name}": text for table, row in tables.items() for name, text in row.items()}


def choose_language(wish: str = "") -> str:
    """Return the wished language, else the system's, else English."""
    system = os.environ.get("LC_ALL") or os.environ.get("LANG") or locale.getlocale()[0] or ""
    for code in (wish, system[:2].lower()):
        if code in LANGUAGES:
            return code
    return "en"
