"""The words of the interface: complete in every language, and none that the code lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from types import ModuleType

import pytest

import aiprod_studio
import aiprod_studio.ui
from aiprod_studio.engines.catalog import cards, rows
from aiprod_studio.errors import BadRequest, DoesNotFit
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.sentences import Said
from aiprod_studio.settings import settings
from aiprod_studio.types import Request
from aiprod_studio.ui.texts import LANGUAGES, Texts, choose_language, read_texts, text_file

ENGLISH, GERMAN = read_texts("en"), read_texts("de")


def read_code(package: ModuleType) -> str:
    """Return the source of a package."""
    files = Path(package.__path__[0]).rglob("*.py")
    return "".join(path.read_text(encoding="utf-8") for path in files)


CODE = read_code(aiprod_studio.ui)
# The code says them in English; a page that says them otherwise has them in its file.
SAID = set(re.findall(r'"(said\.\w+)"', read_code(aiprod_studio)))


def names(text: str) -> set[str]:
    """Return the names in braces of a text."""
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_everything(language: str) -> None:
    texts = read_texts(language)
    assert texts.keys() == ENGLISH.keys() | (set() if language == "en" else SAID)
    for key, text in texts.items():
        assert text.strip(), key
        assert names(text) == names(ENGLISH.get(key) or GERMAN[key]), f"{language} {key}"


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


def test_another_language_is_spoken_at_once() -> None:
    say = Texts("en")
    say.turn("de")
    assert say("tab.create") == "Erstellen"
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


def planned() -> Iterator[str]:
    """Yield what the planner says of every engine on machines from none to many GPUs' memory."""
    for card in cards().values():
        for machine in (imagine(gpu, 32) for gpu in (0, 6, 12, 24, 80)):
            for asked in (Request("a", card.id), Request("a", card.id, width=2048, height=2048)):
                try:
                    yield from choose_plan(machine, card, asked).because
                except (BadRequest, DoesNotFit) as error:
                    yield str(error)
    for wrong in ({"prompt": ""}, {"steps": 500}, {"width": 3}, {"prompt": "a" * 3000}):
        with pytest.raises(BadRequest) as caught:
            Request(**{"prompt": "a", **wrong})
        yield str(caught.value)


def test_what_the_planner_says_is_said_in_every_language() -> None:
    told = {said.key: said for said in planned() if isinstance(said, Said)}
    assert len(told) > 15
    for language in LANGUAGES:
        say = Texts(language)
        for said in told.values():
            assert (say.tell(said) == said) == (language == "en"), f"{language} {said}"


def test_a_sentence_without_a_text_stays_english_and_its_parts_are_told() -> None:
    say = Texts("de")
    assert say.tell("no sentence of ours") == "no sentence of ours"
    assert say.tell(Said("said.unknown", "{count} clips", count=2)) == "2 clips"
    assert say.tell(Said("said.crashed", "It died {often}.", often="twice")) == "It died twice."
    name = Said("field.steps", "steps")
    told = Said("said.whole", "{name} is {value:g}; give a whole number.", name=name, value=2.5)
    assert say.tell(told) == "Schritte ist 2.5; gib eine ganze Zahl an."
