"""The page in a real browser, with the real starter behind it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def fill_form(page: Page, prompt: str, steps: int, size: str = "64x64") -> None:
    """Fill the form for a short clip."""
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_label("Size").fill(size)
    page.get_by_label("Size").press("Enter")
    page.get_by_label(re.compile("number input for Length")).fill("0.6")
    if not page.get_by_label("Steps").is_visible():
        page.get_by_role("button", name="Advanced").click()
    page.get_by_label("Steps").fill(str(steps))
    page.get_by_label("Steps").press("Tab")


def test_a_clip_is_made_and_a_reload_loses_nothing(page: Page) -> None:
    plan = page.locator("#as-plan")
    expect(plan).to_contain_text(re.compile("Fits: .* GB, about"))
    fill_form(page, "a red ball on a beach", steps=2, size="50x50")
    expect(plan).to_contain_text("Needs a change")
    fill_form(page, "a red ball on a beach", steps=200)
    expect(plan).to_contain_text("Fits")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".as-running")).to_contain_text("a red ball")
    page.reload()
    expect(page.get_by_label("Prompt")).to_have_value("a red ball on a beach")
    expect(page.locator(".as-running")).to_contain_text("a red ball")
    expect(page.locator(".as-running [role=progressbar]")).to_be_visible()
    expect(page.locator(".as-running img")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".as-is-cancelled")).to_contain_text("Cancelled")
    fill_form(page, "a blue ball on a beach", steps=2)
    page.get_by_role("button", name="Render", exact=True).click()
    expect(page.locator(".as-is-done")).to_contain_text("a blue ball")
    page.get_by_role("tab", name="Library").click()
    expect(page.locator(".as-shelf")).to_contain_text("a blue ball")


def test_drafts_appear_and_one_is_rendered_in_full(page: Page) -> None:
    fill_form(page, "a yellow duck in a lake", steps=5)
    number = page.get_by_label(re.compile("number input for How many"))
    number.fill("2")
    number.press("Tab")
    page.get_by_role("button", name="Make 2 drafts").click()
    expect(page.locator(".as-drafts video")).to_have_count(2)
    page.get_by_role("button", name="Render final").first.click()
    done = page.locator(".as-is-done", has_text="a yellow duck")
    expect(done).to_contain_text("64×64")


def test_the_library_finds_deletes_and_restores(page: Page) -> None:
    page.get_by_role("tab", name="Library").click()
    tiles = page.locator(".as-shelf .as-tile")
    expect(tiles).not_to_have_count(0)
    page.get_by_label("Search").fill("blue")
    expect(tiles).to_have_count(1)
    tiles.locator(".as-open").click()
    expect(page.locator(".as-details")).to_contain_text("a blue ball on a beach")
    page.get_by_role("button", name="Delete").click()
    expect(tiles).to_have_count(0)
    page.get_by_role("button", name="Bring the last one back").click()
    expect(tiles).to_have_count(1)
    tiles.locator(".as-open").click()
    page.get_by_role("button", name="Use settings").click()
    expect(page.get_by_label("Prompt")).to_have_value("a blue ball on a beach")


def test_nothing_is_wider_than_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for tab in ("Create", "Library", "Models", "System"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
