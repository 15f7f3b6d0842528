"""What a clip can start from, and in how many stages: as the engine on the form can do it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from aiprod_studio.library.provenance import read_request
from tests.ui.conftest import PATIENCE_MS, Served

pytestmark = pytest.mark.browser


def test_the_form_shows_what_the_engine_can_do(served: Served, page: Page, tmp_path: Path) -> None:
    both, stages = page.get_by_label("A first and a last picture"), page.get_by_label("Two stages")
    expect(page.get_by_label("Prompt")).to_be_editable()
    expect(stages).to_be_hidden()
    expect(page.locator("#as-last-image")).to_be_hidden()
    both.check()
    for number, name in enumerate(("as-image", "as-last-image")):
        file = tmp_path / f"{name}.png"
        Image.new("RGB", (64, 64), ("red", "blue")[number]).save(file)
        page.locator(f"#{name} input[type=file]").set_input_files(file)
        expect(page.locator(f"#{name} img")).to_be_visible()

    engine = page.get_by_label("Engine")
    choose(engine, "Wan 2.1 1.3B", page)
    expect(both).to_be_hidden()
    expect(page.get_by_label("Words")).to_be_checked()
    expect(page.locator("#as-image")).to_be_hidden()
    choose(engine, "LTX-2", page)
    expect(both).to_be_visible()
    stages.check()
    page.get_by_label("Size").click()
    expect(page.get_by_role("option", name=re.compile("1536 × 1024"))).to_be_visible()
    page.keyboard.press("Escape")
    page.reload()
    expect(page.get_by_label("Two stages")).to_be_checked()
    choose(engine, "Starter", page)
    expect(stages).to_be_hidden()

    page.get_by_label("A first and a last picture").check()
    blue = tmp_path / "as-last-image.png"
    page.locator("#as-last-image input[type=file]").set_input_files(blue)
    expect(page.locator("#as-last-image img")).to_be_visible()
    expect(page.locator(".toast-body")).to_have_count(0)
    choose(page.get_by_label("Preset"), "Draft", page)
    page.get_by_label("Prompt").fill("a red sky turns blue")
    page.get_by_label("Size").fill("64x64")
    page.get_by_label("Size").press("Enter")
    page.get_by_label(re.compile("number input for Length")).fill("0.6")
    page.get_by_role("button", name="Render", exact=True).click()
    expect(page.locator(".as-is-done")).to_contain_text("a red sky", timeout=4 * PATIENCE_MS)
    [clip] = (served.home / "outputs").glob("*.mp4")
    made = read_request(clip)
    assert (bool(made.image), bool(made.last_image), made.stages) == (True, True, 1)
    page.get_by_role("button", name="Use settings").click()
    expect(page.locator("#as-last-image img")).to_be_visible()


def test_what_is_wrong_on_the_form_is_said_by_its_name(
    served: Served, page: Page, tmp_path: Path
) -> None:
    plan, upload = page.locator("#as-plan"), page.locator("#as-image input[type=file]")
    expect(page.get_by_label("Prompt")).to_be_editable()
    page.get_by_label("A picture", exact=True).check()
    page.get_by_label("Prompt").fill("what a picture begins with")
    good, cut, foreign = (tmp_path / f"{name}.png" for name in ("good", "cut", "foreign"))
    Image.effect_noise((64, 64), 80).save(good)
    cut.write_bytes(good.read_bytes()[:1000])
    foreign.write_text("no picture", encoding="utf-8")
    upload.set_input_files(foreign)
    expect(plan).to_contain_text("The first picture cannot be used: it is not a picture")
    page.get_by_label("Remove Image").click()
    expect(plan).to_contain_text("The first picture is missing")
    upload.set_input_files(cut)
    damaged = "The first picture cannot be used: it is damaged or cut short."
    expect(plan).to_contain_text(damaged)
    page.get_by_role("button", name="Render", exact=True).click()
    expect(page.locator(".toast-body")).to_contain_text(damaged)
    page.reload()
    expect(plan).to_contain_text(damaged)
    page.get_by_label("Remove Image").click()
    upload.set_input_files(good)
    expect(plan).not_to_contain_text("first picture")

    page.get_by_role("button", name="Advanced").click()
    for field, value, told in (
        ("Steps", "2.5", "steps is 2.5; give a whole number"),
        ("Guidance", "99", "guidance is 99"),
        ("Seed", "-3", "seed is -3"),
    ):
        number = page.get_by_label(field, exact=True)
        number.fill(value)
        number.press("Tab")
        expect(plan).to_contain_text(told)
        number.fill("")
        number.press("Tab")
        expect(plan).not_to_contain_text(told)
    page.get_by_label("Words").check()


def test_loras_and_a_reference_stay_with_what_was_asked(
    served: Served, page: Page, tmp_path: Path
) -> None:
    loras, reference = page.get_by_label("LoRAs"), page.locator("#as-reference")
    plan, engine = page.locator("#as-plan"), page.get_by_label("Engine")
    expect(page.get_by_label("Prompt")).to_be_editable()
    page.get_by_role("button", name="Advanced").click()
    expect(page.get_by_label("Steps")).to_be_visible()
    expect(loras).to_be_hidden()
    page.get_by_label("Words").check()
    page.get_by_label("Prompt").fill("a fox follows its own steps")
    choose(engine, "LTX-2", page)
    loras.fill(":0.8")
    expect(plan).to_contain_text("is no LoRA")
    loras.fill("owner/name:0.8\nowner/other")
    expect(plan).not_to_contain_text("is no LoRA")
    cache = page.get_by_label("Step cache")
    expect(cache).to_have_value("no")
    cache.fill("tea")
    cache.press("Enter")
    expect(plan).to_contain_text("no step cache 'tea'")
    cache.fill("mag:0.1")
    cache.press("Enter")
    expect(plan).not_to_contain_text("no step cache 'tea'")
    picture, text = tmp_path / "reference.png", tmp_path / "text.png"
    text.write_text("no picture", encoding="utf-8")
    Image.new("RGB", (64, 64), "green").save(picture)
    reference.locator("input[type=file]").set_input_files(text)
    expect(plan).to_contain_text("cannot be used")
    reference.get_by_label("Clear").click()
    reference.locator("input[type=file]").set_input_files(picture)
    expect(reference).to_contain_text("reference")
    expect(plan).not_to_contain_text("cannot be used")

    page.get_by_role("button", name="Render", exact=True).click()
    failed = page.locator(".as-is-failed", has_text="a fox")
    expect(failed).to_be_visible()
    choose(engine, "Starter", page)
    expect(loras).to_be_hidden()
    expect(reference).to_be_hidden()
    expect(cache).to_be_hidden()
    failed.get_by_role("button", name="Use settings").click()
    expect(loras).to_have_value("owner/name:0.8\nowner/other")
    expect(cache).to_have_value("mag:0.1")
    page.reload()
    expect(page.get_by_label("Prompt")).to_be_editable()
    page.get_by_role("button", name="Advanced").click()
    expect(loras).to_have_value("owner/name:0.8\nowner/other")
    expect(reference).to_contain_text(".png")


def choose(box: Locator, name: str, page: Page) -> None:
    """Choose what is called `name` in a box."""
    box.click()
    page.get_by_role("option", name=name, exact=True).click()
