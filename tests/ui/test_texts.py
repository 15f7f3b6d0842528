"""The words of the interface: complete in every language, and none that the code lacks."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

import aiprod_studio.ui
from aiprod_studio.ui.texts import LANGUAGES, Texts, choose_language, read_texts

ENGLISH = read_texts("en")
CODE = "".join(
    path.read_text(encoding="utf-8") for path in Path(aiprod_studio.ui.__path__[0]).rglob("*.py")
)


def names(text: str) -> set[str]:
    """Return the names in braces of a text."""
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_everything(language: str) -> None:
    texts = read_texts(language)
    assert texts.keys() == ENGLISH.keys()
    for key, text in texts.items():
        assert text.strip(), key
        assert names(text) == names(ENGLISH[key]), f"{language} {key}"


def test_every_text_that_the_page_asks_for_exists() -> None:
    asked = set(re.findall(r'say\(\s*"([\w.]+)"', CODE))
    assert len(asked) > 50
    assert asked <= ENGLISH.keys()


def test_the_language_is_chosen_and_has_a_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_AT.UTF-8")
    assert choose_language() == "de"
    assert choose_language("fr") == "fr"
    assert choose_language("xx") == "de"
    monkeypatch.setenv("LC_ALL", "C")
    assert choose_language() == "en"
    assert Texts("ar").direction == "rtl"
    assert Texts("en")("board.seed", seed=5) == "Seed 5"
