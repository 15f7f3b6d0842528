"""A visit to a shared studio with a phone: in by the scanned link, a clip, and out again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from aiprod_studio.ui.texts import Texts
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


def test_a_visitor_begins_with_a_picture(browser: Browser, shared: Shared, tmp_path: Path) -> None:
    page = browser.new_context(locale="de-DE").new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(shared.link)
    say, plan = Texts("de"), page.locator("#as-plan")
    upload = page.locator("#as-image input[type=file]")
    expect(plan).to_contain_text("Passt")
    page.get_by_label(say("mode.picture"), exact=True).check()
    good, cut = tmp_path / "good.png", tmp_path / "cut.png"
    Image.effect_noise((64, 64), 80).save(good)
    cut.write_bytes(good.read_bytes()[:1000])
    upload.set_input_files(cut)
    expect(plan).to_contain_text("Erstes Bild lässt sich nicht verwenden")
    page.get_by_label("Bild entfernen").or_(page.get_by_label("Remove Image")).click()
    upload.set_input_files(good)
    expect(plan).to_contain_text("Passt")
    page.locator("#as-prompt textarea").fill("ein Bild beginnt")
    page.get_by_role("button", name=say("create.render"), exact=True).click()
    expect(page.locator(".as-is-done")).to_contain_text("ein Bild", timeout=4 * PATIENCE_MS)


def test_every_visitor_reads_their_own_language(browser: Browser, shared: Shared) -> None:
    """One by the browser's language, one by a choice; the owner's stays as it is."""
    german, arab = (browser.new_context(locale=locale).new_page() for locale in ("de-DE", "en-GB"))
    for page in (german, arab):
        page.set_default_timeout(PATIENCE_MS)
    german.goto(shared.link.partition("#")[0])
    expect(german.get_by_role("button", name="Anmelden")).to_be_visible()
    german.goto("about:blank")
    german.goto(shared.link)
    expect(german.locator("#as-plan")).to_contain_text(re.compile("Passt: .* GB, etwa"))
    assert [tab.inner_text() for tab in german.get_by_role("tab").all()] == [
        "Erstellen",
        "Bibliothek",
    ]
    arab.goto(shared.link)
    expect(arab.get_by_role("tab", name="Create")).to_be_visible()
    arab.get_by_label("Language").select_option("ar")
    expect(arab.get_by_role("tab", name="المكتبة")).to_be_visible()
    expect(arab.locator("html")).to_have_attribute("dir", "rtl")
    expect(arab.locator("#as-board")).to_contain_text(Texts("ar")("ideas.title"))
    fill = arab.locator("#as-prompt textarea")
    expect(fill).to_be_editable()
    arab.get_by_role("button", name=Texts("ar")("create.render"), exact=True).click()
    expect(arab.get_by_text(Texts("ar")("said.no_prompt"))).to_be_visible()
    german.reload()
    expect(german.locator("html")).to_have_attribute("lang", "de")
    owner = browser.new_context(locale="fr-FR").new_page()
    owner.goto(shared.owner.address)
    expect(owner.get_by_role("tab", name="Create")).to_be_visible()
