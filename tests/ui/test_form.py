"""The form and the request that it stands for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from aiprod_studio.engines.catalog import find_card
from aiprod_studio.errors import BadRequest
from aiprod_studio.types import Request, complete
from aiprod_studio.ui.form import (
    EXTEND,
    KEYFRAMES,
    PICTURE,
    Form,
    from_request,
    keep_file,
    load_form,
    longest_seconds,
    parse_size,
    save_form,
    sizes,
)


def test_the_forms_own_values_go_before_the_presets() -> None:
    form = Form(prompt="a dog", preset="draft", size="64x48", seconds=0.6, seed=5)
    request = form.to_request()
    assert (request.steps, request.width, request.height, request.seed) == (4, 64, 48, 5)
    assert Form(prompt="a dog", preset="draft", steps=2).to_request().steps == 2


def test_a_request_goes_through_the_form_unchanged() -> None:
    request = Request("ein Hund", width=64, height=48, seconds=0.6, fps=8.0, seed=0, steps=3)
    assert from_request(request).to_request() == request
    longer = Request("weiter", extend="clip.mp4", seconds=0.6)
    assert from_request(longer).to_request() == longer
    ends = Request("a", "ltx-2", last_image="z.png", stages=2)
    for whole in (
        ends,
        dataclasses.replace(ends, image="a.png"),
        dataclasses.replace(ends, extend="clip.mp4"),
        dataclasses.replace(ends, loras=("a b.safetensors", "owner/name:0.8"), reference="r.mp4"),
        dataclasses.replace(ends, cache="mag:0.1"),
    ):
        assert from_request(whole).to_request() == whole


def test_loras_are_the_lines_that_say_something() -> None:
    form = Form(prompt="a dog", loras="\n  owner/name:0.8 \n\nC:\\a.safetensors\n")
    assert form.to_request().loras == ("owner/name:0.8", "C:\\a.safetensors")
    assert Form(prompt="a dog", loras=" \n").to_request().loras == ()


@pytest.mark.parametrize(
    ("form", "part"),
    [
        (Form(prompt=" "), "prompt is empty"),
        (Form(prompt="a", size="big"), "640x360"),
        (Form(prompt="a", mode=PICTURE), "picture is missing"),
        (Form(prompt="a", mode=EXTEND, image="a.png"), "clip to extend is missing"),
        (Form(prompt="a", mode=KEYFRAMES, image="a.png"), "last picture is missing"),
        (Form(prompt="a", preset="gone"), "no preset"),
        (Form(prompt="a", seed=1.5), "whole number"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_asked_is_a_sentence(form: Form, part: str) -> None:
    with pytest.raises(BadRequest, match=part):
        form.to_request()


def test_sizes_are_ones_that_the_engine_renders() -> None:
    card = find_card("starter")
    found = sizes(card)
    assert list(found) == ["default", "wide", "tall"]
    for size in found.values():
        width, height = parse_size(size)
        complete(Request("a", width=width, height=height, seconds=longest_seconds(card)), card)
    assert sizes(find_card("ltx-2"), stages=2)["default"] == "1536x1024"


def test_the_form_survives_a_restart(tmp_path: Path) -> None:
    form = Form(prompt="ein Hund", size="64x48", seed=7, audio=False, loras="a:0.8\nb")
    save_form(form, tmp_path / "form.json")
    assert load_form(tmp_path / "form.json") == form
    (tmp_path / "form.json").write_text('{"colour": 1}', encoding="utf-8")
    assert load_form(tmp_path / "form.json") == Form()


def test_a_picture_is_kept_under_the_name_of_its_content(tmp_path: Path) -> None:
    upload = tmp_path / "upload" / "a.PNG"
    upload.parent.mkdir()
    Image.new("RGB", (8, 8)).save(upload)
    kept = keep_file(str(upload), tmp_path / "kept")
    assert keep_file(kept, tmp_path / "kept") == kept
    assert keep_file(str(upload), tmp_path / "kept") == kept
    assert Path(kept).read_bytes() == upload.read_bytes()
    form = Form(prompt="a", mode=PICTURE, image=kept, reference=kept)
    save_form(form, tmp_path / "form.json")
    assert load_form(tmp_path / "form.json") == form
    Path(kept).unlink()
    left = load_form(tmp_path / "form.json")
    assert (left.image, left.reference) == (None, None)
