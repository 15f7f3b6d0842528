"""A full disk on the page: the clip that no room was left for says so, and the next one is made."""

from __future__ import annotations

import os
import re

import psutil
import pytest
from playwright.sync_api import Browser, expect

from tests.ui.conftest import PATIENCE_MS, Served
from tests.ui.test_browser import fill_form

pytestmark = pytest.mark.browser
resource = pytest.importorskip("resource")

# Between the files of the two clips below, and above all else that a worker writes.
ROOM = 400_000


def find_worker(served: Served) -> int:
    """Return the number of the process that renders for the studio."""
    for process in psutil.process_iter():
        try:
            told = (process.environ().get("AIPROD_HOME"), process.cmdline()[-1:])
        except psutil.Error:
            continue
        if told == (str(served.home), ["worker"]):
            return process.pid
    raise AssertionError("no worker runs")


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux limits another process")
def test_a_clip_without_room_says_so_and_the_next_is_made(served: Served, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(served.address)
    expect(page.locator("#as-plan")).to_contain_text("Fits")
    worker = find_worker(served)
    hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (ROOM, hard))
    button = page.get_by_role("button", name="Render", exact=True)
    fill_form(page, "a red ball on a beach", steps=2, size="1024x1024")
    page.get_by_label(re.compile("number input for Length")).fill("2")
    page.get_by_label("Steps").press("Tab")
    button.click()
    expect(page.locator("#as-board")).to_contain_text("a red ball")
    fill_form(page, "a blue ball on a beach", steps=2)
    button.click()
    failed = page.locator(".as-is-failed", has_text="a red ball")
    expect(failed).to_contain_text("The disk is full")
    expect(failed).to_contain_text("Free some space")
    expect(page.locator(".as-is-done", has_text="a blue ball")).to_be_visible()
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (hard, hard))
    failed.get_by_role("button", name="Try again").click()
    expect(page.locator(".as-is-done", has_text="a red ball")).to_be_visible()
    assert find_worker(served) == worker
