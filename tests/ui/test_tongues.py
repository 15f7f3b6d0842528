"""Visitors read the studio in a language of their own."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any

import gradio as gr
import pytest
from gradio.context import LocalContext
from starlette.requests import Request

from aiprod_studio.ui.texts import LANGUAGES, Texts
from aiprod_studio.ui.tongues import COOKIE, VisitorTexts, asked_in, draw_choice, language_of


def scope(liked: str = "", cookie: str = "") -> dict[str, Any]:
    """Return the ASGI scope of a request from a browser with these languages and cookies."""
    told = {b"accept-language": liked, b"cookie": cookie}
    headers = [(name, value.encode()) for name, value in told.items() if value]
    return {"type": "http", "method": "GET", "path": "/", "headers": headers}


@pytest.mark.parametrize(
    ("liked", "language"),
    [
        ("", ""),
        ("de", "de"),
        ("pt-BR,pt;q=0.9,en;q=0.8", "pt"),
        ("en;q=0.5, fr;q=0.9", "fr"),
        ("fi, sv;q=0.9, it;q=0.1", "it"),
        ("fi", ""),
        ("zh-TW", "zh"),
        ("eng, den;q=1", ""),
        ("fr;q=0, ja;q=0.2", "ja"),
        ("*", ""),
        ("ru;q=many, ,;;,ar;q=0.1", "ar"),
        ("x" * 9000, ""),
    ],
)
def test_the_language_is_the_one_that_the_browser_likes_best(liked: str, language: str) -> None:
    assert language_of(scope(liked)) == language


def test_a_choice_goes_before_what_the_browser_says() -> None:
    assert language_of(scope("de", f"other=1; {COOKIE}=ko")) == "ko"
    assert language_of(scope("de", f"{COOKIE}=../../secret")) == "de"


def test_texts_are_in_the_language_of_whoever_asks_and_else_in_the_owners() -> None:
    owner = Texts("en")
    say = VisitorTexts(owner)
    assert say("tab.create") == "Create"
    with asked_in(scope("de")):
        assert (say("tab.create"), say.direction) == ("Erstellen", "ltr")
        with asked_in(scope("ar")):
            assert say.direction == "rtl"
        assert say.language == "de"
        assert owner("tab.create") == "Create"
    owner.turn("fr")
    assert say.language == "fr"
    with asked_in(scope("fi")):
        assert say.language == "fr"


def test_what_answers_an_event_speaks_the_language_of_its_request() -> None:
    say = VisitorTexts(Texts("en"))

    def answer(liked: str) -> str:
        LocalContext.request.set(gr.Request(Request(scope(liked))))
        return say("tab.create")

    told = [copy_context().run(answer, liked) for liked in ("de", "", "es")]
    assert told == ["Erstellen", "Create", "Crear"]


def test_the_choice_names_every_language_and_marks_the_own() -> None:
    drawn = draw_choice(Texts("ja"))
    assert all(name in drawn for name in LANGUAGES.values())
    assert drawn.count(" selected") == 1
    assert 'value="ja" lang="ja" selected' in drawn
