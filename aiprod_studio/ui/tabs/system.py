"""System: what this machine is, where things lie, and a report for when something goes wrong."""

from __future__ import annotations

from typing import Any

import gradio as gr

from aiprod_studio.ui.bench import ASKED, STEADY, Bench, Page, html_block
from aiprod_studio.ui.cards import NAME
from aiprod_studio.ui.facts import draw_facts, draw_memory, read_end, write_report
from aiprod_studio.ui.prefs import Prefs, load_prefs, save_prefs
from aiprod_studio.ui.texts import LANGUAGES, choose_language

REFRESH_SECONDS = 3.0
TO_END = "() => { document.querySelector('#as-log textarea').scrollTop = 1e6; }"
COPY = "(text) => { navigator.clipboard.writeText(text); return text; }"


def build(bench: Bench, page: Page) -> None:
    """Lay out the tab and connect it."""
    say = bench.say
    languages = [(say("system.of_system"), ""), *((n, code) for code, n in LANGUAGES.items())]
    with gr.Row(elem_classes="as-columns"):
        with gr.Column(scale=6, min_width=320):
            memory = html_block("as-memory")
            facts = html_block("as-facts")
            language = gr.Dropdown(
                languages,
                value=load_prefs().language,
                label=say("system.language"),
                info=say("system.language_hint"),
            )
        with gr.Column(scale=6, min_width=320):
            log = gr.Textbox(
                label=say("system.log"), lines=12, max_lines=12, interactive=False, elem_id="as-log"
            )
            report = gr.Textbox(
                label=say("system.report"),
                info=say("system.report_hint"),
                lines=8,
                max_lines=8,
                interactive=False,
                elem_id="as-report",
            )
            copy = gr.Button(say("system.copy"), elem_id="as-copy")

    def enter() -> list[Any]:
        hardware = bench.machine.hardware
        return [
            draw_memory(hardware, say),
            draw_facts(hardware, say),
            read_end(bench.renderer.log),
            write_report(hardware, bench.renderer.log),
        ]

    def keep(code: str) -> None:
        if code == load_prefs().language:  # a list tells of each choice twice
            return
        save_prefs(Prefs(language=code))
        say.turn(choose_language(code))
        gr.Info(say("system.language_kept"), title=NAME, duration=5)

    page.tab.select(bench.told(enter), None, [memory, facts, log, report], **ASKED).then(
        None, js=TO_END
    )
    language.input(bench.told(keep), language, None, concurrency_limit=1, **ASKED)
    copy.click(None, report, report, js=COPY, **ASKED)
    gr.Timer(REFRESH_SECONDS).tick(
        lambda: draw_memory(bench.machine.hardware, say), None, memory, **STEADY
    )
