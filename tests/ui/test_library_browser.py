"""The library in a real browser: compare, export, drop, delete and undo, extend."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from aiprod_studio.library.provenance import read_request, save_clip
from aiprod_studio.media.clip import Clip
from aiprod_studio.media.video import probe
from aiprod_studio.types import Plan, Request
from tests.ui.conftest import PATIENCE_MS, Served

pytestmark = pytest.mark.browser

PLAN = Plan("cpu", "float32", 64, 64, 17, 1, 0, {"load": 1}, 1.0, ("a reason",))
DROP = """([target, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], 'clip.mp4', { type: 'video/mp4' }));
  const options = { dataTransfer: carried, bubbles: true, cancelable: true };
  document.querySelector(target).dispatchEvent(new DragEvent('drop', options));
}"""
TIMES = "videos => videos.map((video) => video.currentTime)"
STOPPED = "videos => videos.map((video) => video.paused)"


def make_clip(path: Path, prompt: str, seed: int, frames: int = 17) -> Path:
    """Return a clip of 8 frames a second with its settings inside."""
    pictures = np.full((frames, 64, 64, 3), 90, np.uint8)
    pictures[:, :, ::8] = np.arange(frames, dtype=np.uint8)[:, None, None, None] * 9
    request = Request(prompt, seed=seed, steps=2, seconds=0.6, width=64, height=64, fps=8.0)
    save_clip(path, Clip(pictures, 8.0, None, 0), request, PLAN)
    return path


@pytest.fixture
def page(served: Served, browser: Browser) -> Page:
    """The library with three clips that were made elsewhere."""
    for seed in (1, 2, 3):
        make_clip(served.home / "outputs" / f"kite-{seed}.mp4", f"kite number {seed}", seed)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(served.address)
    expect(page.get_by_label("Prompt")).to_be_editable()
    page.get_by_role("tab", name="Library").click()
    page.get_by_label("Search").fill("kite number")
    expect(page.locator(".as-shelf .as-tile")).to_have_count(3)
    return page


def pick(page: Page, *seeds: int) -> None:
    """Pick clips by their seeds."""
    for seed in seeds:
        tile = page.locator(".as-shelf .as-tile", has_text=f"kite number {seed}")
        tile.get_by_role("button", name="Pick").click()
        expect(tile.get_by_role("button", name="Picked")).to_be_visible()


def test_two_clips_side_by_side_do_the_same(page: Page) -> None:
    pick(page, 1, 2)
    page.get_by_role("button", name="Compare").click()
    pair = page.locator(".as-compare video")
    expect(pair).to_have_count(2)
    expect(page.locator(".as-compare")).to_contain_text("kite number 2")
    page.get_by_role("button", name="Play both").click()
    page.wait_for_function(
        "[...document.querySelectorAll('.as-compare video')].every((one) => one.currentTime > 0.2)"
    )
    first, second = pair.evaluate_all(TIMES)
    assert abs(first - second) < 0.25
    pair.first.evaluate("video => video.pause()")
    expect(pair.last).to_have_js_property("paused", True)
    pair.last.evaluate("video => { video.currentTime = 1.5; }")
    expect(pair.first).to_have_js_property("currentTime", 1.5)
    pair.last.evaluate("video => { video.play(); }")
    expect(pair.first).to_have_js_property("paused", False)
    assert pair.evaluate_all(STOPPED) == [False, False]


def test_picked_clips_are_copied_to_a_folder(page: Page, served: Served, tmp_path: Path) -> None:
    pick(page, 1, 3)
    page.get_by_label("Export to this folder").fill(str(tmp_path / "for anna"))
    page.get_by_role("button", name="Export", exact=True).click()
    expect(page.get_by_text("2 copied to")).to_be_visible()
    copies = sorted((tmp_path / "for anna").iterdir())
    assert [copy.name for copy in copies] == ["kite-1.mp4", "kite-3.mp4"]
    assert copies[0].read_bytes() == (served.home / "outputs" / "kite-1.mp4").read_bytes()


def test_a_clip_that_is_dropped_gives_its_settings_back(page: Page, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "from-afar.mp4", "a lighthouse in the snow", 77)
    page.evaluate(DROP, [".as-shelf", base64.b64encode(clip.read_bytes()).decode()])
    prompt = page.get_by_label("Prompt")
    expect(prompt).to_be_visible()
    expect(prompt).to_have_value("a lighthouse in the snow")
    expect(page.get_by_role("spinbutton", name="Seed")).to_have_value("77")
    expect(page.get_by_label("Size")).to_have_value("64x64")


def test_a_deleted_clip_comes_back(page: Page, served: Served) -> None:
    path = served.home / "outputs" / "kite-2.mp4"
    tiles = page.locator(".as-shelf .as-tile")
    tiles.filter(has_text="kite number 2").locator(".as-open").click()
    page.get_by_role("button", name="Delete").click()
    expect(tiles).to_have_count(2)
    assert not path.exists()
    page.get_by_role("button", name="Bring the last one back").click()
    expect(tiles).to_have_count(3)
    assert read_request(path).prompt == "kite number 2"


def test_a_clip_is_extended_from_the_library(page: Page, served: Served) -> None:
    page.locator(".as-tile", has_text="kite number 1").locator(".as-open").click()
    page.get_by_role("button", name="Extend").click()
    expect(page.get_by_label("The end of a clip")).to_be_checked()
    expect(page.locator("#as-extend video")).to_be_visible()
    expect(page.get_by_label("Trim video to selection")).not_to_be_visible()
    expect(page.get_by_label("Size")).to_have_value("As the clip")
    page.get_by_label("Prompt").fill("the kite flies on")
    expect(page.locator("#as-plan")).to_contain_text("Fits")
    page.get_by_role("button", name="Render", exact=True).click()
    done = page.locator(".as-is-done", has_text="the kite flies on")
    expect(done).to_be_visible()
    [made] = (served.home / "outputs").glob("the-kite-flies-on*.mp4")
    assert probe(made).frames == 17 + 4
    page.reload()
    expect(page.locator("#as-extend video")).to_be_visible()
