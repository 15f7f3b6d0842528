"""Library: everything that was made; find it, play it, compare it, use it again."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from aiprod_studio.errors import BadRequest
from aiprod_studio.library.gallery import Entry, Query, since_days
from aiprod_studio.library.provenance import PICTURES, find_files
from aiprod_studio.types import FILES, Request
from aiprod_studio.ui.bench import ASKED, Bench, Page, html_block
from aiprod_studio.ui.board import queue_clip
from aiprod_studio.ui.cards import NAME
from aiprod_studio.ui.form import from_request, keep_file
from aiprod_studio.ui.sheets import read_script
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.tiles import draw_comparison, draw_details, draw_shelf, draw_undo
from aiprod_studio.ui.verdict import recall
from aiprod_studio.ui.visitors import FOLDER

PAGE = 24
VARIATIONS = 3
KINDS: dict[str, bool | None] = {"clips": False, "drafts": True, "all": None}


@dataclasses.dataclass(frozen=True)
class Layout:
    """The components of the tab."""

    filters: list[Any]
    engine: Any
    shelf: Any
    count: Any
    back: Any
    onward: Any
    undo: Any
    panel: Any
    tray: Any
    number: Any
    picked: Any


def build(bench: Bench, page: Page) -> None:
    """Lay out the tab and connect it."""
    layout = _lay(bench.say)
    with layout.tray:
        if not bench.shared:
            _lay_export(bench, layout.picked)
        compare = gr.Button(bench.say("library.compare"), size="sm", min_width=120)
        clear = gr.Button(bench.say("library.unpick"), size="sm", min_width=120)
    _connect_search(bench, page, layout)
    _connect_clips(bench, page, layout)
    _connect_tray(bench, layout, compare, clear)


def _lay(say: Texts) -> Layout:
    """Lay out the filters, the tray of what is picked, the clip in full and the shelf."""
    days = [(say(f"library.days_{n}"), n) for n in (0, 1, 7, 30)]
    kinds = [(say(f"library.{kind}"), kind) for kind in KINDS]
    with gr.Row(elem_classes="as-filters"):
        words = gr.Textbox(
            label=say("library.words"), placeholder=say("library.words_hint"), min_width=220
        )
        engine = gr.Dropdown(
            [(say("library.any"), "")], value="", label=say("field.engine"), min_width=140
        )
        since = gr.Dropdown(days, value=0, label=say("library.when"), min_width=140)
        kind = gr.Dropdown(kinds, value="clips", label=say("library.kind"), min_width=140)
    undo = html_block("as-undo", script=read_script("wire.js"))
    tray = gr.Row(visible=False, elem_classes="as-tray")
    panel = html_block("as-panel", script=read_script("wire.js"))
    shelf = html_block("as-shelf", script=read_script("wire.js"))
    with gr.Row(elem_classes="as-pager"):
        back = gr.Button(say("library.back"), size="sm", min_width=100)
        count = html_block("as-count")
        onward = gr.Button(say("library.onward"), size="sm", min_width=100)
    return Layout(
        filters=[words, engine, since, kind],
        engine=engine,
        shelf=shelf,
        count=count,
        back=back,
        onward=onward,
        undo=undo,
        panel=panel,
        tray=tray,
        number=gr.State(0),
        picked=gr.State(()),
    )


def _connect_search(bench: Bench, page: Page, layout: Layout) -> None:
    """Show the page of clips that the filters ask for."""
    inputs = [*layout.filters, layout.number, layout.picked]
    outputs = [layout.shelf, layout.count, layout.back, layout.onward, layout.number, layout.undo]

    def show(request: gr.Request, *values: Any) -> list[Any]:
        return _show(bench.asked_by(request), *values)

    def enter(request: gr.Request, *values: Any) -> list[Any]:
        own = bench.asked_by(request)
        own.gallery.scan()
        engines = [(own.say("library.any"), ""), *((e, e) for e in own.gallery.engines())]
        return [gr.update(choices=engines), *_show(own, *values)]

    def search(request: gr.Request, *values: Any) -> list[Any]:
        return _show(bench.asked_by(request), *values[:4], 0, values[5])

    def turn(step: int) -> Any:
        def answer(request: gr.Request, *values: Any) -> list[Any]:
            return _show(bench.asked_by(request), *values[:4], values[4] + step, values[5])

        return bench.told(answer)

    page.tab.select(bench.told(enter), inputs, [layout.engine, *outputs], **ASKED)
    gr.on(
        [each.change for each in layout.filters],
        bench.told(search),
        inputs,
        outputs,
        trigger_mode="always_last",
        **ASKED,
    )
    layout.back.click(turn(-1), inputs, outputs, **ASKED)
    layout.onward.click(turn(1), inputs, outputs, **ASKED)
    gr.on([layout.picked.change, layout.panel.change], bench.told(show), inputs, outputs, **ASKED)


def _show(bench: Bench, *values: Any) -> list[Any]:
    """Return the updates that show one page of clips: filters, its number and what is picked."""
    words, engine, days, kind, number, picked = values
    query = Query(words or "", engine or "", since_days(days or 0), KINDS[kind])
    entries, total = bench.gallery.find(query, number * PAGE, PAGE)
    if not entries and number:
        return _show(bench, words, engine, days, kind, 0, picked)
    first = number * PAGE
    told = bench.say("library.count", first=first + 1, last=first + len(entries), total=total)
    return [
        draw_shelf(_with_posters(bench, entries), picked, bench.say),
        f"<p>{told if total else ''}</p>",
        gr.update(interactive=number > 0),
        gr.update(interactive=first + PAGE < total),
        number,
        draw_undo(bench.gallery.trash.tokens(), bench.say),
    ]


def _with_posters(bench: Bench, entries: Sequence[Entry]) -> list[tuple[Entry, Path | None]]:
    return [(entry, bench.gallery.thumbnail(entry.path)) for entry in entries]


def _connect_clips(bench: Bench, page: Page, layout: Layout) -> None:
    """Let the buttons of the tiles and of the clip in full work."""

    def press(request: gr.Request, picked: Sequence[str], event: gr.EventData) -> list[Any]:
        own, do, name = bench.asked_by(request), event.do, event.id
        if do == "pick":
            rest = tuple(each for each in picked if each != name)
            chosen = rest if name in picked else (*picked, name)
            return [gr.skip(), chosen, gr.update(visible=bool(chosen))]
        [(entry, poster)] = _with_posters(own, [own.gallery.entry(name)])
        why = recall(entry.settings, bench.machine.hardware, bench.queue)
        return [draw_details(entry, poster, why, bench.say), gr.skip(), gr.skip()]

    def handle(request: gr.Request, event: gr.EventData) -> list[Any]:
        own, do, name = bench.asked_by(request), event.do, event.id
        form: list[Any] = [gr.skip()] * len(page.form)
        if do == "close":
            return ["", gr.skip(), *form]
        if do == "discard":
            own.gallery.discard(name)
            return ["", gr.skip(), *form]
        wanted = again(own, name, do)
        if do in ("reuse", "extend"):
            form = page.fill(from_request(wanted), own)
        for _ in range(VARIATIONS if do == "vary" else 0):
            queue_clip(own, dataclasses.replace(wanted, seed=None))
        return ["", gr.update(selected="create"), *form]

    def bring_back(request: gr.Request, event: gr.EventData) -> str:
        own = bench.asked_by(request)
        if event.do == "empty":
            own.gallery.trash.empty()
        else:
            own.gallery.restore(event.id)
        # A panel that changes shows the shelf anew.
        return f"<!-- {time.monotonic()} -->"

    tray = [layout.panel, layout.picked, layout.tray]
    layout.shelf.select(bench.told(press), layout.picked, tray, **ASKED)
    outputs = [layout.panel, page.tabs, *page.form]
    layout.panel.select(bench.told(handle), None, outputs, **ASKED)
    layout.undo.select(bench.told(bring_back), None, layout.panel, **ASKED)


def again(bench: Bench, name: str, do: str) -> Request:
    """Return the request that made a clip, or to "extend" it that of one which goes on from it."""
    entry = bench.gallery.entry(name)
    made = _with_files(Request.from_json(entry.settings["request"]), name, bench)
    if do != "extend":
        return made
    clip = keep_file(str(entry.path), bench.home / PICTURES)
    return dataclasses.replace(
        made,
        extend=clip,
        image=None,
        last_image=None,
        reference=None,
        width=None,
        height=None,
        fps=None,
        seed=None,
    )


def _with_files(made: Request, name: str, bench: Bench) -> Request:
    """Return the request that made a clip with its pictures; a visitor's are copied to the owner's.

    What is a visitor's lies below the same folder in the data as in the outputs.
    """
    kept, parts = bench.home / PICTURES, Path(name).parts
    if parts[0] != FOLDER:
        return find_files(made, kept)
    theirs = find_files(made, bench.home.joinpath(*parts[:2]) / PICTURES)
    files = {each: getattr(theirs, each) for each in FILES}
    copies: dict[str, Any] = {
        each: keep_file(file, kept) for each, file in files.items() if file != getattr(made, each)
    }
    return dataclasses.replace(theirs, **copies)


def _connect_tray(bench: Bench, layout: Layout, compare: gr.Button, clear: gr.Button) -> None:
    """Let what is picked be compared."""

    def side_by_side(request: gr.Request, picked: Sequence[str]) -> str:
        own = bench.asked_by(request)
        if len(picked) != 2:
            raise BadRequest(bench.say("library.pick_two"))
        entries = [own.gallery.entry(name) for name in picked]
        return draw_comparison(_with_posters(own, entries), own.say)

    compare.click(bench.told(side_by_side), layout.picked, layout.panel, **ASKED)
    clear.click(lambda: ((), gr.update(visible=False)), None, [layout.picked, layout.tray], **ASKED)


def _lay_export(bench: Bench, picked: gr.State) -> None:
    """Lay out what copies the picked clips to a folder of this machine, and connect it."""
    say = bench.say
    folder = gr.Textbox(
        str(Path.home() / "AIPROD Studio"), label=say("library.folder"), min_width=240, scale=3
    )
    export = gr.Button(say("library.export"), size="sm", min_width=120)

    def copy(names: Sequence[str], target: str) -> None:
        if not target.strip():
            raise BadRequest(say("library.no_folder"))
        path = Path(target.strip()).expanduser()
        copies = bench.gallery.export(list(names), path)
        told = say("library.exported", count=len(copies), folder=escape(str(path)))
        gr.Info(told, title=NAME, duration=6)

    export.click(bench.told(copy), [picked, folder], None, **ASKED)
