"""What keeps people out of the page: axe-core looks at every tab, light, dark and in Arabic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, expect

from aiprod_studio.ui.porch import open_porch
from aiprod_studio.ui.prefs import Prefs, save_prefs
from aiprod_studio.ui.tabs import TABS
from tests.ui.conftest import PATIENCE_MS, Served

pytestmark = pytest.mark.browser
AXE = Path(axe_playwright_python.__path__[0]) / "axe.min.js"
LOOK = "axe.run(document, { resultTypes: ['violations'] })"


def violations(page: Page) -> list[str]:
    """Return each serious or critical violation with the element that it is about."""
    found: dict[str, Any] = page.evaluate(LOOK)
    return [
        f"{one['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def check_tabs(page: Page) -> None:
    """Let axe look at every tab, in light and in dark."""
    page.add_script_tag(path=AXE)
    # Gradio's own notes, which go by themselves, hold a button inside a button.
    expect(page.locator(".toast-header")).to_have_count(0)
    tabs = page.get_by_role("tablist").get_by_role("tab")
    expect(tabs).to_have_count(len(TABS))
    for number, name in enumerate(TABS):
        tabs.nth(number).click()
        page.wait_for_timeout(700)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.wait_for_timeout(200)
            assert violations(page) == [], f"{name} in {scheme}"


def test_axe_finds_nothing_serious(served: Served, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(served.address)
    check_tabs(page)


def test_axe_finds_nothing_serious_in_arabic(served: Served, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(served.address)
    page.get_by_role("tab", name="System").click()
    choose(page, "Language", "العربية")
    expect(page.get_by_text("أعد تحميل الصفحة").first).to_be_visible()
    page.reload()
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.get_by_role("tab", name="إنشاء")).to_be_visible()
    check_tabs(page)
    choose(page, "اللغة", "English")


def choose(page: Page, label: str, choice: str) -> None:
    """Choose from the list called `label`."""
    page.get_by_label(label).first.click()
    page.get_by_role("option", name=choice, exact=True).click()


@pytest.mark.parametrize("language", ["en", "ar"])
def test_axe_finds_nothing_serious_on_the_light_page(language: str, browser: Browser) -> None:
    save_prefs(Prefs(language))
    page = browser.new_page(viewport={"width": 390, "height": 844})
    with open_porch(browser=False) as porch:
        page.goto(porch.address)
        page.add_script_tag(path=AXE)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == [], f"{language} in {scheme}"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
