"""Models: what can render here, what it costs and allows, and its weights on this disk."""

from __future__ import annotations

import dataclasses
from html import escape
from typing import Any

import gradio as gr

from aiprod_studio.engines.hub.choices import choose_folder, forget_token, keep_token
from aiprod_studio.engines.hub.pace import Manners
from aiprod_studio.engines.hub.source import Source, Variant, sources
from aiprod_studio.engines.hub.survey import free_bytes, gigabytes, survey, this_hub
from aiprod_studio.errors import BadRequest
from aiprod_studio.ui.bench import ASKED, STEADY, Bench, Page, html_block
from aiprod_studio.ui.cards import NAME
from aiprod_studio.ui.offers import draw_offers, list_offers
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.theme import read_script
from aiprod_studio.ui.weights import Ware

REFRESH_SECONDS = 1.0
# A person waits for the answer.
BRISK = Manners(tries=2, pause_seconds=0.5)


def build(bench: Bench, page: Page) -> None:
    """Lay out the tab and connect it."""
    shelf = html_block("as-models", script=read_script("wire.js"))
    with gr.Row(elem_classes="as-columns"):
        with gr.Column(scale=6, min_width=320, elem_classes="as-panel"):
            folder = _lay_folder(bench, page)
        with gr.Column(scale=6, min_width=320, elem_classes="as-panel"):
            told = _lay_token(bench)
    _connect_offers(bench, page, shelf, folder, told)


def _connect_offers(bench: Bench, page: Page, shelf: gr.HTML, folder: Any, told: gr.HTML) -> None:
    """Show the offers, now and as they change, and let their buttons work."""
    # None until the tab is opened: a page that does not show the offers asks for nothing.
    seen = gr.State(None)

    def draw() -> list[Any]:
        version = bench.weights.version
        return [draw_offers(list_offers(bench), bench.say), version]

    def enter() -> list[Any]:
        return [*draw(), str(this_hub().cache), _tell_token(bench.say)]

    def refresh(last: int | None) -> Any:
        return gr.skip() if last in (None, bench.weights.version) else draw()

    def press(event: gr.EventData) -> list[Any]:
        weights, ware = bench.weights, Ware.parse(event.id)
        if event.do == "remove":
            size = gigabytes(weights.remove(ware))
            gr.Info(bench.say("models.freed", size=size), title=NAME, duration=4)
        elif event.do == "accept":
            weights.get(ware, accepted=True)
        else:
            does = {
                "ask": weights.ask,
                "get": weights.get,
                "check": weights.check,
                "repair": weights.repair,
                "stop": weights.stop,
            }
            does[event.do](ware)
        return draw()

    shown = [shelf, seen]
    page.tab.select(bench.told(enter), None, [*shown, folder, told], **ASKED)
    shelf.select(bench.told(press), None, shown, **ASKED)
    folder.submit(bench.told(draw), None, shown, **ASKED)
    gr.Timer(REFRESH_SECONDS).tick(bench.told(refresh), seen, shown, **STEADY)


def _lay_folder(bench: Bench, page: Page) -> gr.Textbox:
    """Lay out the choice of the folder where weights go, and return it."""
    say = bench.say
    folder = gr.Textbox(
        label=say("models.folder"), info=say("models.folder_hint"), elem_id="as-folder"
    )
    with gr.Row(elem_classes="as-go"):
        use = gr.Button(say("models.folder_use"), min_width=140)
        usual = gr.Button(say("models.folder_usual"), min_width=140)

    def keep(path: str) -> str:
        if bench.weights.busy:
            raise BadRequest(say("models.folder_busy"))
        choose_folder(path)
        cache = this_hub().cache
        free = gigabytes(free_bytes(cache))
        kept = say("models.folder_kept", folder=cache, free=free)
        gr.Info(escape(kept), title=NAME, duration=6)
        bench.weights.version += 1
        return str(cache)

    gr.on([use.click, folder.submit], bench.told(keep), folder, folder, **ASKED)
    usual.click(bench.told(lambda: keep("")), None, folder, **ASKED)
    return folder
