"""A visit to a shared studio with a phone: in by the scanned link, a clip, and out again."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.ui.conftest import PATIENCE_MS, Shared
from tests.ui.test_browser import fill_form

pytestmark = pytest.mark.browser

LOAD = """video => new Promise((ready) => {
  video.onloadeddata = () => ready(video.videoWidth);
  video.preload = 'auto';
  video.load();
})"""


def test_a_phone_signs_in_renders_watches_and_signs_out(browser: Browser, shared: Shared) -> None:
    phone = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    phone.set_default_timeout(PATIENCE_MS)
    phone.goto(shared.link.partition("#")[0])
    phone.get_by_label("Password").fill("wrong")
    phone.get_by_role("button", name="Sign in").click()
    expect(phone.get_by_role("alert")).to_contain_text("not right")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.goto("about:blank")
    phone.goto(shared.link)
    expect(phone.locator("#as-plan")).to_contain_text(re.compile("Fits: .* GB, about"))
    assert "#" not in phone.url
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    assert [tab.inner_text() for tab in phone.get_by_role("tab").all()] == ["Create", "Library"]
    fill_form(phone, "a red ball on a beach", steps=2)
    phone.get_by_role("button", name="Render", exact=True).click()
    clip = phone.locator(".as-is-done video")
    expect(clip).to_have_attribute("src", re.compile("^media/clips/visitors/"))
    assert clip.evaluate(LOAD) == 64
    phone.get_by_role("tab", name="Library").click()
    expect(phone.locator(".as-shelf .as-tile")).to_have_count(1)
    phone.get_by_role("button", name="Sign out").click()
    expect(phone.get_by_label("Password")).to_be_visible()
