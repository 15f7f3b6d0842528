"""The fields of the form as components of the page, and what of them an engine can do."""

from __future__ import annotations

import dataclasses
from typing import Any

import gradio as gr

from aiprod_studio.engines.catalog import cards, find_card
from aiprod_studio.library.presets import preset_files
from aiprod_studio.types import CACHES, ModelCard
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.form import (
    EXTEND,
    FILES,
    KEYFRAMES,
    MODES,
    MOST_DRAFTS,
    PICTURE,
    TEXT,
    Form,
    longest_seconds,
    sizes,
)
from aiprod_studio.ui.texts import Texts

NAMES = tuple(field.name for field in dataclasses.fields(Form))
"""The names of the fields, in the order of their components."""


def lay_form(say: Texts) -> dict[str, Any]:
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
    found |= _lay_start(card, say)
    with gr.Row():
        found["engine"] = gr.Dropdown(
            engines, value=card.id, label=say("field.engine"), min_width=140
        )
        found["preset"] = gr.Dropdown(
            _presets(say), value="default", label=say("field.preset"), min_width=140
        )
    with gr.Row():
        found["size"] = gr.Dropdown(
            _size_choices(card, TEXT, False, say),
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
    found["refined"] = gr.Checkbox(
        label=say("field.refined"), info=say("create.refined"), visible=False
    )
    with gr.Accordion(say("create.advanced"), open=False):
        found |= _lay_advanced(say)
    return {name: found[name] for name in NAMES}


def fit_fields(card: ModelCard, mode: str, refined: bool, bench: Bench) -> dict[str, Any]:
    """Return updates of the fields that not every engine and mode has, by their names.

    What the engine cannot do, or not for visitors, goes out of sight and out of the form.
    """
    say = bench.say
    choices = mode_choices(card, say)
    modes = [each for _, each in choices]
    if mode not in modes:
        mode = PICTURE if mode == KEYFRAMES and PICTURE in modes else TEXT
    refines = "upscale" in card.tasks
    refined = refined and refines
    updates = {name: gr.update(visible=mode in shown) for name, shown in FILES.items()}
    updates |= {name: gr.update(visible=True) for name in ("loras", "cache")}
    able = {
        "last_image": KEYFRAMES in modes,
        "reference": "reference" in card.tasks,
        "loras": "lora" in card.tasks and not bench.shared,
        "cache": "cache" in card.tasks,
    }
    for name, can in able.items():
        if not can:
            updates[name] = gr.update(visible=False, value=getattr(Form(), name))
    return updates | {
        "mode": gr.update(choices=choices, value=mode),
        "refined": gr.update(visible=refines, value=refined),
        "size": gr.update(choices=_size_choices(card, mode, refined, say)),
    }


def _lay_start(card: ModelCard, say: Texts) -> dict[str, Any]:
    """Lay out what a clip starts from, and return it by the names of the fields."""
    found: dict[str, Any] = {
        "mode": gr.Radio(
            mode_choices(card, say), value=TEXT, label=say("field.mode"), elem_id="as-mode"
        )
    }
    found["extend"] = gr.Video(
        label=say("field.extend"),
        sources=["upload"],
        height=220,
        visible=False,
        elem_id="as-extend",
    )
    with gr.Row():
        labels = {"image": say("field.image"), "last_image": say("field.last_image")}
        for name, label in labels.items():
            found[name] = gr.Image(
                type="filepath",
                label=label,
                sources=["upload", "clipboard"],
                height=220,
                min_width=140,
                visible=False,
                elem_id=f"as-{name.replace('_', '-')}",
            )
    return found


def mode_choices(card: ModelCard, say: Texts) -> list[tuple[str, str]]:
    """Return what a clip of an engine can start from."""
    return [(say(f"mode.{mode}"), mode) for mode, task in MODES.items() if task in card.tasks]


def _lay_advanced(say: Texts) -> dict[str, Any]:
    """Lay out what few people change, and return it by the names of the fields."""
    unset = say("create.as_preset")
    with gr.Row():
        found = {
            "steps": gr.Number(label=say("field.steps"), placeholder=unset, precision=0),
            "guidance": gr.Number(label=say("field.guidance"), placeholder=unset),
            "fps": gr.Number(label=say("field.fps"), placeholder=unset),
            "audio": gr.Checkbox(value=True, label=say("field.audio")),
        }
    found["loras"] = gr.Textbox(
        label=say("field.loras"),
        info=say("create.loras"),
        placeholder="owner/name:0.8",
        lines=2,
        visible=False,
        elem_id="as-loras",
    )
    found["reference"] = gr.File(
        label=say("field.reference"),
        file_types=["video", "image"],
        height=140,
        visible=False,
        elem_id="as-reference",
    )
    found["cache"] = gr.Dropdown(
        [(say("field.no"), ""), *CACHES],
        value="",
        label=say("field.cache"),
        info=say("create.cache"),
        allow_custom_value=True,
        visible=False,
    )
    return found


def _presets(say: Texts) -> list[tuple[str, str]]:
    """Return the presets as choices; those that are shipped have a name in every language."""
    shipped = {"default", "draft", "fast", "quality"}
    return [(say(f"preset.{n}") if n in shipped else n, n) for n in sorted(preset_files())]


def _size_choices(card: ModelCard, mode: str, refined: bool, say: Texts) -> list[tuple[str, str]]:
    """Return the sizes; the first stands for "as the preset, the engine or the clip says"."""
    found = [
        (f"{say(f'shape.{shape}')} {size.replace('x', ' × ')}", size)
        for shape, size in sizes(card, 2 if refined else 1).items()
    ]
    return [(say("shape.clip"), ""), *found] if mode == EXTEND else [(found[0][0], ""), *found[1:]]
