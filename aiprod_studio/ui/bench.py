"""The bench: everything that the tabs work with, passed whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any, ParamSpec

import gradio as gr

from aiprod_studio.errors import StudioError
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.library.gallery import Gallery
from aiprod_studio.settings import settings
from aiprod_studio.ui.form import Form
from aiprod_studio.ui.limits import Limits
from aiprod_studio.ui.machine import Machine
from aiprod_studio.ui.renderer import Renderer
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.weights import Weights

log = logging.getLogger(__name__)
Inputs = ParamSpec("Inputs")

ASKED: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""How what a person does is connected: no spinner over the page, no name in an API."""

FORMED: dict[str, Any] = {**ASKED, "preprocess": False}
"""How the form is sent: as it is, since Gradio's own words for what is wrong in it name no field,
and say nothing at all of a picture that cannot be read."""

STEADY: dict[str, Any] = {**ASKED, "queue": False}
"""How what happens by itself is connected: at once, as nothing it does can need a message."""


@dataclass(frozen=True)
class Bench:
    """The queue, the gallery, the machine, the worker process, the words, the engines' weights.

    `home` is the folder of the form and of the pictures that jobs need, `uploads` that of what the
    page sends. The bench of a shared page has `guests`, which finds the bench of each visitor, and
    `limits`, which hold for each of them.
    """

    queue: Queue
    gallery: Gallery
    machine: Machine
    renderer: Renderer
    say: Texts
    weights: Weights = field(default_factory=Weights)
    home: Path = field(default_factory=lambda: settings().home)
    uploads: Path = field(default_factory=lambda: settings().home / "uploads")
    guests: Callable[[str], Bench] | None = None
    limits: Limits | None = None

    @property
    def shared(self) -> bool:
        """Whether visitors see this page, and not the owner of the machine."""
        return self.guests is not None

    def asked_by(self, request: gr.Request) -> Bench:
        """Return the bench of whoever sent an event: the visitor's own, or else this one."""
        return self if self.guests is None else self.of(request.request.scope)

    def of(self, scope: Mapping[str, Any]) -> Bench:
        """Return the bench of whoever sent a request, by its ASGI scope."""
        return self if self.guests is None else self.guests(scope["visitor"])

    def told(self, answer: Callable[Inputs, Any]) -> Callable[Inputs, Any]:
        """Wrap what answers an `ASKED` event: an error becomes a sentence on the page."""

        @wraps(answer)
        def guarded(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Any:
            try:
                return answer(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - the boundary: a traceback is for the log
                gr.Warning(escape(self.explain(error)), title=self.say("error.title"))
            return gr.skip()

        return guarded

    def explain(self, error: Exception) -> str:
        """Return an error as a sentence; one that was not foreseen goes to the log."""
        if isinstance(error, StudioError):
            return self.say.tell(str(error))
        log.error("the page failed", exc_info=error)
        return self.say("share.unforeseen" if self.shared else "error.unforeseen")


@dataclass
class Page:
    """The page around a tab while it is built: its own `tab`, all `tabs`, its `head`.

    `form` are the components of the form in the order of its fields, and `fill` returns the
    updates that put a form there for whoever has the bench; the tab Create sets both.
    """

    blocks: gr.Blocks
    tabs: gr.Tabs
    head: gr.HTML
    tab: Any = None
    form: list[Any] = field(default_factory=list)
    fill: Callable[[Form, Bench], list[Any]] = field(default=lambda _form, _bench: [])


def html_block(name: str, value: str = "", script: str | None = None) -> gr.HTML:
    """Return a block of HTML called `name`; `script` runs once, when the page shows it first."""
    return gr.HTML(value, elem_id=name, js_on_load=script, apply_default_css=False, padding=False)
