"""The words of the interface: complete in every language, and none that the code lacks."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

import aiprod_studio.ui
from aiprod_studio.engines.catalog import rows
from aiprod_studio.settings import settings
from aiprod_studio.ui.texts import LANGUAGES, Texts, choose_language, read_texts, text_file

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


def test_there_are_many_languages_and_no_file_is_left_out() -> None:
    assert len(LANGUAGES) >= 12
    assert {path.stem for path in text_file("en").parent.glob("*.toml")} == LANGUAGES.keys()


def test_every_text_that_the_page_asks_for_exists() -> None:
    asked = set(re.findall(r'say\(\s*"([\w.]+)"', CODE))
    assert len(asked) > 50
    tasks = {
        task
        for row in rows().values()
        for part in row.get("variants", ())
        for task in part["tasks"]
    }
    assert asked | {f"task.{task}" for task in tasks} <= ENGLISH.keys()


def test_the_language_is_chosen_and_has_a_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_AT.UTF-8")
    assert choose_language() == "de"
    assert choose_language("fr") == "fr"
    assert choose_language("xx") == "de"
    monkeypatch.setenv("LC_ALL", "C")
    assert choose_language() == "en"
    assert Texts("ar").direction == "rtl"
    assert Texts("en")("board.seed", seed=5) == "Seed 5"


def test_another_language_is_spoken_at_once_and_told() -> None:
    say, heard = Texts("en"), []
    say.turned.append(lambda: heard.append(say("tab.create")))
    say.turn("de")
    assert heard == ["Erstellen"]
    assert say.language == "de"


def test_what_a_language_lacks_is_english(tmp_path: Path) -> None:
    folder = tmp_path / "assets" / "ui" / "texts"
    folder.mkdir(parents=True)
    (folder / "en.toml").write_text('[tab]\ncreate = "Create"\nlibrary = "Library"\n', "utf-8")
    (folder / "de.toml").write_text('[tab]\ncreate = "Erstellen"\n', "utf-8")
    object.__setattr__(settings(), "assets", tmp_path / "assets")
    assert [Texts("de")(f"tab.{name}") for name in ("create", "library")] == [
        "Erstellen",
        "Library",
    ]


def test_values_of_several_words_keep_their_order_in_arabic() -> None:
    assert "\u206846 min 35 s\u2069" in Texts("ar")("board.left", time="46 min 35 s")
    assert Texts("ar")("share.password", password="abc-def").endswith("abc-def")
    assert Texts("en")("board.left", time="46 min 35 s") == "46 min 35 s left"
