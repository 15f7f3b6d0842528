"""What a clip can start from, and in how many stages: as the engine on the form can do it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from aiprod_studio.library.provenance import read_request
from tests.ui.conftest import PATIENCE_MS, Served

pytestmark = pytest.mark.browser


def test_the_form_shows_what_the_engine_can_do(
    served: Served, browser: Browser, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(served.address)
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


def choose(box: Locator, name: str, page: Page) -> None:
    """Choose what is called `name` in a box."""
    box.click()
    page.get_by_role("option", name=name, exact=True).click()
