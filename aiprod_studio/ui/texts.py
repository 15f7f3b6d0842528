"""The words of the interface: one TOML file per language, the same keys in each."""

from __future__ import annotations

import locale
import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from aiprod_studio.sentences import Said
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

    What a language lacks is in English.
    """

    def __init__(self, language: str) -> None:
        self._language = language

    @property
    def language(self) -> str:
        """The code of the language."""
        return self._language

    def turn(self, language: str) -> None:
        """Speak another language from now on."""
        self._language = language

    def __call__(self, key: str, **values: Any) -> str:
        """Return the text under `key`, such as "create.render"."""
        text = self._texts[key]
        if self.direction == "rtl":
            values = {name: _isolate(value) for name, value in values.items()}
        return text.format(**values) if values else text

    def tell(self, sentence: str) -> str:
        """Return a sentence of the studio; in English where this language has no other."""
        if not isinstance(sentence, Said) or sentence.key not in self._texts:
            return sentence
        values = {
            name: self.tell(value) if isinstance(value, Said) else value
            for name, value in sentence.values.items()
        }
        try:
            return self(sentence.key, **values)
        except (LookupError, ValueError):  # another version kept it, with values of its own
            return sentence

    @property
    def direction(self) -> str:
        """The direction in which the language is written: ltr or rtl."""
        return "rtl" if self.language in RIGHT_TO_LEFT else "ltr"

    @property
    def _texts(self) -> dict[str, str]:
        return _merge(text_file("en"), text_file(self.language))


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
    return _read(text_file(language))


def _read(file: Path) -> dict[str, str]:
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    return {f"{table}.{name}": text for table, row in tables.items() for name, text in row.items()}


@cache
def _merge(english: Path, own: Path) -> dict[str, str]:
    """Return the texts of a language, in English where it has none."""
    return _read(english) | _read(own)


def choose_language(wish: str = "") -> str:
    """Return the wished language, else the system's, else English."""
    system = os.environ.get("LC_ALL") or os.environ.get("LANG") or locale.getlocale()[0] or ""
    for code in (wish, system[:2].lower()):
        if code in LANGUAGES:
            return code
    return "en"
