"""The tongues of visitors: each reads the studio in a language of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from typing import Any

from gradio.context import LocalContext
from starlette.requests import Request

from aiprod_studio.ui.texts import LANGUAGES, Texts

COOKIE = "aiprod-language"
"""The cookie that the page's script keeps a visitor's choice in."""

_ASKED: ContextVar[str] = ContextVar("language", default="")


class VisitorTexts(Texts):
    """The texts in the language of whoever asks just now, else in the owner's."""

    def __init__(self, owner: Texts) -> None:
        self._owner = owner

    @property
    def language(self) -> str:
        """The code of the language."""
        # What answers an event runs outside of the request that brought it.
        event = LocalContext.request.get(None)
        asked = language_of(event.request.scope) if event is not None else _ASKED.get()
        return asked or self._owner.language


@contextmanager
def asked_in(scope: Mapping[str, Any]) -> Iterator[None]:
    """Let visitors' texts be in the language of a request, by its ASGI scope."""
    token = _ASKED.set(language_of(scope))
    try:
        yield
    finally:
        _ASKED.reset(token)


def language_of(scope: Mapping[str, Any]) -> str:
    """Return the language that a request chose or that its browser likes best, else nothing."""
    request = Request(dict(scope))
    chosen = request.cookies.get(COOKIE, "")
    liked = [chosen, *_ranked(request.headers.get("accept-language", ""))]
    return next((code for code in liked if code in LANGUAGES), "")


def _ranked(told: str) -> Iterable[str]:
    """Return the languages of an Accept-Language header without their regions, the best first."""
    found = []
    for part in told.split(","):
        tag, _, rest = part.partition(";")
        try:
            weight = float(rest.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if weight > 0:
            found.append((weight, tag.strip()[:2].lower() if tag.strip()[2:3] in ("", "-") else ""))
    return [code for _, code in sorted(found, key=lambda pair: -pair[0])]


def draw_choice(say: Texts) -> str:
    """Return the list of languages, each under its own name; the page's script keeps the choice."""
    options = "".join(
        f'<option value="{code}" lang="{code}"{" selected" if code == say.language else ""}>'
        f"{name}</option>"
        for code, name in LANGUAGES.items()
    )
    label = escape(say("system.language"))
    return (
        f'<select class="as-button as-quiet" data-language="{COOKIE}" aria-label="{label}">'
        f"{options}</select>"
    )
