"""Create: say what the clip shows, see whether it fits, render it, and watch it come to be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gradio as gr

from aiprod_studio.engines.catalog import cards, find_card
from aiprod_studio.errors import BadRequest
from aiprod_studio.library.presets import preset_files
from aiprod_studio.library.provenance import read_request
from aiprod_studio.types import ModelCard
from aiprod_studio.ui.bench import ASKED, STEADY, Bench, Page, html_block
from aiprod_studio.ui.board import act, look, predict, queue_clip
from aiprod_studio.ui.cards import NAME, draw_board, draw_head, draw_plan, draw_trouble
from aiprod_studio.ui.drafts import queue_drafts
from aiprod_studio.ui.form import (
    EXTEND,
    MOST_DRAFTS,
    PICTURE,
    PICTURES,
    TEXT,
    Form,
    from_request,
    keep_file,
    load_form,
    longest_seconds,
    save_form,
    sizes,
)
from aiprod_studio.ui.media import locate_absolute
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.theme import read_script
from aiprod_studio.ui.verdict import Verdict, judge
from aiprod_studio.ui.visitors import show_picture

REFRESH_SECONDS = 1.0
FORM = "form.json"
# The fields that hold a file, and the mode that each belongs to.
FILES = {"image": PICTURE, "extend": EXTEND}
NAMES = tuple(field.name for field in dataclasses.fields(Form))


def build(bench: Bench, page: Page) -> None:
    """Lay out the tab and connect it."""
    with gr.Row(elem_classes="as-columns"):
        with gr.Column(scale=5, min_width=320, elem_classes="as-panel"):
            form = _lay_form(bench.say)
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


def _lay_form(say: Texts) -> dict[str, Any]:
    """Lay out the form and return its components by the names of the fields, in their order."""
    card = find_card(Form().engine)
    engines = [(each.name, each.id) for each in cards().values()]
    found: dict[str, Any] = {}
    found["prompt"] = gr.Textbox(
        label=say("field.prompt"),
        placeholder=say("create.placeholder"),
        lines=3,
        max_lines=12,
        elem_id="as-prompt",
        interactive=False,  # until the form is back, so that it cannot overwrite what is typed
    )
    found |= _lay_start(say)
    with gr.Row():
        found["engine"] = gr.Dropdown(
            engines, value=card.id, label=say("field.engine"), min_width=140
        )
        found["preset"] = gr.Dropdown(
            _presets(say), value="default", label=say("field.preset"), min_width=140
        )
    with gr.Row():
        found["size"] = gr.Dropdown(
            _size_choices(card, say),
            label=say("field.size"),
            allow_custom_value=True,
            min_width=140,
        )
        found["seed"] = gr.Number(
            label=say("field.seed"),
            placeholder=say("create.random"),
            precision=0,
            minimum=0,
            min_width=140,
        )
    with gr.Row():
        found["seconds"] = gr.Slider(
            0.2,
            longest_seconds(card),
            value=card.default_seconds,
            step=0.1,
            label=say("field.seconds"),
            buttons=[],
            min_width=140,
        )
        found["drafts"] = gr.Slider(
            1, MOST_DRAFTS, value=4, step=1, label=say("field.drafts"), buttons=[], min_width=140
        )
    with gr.Accordion(say("create.advanced"), open=False), gr.Row():
        found |= _lay_advanced(say)
    return {name: found[name] for name in NAMES}


def _lay_start(say: Texts) -> dict[str, Any]:
    """Lay out what a clip starts from, and return it by the names of the fields."""
    modes = [
        (say("mode.text"), TEXT),
        (say("mode.picture"), PICTURE),
        (say("mode.extend"), EXTEND),
    ]
    return {
        "mode": gr.Radio(modes, value=TEXT, label=say("field.mode"), elem_id="as-mode"),
        "image": gr.Image(
            type="filepath",
            label=say("field.image"),
            sources=["upload", "clipboard"],
            height=220,
            visible=False,
            elem_id="as-image",
        ),
        "extend": gr.Video(
            label=say("field.extend"),
            sources=["upload"],
            height=220,
            visible=False,
            elem_id="as-extend",
        ),
    }


def _lay_advanced(say: Texts) -> dict[str, Any]:
    """Lay out what few people change, and return it by the names of the fields."""
    unset = say("create.as_preset")
    return {
        "steps": gr.Number(label=say("field.steps"), placeholder=unset, precision=0),
        "guidance": gr.Number(label=say("field.guidance"), placeholder=unset),
        "fps": gr.Number(label=say("field.fps"), placeholder=unset),
        "audio": gr.Checkbox(value=True, label=say("field.audio")),
    }


def _presets(say: Texts) -> list[tuple[str, str]]:
    """Return the presets as choices; those that are shipped have a name in every language."""
    shipped = {"default", "draft", "fast", "quality"}
    return [(say(f"preset.{n}") if n in shipped else n, n) for n in sorted(preset_files())]


def _size_choices(card: ModelCard, say: Texts, mode: str = TEXT) -> list[tuple[str, str]]:
    """Return the sizes; the first stands for "as the preset, the engine or the clip says"."""
    found = [
        (f"{say(f'shape.{shape}')} {size.replace('x', ' × ')}", size)
        for shape, size in sizes(card).items()
    ]
    return [(say("shape.clip"), ""), *found] if mode == EXTEND else [(found[0][0], ""), *found[1:]]


def _fill(form: Form, bench: Bench) -> list[Any]:
    """Return the updates that put `form` on the page, in the order of its fields."""
    image, extend = (_find_file(file, bench) for file in (form.image, form.extend))
    form = dataclasses.replace(form, image=image, extend=extend)
    try:
        card = find_card(form.engine)
    except BadRequest:
        card = find_card(Form().engine)
    updates: dict[str, Any] = {name: gr.update(value=getattr(form, name)) for name in NAMES}
    most = longest_seconds(card)
    updates["prompt"] = gr.update(value=form.prompt, interactive=True)
    updates["engine"] = gr.update(value=card.id)
    choices = _size_choices(card, bench.say, form.mode)
    updates["size"] = gr.update(choices=choices, value=form.size)
    updates["seconds"] = gr.update(
        maximum=most, value=min(form.seconds or card.default_seconds, most)
    )
    for name, mode in FILES.items():
        updates[name] = gr.update(value=getattr(form, name), visible=form.mode == mode)
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
    """Return the form that the components' values make; its files are kept below `home`."""
    form = Form(**dict(zip(NAMES, values, strict=True)))
    files = {name: getattr(form, name) for name in FILES}
    kept: dict[str, Any] = {
        name: keep_file(file, home / PICTURES) for name, file in files.items() if file
    }
    return dataclasses.replace(form, **kept, size=form.size or "", drafts=int(form.drafts or 1))


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
            verdict = judge(filled.to_request(), bench.machine.hardware, bench.queue)
        except BadRequest as error:
            verdict = Verdict("wrong", reasons=(str(error),))
        return [draw_plan(verdict, bench.say), gr.update(value=label)]

    def restore(request: gr.Request) -> list[Any]:
        own = bench.asked_by(request)
        return _fill(load_form(own.home / FORM), own)

    def choose_mode(mode: str, engine: str) -> list[Any]:
        shown = [gr.update(visible=mode == own) for own in FILES.values()]
        return [*shown, gr.update(choices=_size_choices(find_card(engine), bench.say, mode))]

    def choose_engine(engine: str, mode: str) -> list[Any]:
        card = find_card(engine)
        most = longest_seconds(card)
        choices = _size_choices(card, bench.say, mode)
        value = min(card.default_seconds, most)
        return [gr.update(choices=choices, value=""), gr.update(maximum=most, value=value)]

    # The head changes when the machine becomes known, and with it the verdict.
    gr.on(
        [component.change for component in (*page.form, page.head)],
        bench.told(weigh),
        page.form,
        [plan, drafts],
        trigger_mode="always_last",
        **ASKED,
    )
    form["engine"].input(
        bench.told(choose_engine),
        [form["engine"], form["mode"]],
        [form["size"], form["seconds"]],
        **ASKED,
    )
    form["mode"].change(
        bench.told(choose_mode),
        [form["mode"], form["engine"]],
        [*(form[name] for name in FILES), form["size"]],
        **ASKED,
    )
    page.blocks.load(bench.told(restore), None, page.form, **ASKED).then(
        None, js="() => document.querySelector('#as-prompt textarea').focus()"
    ).then(bench.told(weigh), page.form, [plan, drafts], **ASKED)


