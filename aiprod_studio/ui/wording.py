"""The wording of a page that is served already, put into another language."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import gradio as gr

from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.theme import build_head


def reword(served: gr.Blocks, build: Callable[[], gr.Blocks], say: Texts) -> None:
    """Give the page `served` the words of the same page, built anew, from its next load on.

    Whoever is connected stays so: what answers the events is not touched, and it asks `say` each
    time for its words.
    """
    # Within an event's answer nothing can be laid out; a thread of its own is outside of it.
    with ThreadPoolExecutor(1) as aside:
        fresh = aside.submit(build).result()
    served.head = served.config["head"] = build_head(say)
    new = fresh.get_config_file()["components"]
    for old, own in zip(served.config["components"], new, strict=True):
        old["props"] = own["props"]
