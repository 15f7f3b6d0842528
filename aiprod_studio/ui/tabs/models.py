"""Models: what can render here, what it costs and allows, and its weights on this disk."""

from __future__ import annotations

import dataclasses
from html import escape
from typing import Any

import gradio as gr

from aiprod_studio.engines.hub.choices import choose_folder, forget_token, keep_token
from aiprod_studio.engines.hub.errors import BadToken
from aiprod_studio.engines.hub.pace import Manners
from aiprod_studio.engines.hub.source import sources
from aiprod_studio.engines.hub.survey import gigabytes, survey, this_hub
from aiprod_studio.errors import BadRequest
from aiprod_studio.ui.bench import ASKED, STEADY, Bench, Page, html_block
from aiprod_studio.ui.cards import NAME
from aiprod_studio.ui.offers import draw_offers, list_offers
from aiprod_studio.ui.sheets import read_script
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.weights import Ware

REFRESH_SECONDS = 1.0
# A person waits for the answer.
BRISK = Manners(tries=2, pause_seconds=0.5)


def build(bench: Bench, page: Page) -> None:
    """Lay out the tab and connect it."""
    shelf = html_block("as-models", script=read_script("wire.js"))
    with gr.Row(elem_classes="as-columns as-even"):
        with gr.Column(scale=6, min_width=320, elem_classes="as-panel"):
            folder = _lay_folder(bench)
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
    gr.Timer(REFRESH_SECONDS).tick(bench.told(refresh), seen, shown, **STEADY)


def _lay_folder(bench: Bench) -> gr.Textbox:
    """Lay out the choice of the folder where weights go, and return it."""
    say = bench.say
    folder = gr.Textbox(
        label=say("models.folder"), info=say("models.folder_hint"), elem_id="as-folder"
    )
    with gr.Row(elem_classes="as-choice"):
        use = gr.Button(say("models.folder_use"), size="sm", min_width=140)
        usual = gr.Button(say("models.folder_usual"), size="sm", min_width=140)

    def keep(path: str) -> str:
        if bench.weights.busy:
            raise BadRequest(say("models.folder_busy"))
        choose_folder(path)
        bench.weights.changed()
        hub = this_hub()
        kept = say("models.folder_kept", folder=hub.cache, free=gigabytes(hub.free_bytes))
        gr.Info(escape(kept), title=NAME, duration=6)
        return str(hub.cache)

    gr.on([use.click, folder.submit], bench.told(keep), folder, folder, **ASKED)
    usual.click(bench.told(lambda: keep("")), None, folder, **ASKED)
    return folder


def _lay_token(bench: Bench) -> gr.HTML:
    """Lay out the token for gated models, and return the line that says whether there is one."""
    say = bench.say
    token = gr.Textbox(
        label=say("models.token"),
        info=say("models.token_hint"),
        type="password",
        elem_id="as-token",
        html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
    )
    told = html_block("as-token-told")
    with gr.Row(elem_classes="as-choice"):
        keep = gr.Button(say("models.token_keep"), size="sm", min_width=140)
        forget = gr.Button(say("models.token_forget"), size="sm", min_width=140)

    def test_and_keep(text: str) -> list[str]:
        if not text.strip():
            raise BadRequest(say("models.token_missing"))
        found = try_token(text.strip(), say)
        keep_token(text.strip())
        bench.weights.changed()
        return ["", _note(*found, say("models.token_here"))]

    def drop() -> list[str]:
        forget_token()
        bench.weights.changed()
        return ["", _tell_token(say)]

    gr.on([keep.click, token.submit], bench.told(test_and_keep), token, [token, told], **ASKED)
    forget.click(bench.told(drop), None, [token, told], **ASKED)
    return told


def try_token(token: str, say: Texts) -> list[str]:
    """Return what a token opens, a sentence for each gated model.

    Raises `BadRequest` when the Hub refuses it, and as `survey`.
    """
    hub = dataclasses.replace(this_hub(), token=token)
    found = []
    for source in sources().values():
        for variant in filter(lambda one: one.gated, source.variants):
            try:
                seen = survey(source, variant, hub, update=True, manners=BRISK)
            except BadToken as error:
                raise BadRequest(say("models.token_bad")) from error
            # Of what is open to everybody, the survey is made without the token if need be.
            if seen.hub.token is None:
                raise BadRequest(say("models.token_bad"))
            key = "token_terms" if seen.access == "not accepted" else "token_opens"
            page = f"{hub.endpoint}/{variant.repo}"
            found.append(say(f"models.{key}", name=f"{source.name} {variant.name}", page=page))
    return found


def _tell_token(say: Texts) -> str:
    return _note(say("models.token_here" if this_hub().token else "models.token_none"))


def _note(*sentences: str) -> str:
    told = " ".join(map(escape, sentences))
    return f'<p class="as-note" role="status">{told}</p>'