def _connect_board(
    bench: Bench, page: Page, board: gr.HTML, render: gr.Button, drafts: gr.Button
) -> None:
    """Let the buttons work, and show what the queue holds, now and every second."""
    seen = gr.State("")

    def draw(own: Bench) -> str:
        return draw_board(look(own), own.say)

    def start(request: gr.Request, *values: Any) -> str:
        own = bench.asked_by(request)
        queue_clip(own, _read(values, own.home).to_request())
        return draw(own)

    def start_drafts(request: gr.Request, *values: Any) -> str:
        own = bench.asked_by(request)
        form = _read(values, own.home)
        wanted = form.to_request()
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
        found = read_request(uploaded(event.path, own.uploads))
        gr.Info(bench.say("create.restored"), title=NAME, duration=4)
        return [gr.update(selected="create"), *page.fill(from_request(found), own)]

    def refresh(request: gr.Request, last: str = "") -> Any:
        try:
            drawn = draw(bench.asked_by(request))
        except Exception as error:  # noqa: BLE001 - told in the place of the board
            drawn = draw_trouble(bench.explain(error))
        head = draw_head(bench.renderer.runs, bench.machine.hardware, bench.say)
        return gr.skip() if drawn + head == last else (drawn, head, drawn + head)

    render.click(bench.told(start), page.form, board, **ASKED)
    drafts.click(bench.told(start_drafts), page.form, board, **ASKED)
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
