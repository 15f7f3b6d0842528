"""Create: say what the clip shows, see whether it fits, render it, and watch it come to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from aiprod_studio.engines.catalog import cards, find_card
from aiprod_studio.errors import BadRequest, MediaError
from aiprod_studio.library.provenance import PICTURES, find_files, read_request
from aiprod_studio.media.images import read_image
from aiprod_studio.media.video import probe
from aiprod_studio.sentences import Said
from aiprod_studio.types import Request
from aiprod_studio.ui.bench import ASKED, FORMED, STEADY, Bench, Page, html_block
from aiprod_studio.ui.board import act, look, predict, queue_clip
from aiprod_studio.ui.cards import NAME, draw_board, draw_head, draw_plan, draw_trouble
from aiprod_studio.ui.drafts import queue_drafts
from aiprod_studio.ui.fields import NAMES, fit_fields, lay_form
from aiprod_studio.ui.form import (
    FILES,
    FORM,
    MOST_DRAFTS,
    Form,
    from_request,
    keep_file,
    load_form,
    longest_seconds,
    save_form,
)
from aiprod_studio.ui.media import locate_absolute
from aiprod_studio.ui.sheets import read_script
from aiprod_studio.ui.verdict import Verdict, judge
from aiprod_studio.ui.visitors import show_picture

REFRESH_SECONDS = 1.0
_CHECKS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "image": ("The first picture", read_image),
    "last_image": ("The last picture", read_image),
    "reference": ("The reference clip", probe),
}
"""What the form calls a picture or clip, and how it is read."""


def build(bench: Bench, page: Page) -> None:
    """Lay out the tab and connect it."""
    with gr.Row(elem_classes="as-columns"):
        with gr.Column(scale=5, min_width=320, elem_classes="as-panel"):
            form = lay_form(bench.say)
            plan = html_block("as-plan")
            with gr.Row(elem_classes="as-go"):
                render = gr.Button(
                    bench.say("create.render"), variant="primary", elem_id="as-render"
                )
                drafts = gr.Button(bench.say("create.drafts", count=4), elem_id="as-drafts")
            html_block("as-keys", f'<p class="as-hint">{bench.say("create.keys")}</p>')
        with gr.Column(scale=7, min_width=320):
            script = read_script("wire.js") + read_script("drop.js")
            board = html_block("as-board", script=script)
    page.form = list(form.values())
    page.fill = _fill
    _connect_form(bench, page, form, plan, drafts)
    _connect_board(bench, page, board, render, drafts)


def _fill(form: Form, bench: Bench) -> list[Any]:
    """Return the updates that put `form` on the page, in the order of its fields."""
    files: dict[str, Any] = {name: _find_file(getattr(form, name), bench) for name in FILES}
    form = dataclasses.replace(form, **files)
    card = cards().get(form.engine) or find_card(Form().engine)
    updates: dict[str, Any] = {name: gr.update(value=getattr(form, name)) for name in NAMES}
    most = longest_seconds(card)
    updates["prompt"] = gr.update(value=form.prompt, interactive=True)
    updates["engine"] = gr.update(value=card.id)
    updates["seconds"] = gr.update(
        maximum=most, value=min(form.seconds or card.default_seconds, most)
    )
    # What the engine cannot do wins over what the form says.
    for name, fitting in fit_fields(card, form.mode, form.refined, bench).items():
        updates[name] = updates[name] | fitting
    return list(updates.values())


def _find_file(file: str | None, bench: Bench) -> str | None:
    """Return a picture or clip as the page may be sent it; None for what is not the studio's.

    Settings may come from anywhere, and so may the paths in them.
    """
    if bench.shared:
        return show_picture(bench, file)
    kept = bench.home / PICTURES
    for root in (kept, bench.gallery.outputs):
        found = locate_absolute(root, file or "")
        if found is not None:
            return keep_file(str(found), kept)
    return None


def _read(values: tuple[Any, ...], home: Path) -> Form:
    """Return the form that was sent as `FORMED`; its files are kept below `home`."""
    sent = dict(zip(NAMES, values, strict=True))
    files = {
        name: keep_file(sent[name]["path"], home / PICTURES) if sent[name] else None
        for name in FILES
    }
    texts = {name: sent[name] or "" for name in ("prompt", "size", "loras", "cache")}
    drafts = min(max(int(sent["drafts"] or 1), 1), MOST_DRAFTS)
    return Form(**{**sent, **files, **texts, "drafts": drafts})


def _ask(form: Form, own: Bench) -> Request:
    """Return the request that a form stands for.

    Raises `BadRequest` for what no engine can render, for a visitor's LoRAs, and for a picture or
    reference that cannot be read.
    """
    request = form.to_request()
    if own.limits is not None:
        own.limits.check_own(request)
    for name in _CHECKS:
        file = getattr(request, name)
        if file is not None:
            _check_file(name, Path(file))
    return request


@lru_cache(maxsize=64)
def _check_file(name: str, file: Path) -> None:
    """Raise `BadRequest` for a file of the form that cannot be read.

    What was read once is not read at every key again, as a file is kept by its content.
    """
    label, check = _CHECKS[name]
    try:
        check(file)
    except MediaError as error:
        # Its owner does not know it by that name.
        why = str(error).replace(file.name, "it")
        told = "{name} cannot be used: {why}"
        called = Said(f"field.{name}", label)
        raise BadRequest(Said("said.no_file", told, name=called, why=why)) from error


def _connect_form(
    bench: Bench, page: Page, form: dict[str, Any], plan: gr.HTML, drafts: gr.Button
) -> None:
    """Keep the form, and keep the plan card true, whatever changes."""

    def weigh(request: gr.Request, *values: Any) -> list[Any]:
        own = bench.asked_by(request)
        wanted = _read(values, own.home)
        save_form(wanted, own.home / FORM)
        label = bench.say("create.drafts", count=wanted.drafts)
        try:
            # The card is about the settings; a prompt that is yet to be written is no problem.
            filled = dataclasses.replace(wanted, prompt=wanted.prompt.strip() or "…")
            verdict = judge(_ask(filled, own), bench.machine.hardware, bench.queue)
        except BadRequest as error:
            verdict = Verdict("wrong", reasons=(str(error),))
        return [draw_plan(verdict, bench.say), gr.update(value=label)]

    def restore(request: gr.Request) -> list[Any]:
        own = bench.asked_by(request)
        return _fill(load_form(own.home / FORM), own)

    # The head changes when the machine becomes known, and with it the verdict.
    gr.on(
        [component.change for component in (*page.form, page.head)],
        bench.told(weigh),
        page.form,
        [plan, drafts],
        trigger_mode="always_last",
        **FORMED,
    )
    _connect_engine(bench, form)
    page.blocks.load(bench.told(restore), None, page.form, **ASKED).then(
        None, js="() => document.querySelector('#as-prompt textarea').focus()"
    ).then(bench.told(weigh), page.form, [plan, drafts], **FORMED)


def _connect_engine(bench: Bench, form: dict[str, Any]) -> None:
    """Show of the form what its engine and its mode have."""
    fitted = [*FILES, "loras", "cache", "mode", "refined", "size"]

    def fit(engine: str, mode: str, refined: bool) -> list[Any]:
        updates = fit_fields(find_card(engine), mode, refined, bench)
        return [updates[name] for name in fitted]

    def choose_engine(engine: str, mode: str, refined: bool) -> list[Any]:
        card = find_card(engine)
        most = longest_seconds(card)
        *updates, size = fit(engine, mode, refined)
        length = gr.update(maximum=most, value=min(card.default_seconds, most))
        return [*updates, size | {"value": ""}, length]

    def choose_stages(engine: str, mode: str, refined: bool) -> list[Any]:
        *updates, size = fit(engine, mode, refined)
        return [*updates, size | {"value": ""}]

    asked = [form[name] for name in ("engine", "mode", "refined")]
    shown = [form[name] for name in fitted]
    seconds = form["seconds"]
    form["engine"].input(bench.told(choose_engine), asked, [*shown, seconds], **FORMED)
    form["mode"].input(bench.told(fit), asked, shown, **FORMED)
    form["refined"].input(bench.told(choose_stages), asked, shown, **FORMED)


def _connect_board(
    bench: Bench, page: Page, board: gr.HTML, render: gr.Button, drafts: gr.Button
) -> None:
    """Let the buttons work, and show what the queue holds, now and every second."""
    seen = gr.State("")

    def draw(own: Bench) -> str:
        return draw_board(look(own), own.say)

    def start(request: gr.Request, *values: Any) -> str:
        own = bench.asked_by(request)
        queue_clip(own, _ask(_read(values, own.home), own))
        return draw(own)

    def start_drafts(request: gr.Request, *values: Any) -> str:
        own = bench.asked_by(request)
        form = _read(values, own.home)
        wanted = _ask(form, own)
        queue_drafts(
            own.queue,
            own.gallery.outputs,
            wanted,
            find_card(wanted.engine),
            form.drafts,
            lambda asked: predict(own, asked),
        )
        return draw(own)

    def press(request: gr.Request, event: gr.EventData) -> list[Any]:
        own, do, about = bench.asked_by(request), event.do, event.id
        form: list[Any] = [gr.skip()] * len(NAMES)
        if do == "idea":
            idea = load_form(own.home / FORM)
            idea = dataclasses.replace(idea, prompt=bench.say(f"ideas.{int(about)}"))
            form = page.fill(idea, own)
        elif do == "reuse":
            form = page.fill(from_request(own.queue.find(about).request), own)
        else:
            act(own, do, about)
        return [*form, draw(own)]

    def take_clip(request: gr.Request, event: gr.EventData) -> list[Any]:
        own = bench.asked_by(request)
        found = find_files(read_request(uploaded(event.path, own.uploads)), own.home / PICTURES)
        gr.Info(bench.say("create.restored"), title=NAME, duration=4)
        return [gr.update(selected="create"), *page.fill(from_request(found), own)]

    def refresh(request: gr.Request, last: str = "") -> Any:
        try:
            drawn = draw(bench.asked_by(request))
        except Exception as error:  # noqa: BLE001 - told in the place of the board
            drawn = draw_trouble(bench.explain(error))
        head = draw_head(bench.renderer.runs, bench.machine.hardware, bench.say)
        return gr.skip() if drawn + head == last else (drawn, head, drawn + head)

    render.click(bench.told(start), page.form, board, **FORMED)
    drafts.click(bench.told(start_drafts), page.form, board, **FORMED)
    board.select(bench.told(press), None, [*page.form, board], **ASKED)
    board.upload(bench.told(take_clip), None, [page.tabs, *page.form], **ASKED)
    shown = [board, page.head, seen]
    # A page that is loaded knows nothing of what was shown before, so it begins with nothing seen.
    page.blocks.load(refresh, None, shown, **STEADY)
    gr.Timer(REFRESH_SECONDS).tick(refresh, seen, shown, **STEADY)


def uploaded(path: str, uploads: Path) -> Path:
    """Return the path of an upload; raises `BadRequest` for any other file of the machine."""
    found = Path(path).resolve()
    if not found.is_relative_to(uploads.resolve()):
        raise BadRequest("This is no file that was dropped here. Drop the clip once more.")
    return found
