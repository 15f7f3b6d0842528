"""The tab Models in a real browser, with a Hub on this machine behind the studio."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from aiprod_studio.engines.catalog import cards
from tests.loopback_hub import File, LoopbackHub, Repo
from tests.ui.conftest import FILES, PATIENCE_MS, REPO, Served, run_studio

pytestmark = pytest.mark.browser
LARGE = "transformer/model.safetensors"
GATED = "Lightricks/LTX-2.5-Diffusers"


class Pinned(Repo):
    """A repository at the commit that the catalogue names."""

    commit = "a6de4b5354f078db24d9cf4778c14846788aea3d"


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.add_repo(REPO, FILES)
        files = {name: File(name, data) for name, data in FILES.items()}
        hub.repos[GATED] = Pinned(GATED, files, gated=True, token="hf_good")
        hub.bad_tokens.add("hf_bad")
        yield hub


@pytest.fixture(scope="module")
def studio(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("HF_ENDPOINT", hub.url)
        changed.setenv("HF_HOME", str(home / "hf"))
        changed.delenv("HF_TOKEN", raising=False)
        with run_studio(home) as served:
            yield served


def open_models(browser: Browser, studio: Served) -> Page:
    """Return a page that shows the models; it says yes to every question."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(studio.address)
    page.get_by_role("tab", name="Models").click()
    return page


def ware(page: Page, name: str) -> Locator:
    """Return what the page shows of a ware."""
    return page.locator(f"[data-ware='{name}']")


def press(place: Locator, name: str) -> None:
    """Press a button of a ware."""
    place.get_by_role("button", name=name, exact=True).click()


def test_a_download_is_paused_found_again_checked_and_deleted(
    hub: LoopbackHub, studio: Served, browser: Browser
) -> None:
    hub.fault(LARGE, bytes_per_second=15_000, times=None)  # slower than any page opens
    page = open_models(browser, studio)
    expect(page.locator(".as-offer")).to_have_count(len(cards()))
    expect(page.locator("[data-engine=starter]")).to_contain_text("Comes with the studio")
    one = ware(page, "wan2.1-1.3b/text")
    expect(one).to_contain_text("Not on this disk, about")
    press(one, "Download")
    expect(one).to_contain_text(re.compile("0.6 MB to download; .* free in .*hf/hub"))
    press(one, "Start")
    expect(one).to_contain_text(re.compile(r"Downloading.* MB / 0.6 MB.* MB/s.* left"))
    page = open_models(browser, studio)  # another tab finds it
    one = ware(page, "wan2.1-1.3b/text")
    expect(one.get_by_role("progressbar")).to_be_visible()
    press(one, "Pause")
    expect(one).to_contain_text(re.compile("MB of 0.6 MB on this disk"))
    hub.faults.clear()
    press(one, "Go on")
    press(one, "Verify")
    expect(one).to_contain_text("All 9 files are right.")
    press(one, "Close")
    press(one, "Delete")
    expect(one).to_contain_text("Not on this disk")
    first, second = hub.sent(LARGE)
    assert 0 < second[0] <= first[1]


def test_terms_are_accepted_once_and_a_token_opens_the_gate(
    hub: LoopbackHub, studio: Served, browser: Browser
) -> None:
    page = open_models(browser, studio)
    one = ware(page, "ltx-2/2.5")
    press(one, "Download")
    expect(one).to_contain_text("enter a token of that account below")
    expect(one.get_by_role("link", name=f"{hub.url}/{GATED}")).to_be_visible()
    token = page.get_by_label("Hugging Face token")
    for text, said in (("hf_bad", "refuses this token"), ("hf_other", "accept the terms")):
        token.fill(text)
        page.get_by_role("button", name="Test and keep").click()
        expect(page.get_by_text(re.compile(said))).to_be_visible()
    token.fill("hf_good")
    page.get_by_role("button", name="Test and keep").click()
    expect(page.locator("#as-token-told")).to_contain_text("The token opens LTX-2 2.5.")
    expect(token).to_have_value("")
    press(one, "Try again")
    expect(one).to_contain_text("you accept this licence: LTX-2 Community License Agreement")
    press(one, "Accept and start")
    press(one, "Delete")
    expect(one).to_contain_text("Not on this disk")
    press(one, "Download")
    press(one, "Start")  # accepted once
    expect(one).to_contain_text("On this disk")


def test_weights_of_another_folder_are_found(studio: Served, browser: Browser) -> None:
    page = open_models(browser, studio)
    one = ware(page, "wan2.1-1.3b/text")
    press(one, "Download")
    press(one, "Start")
    expect(one).to_contain_text("On this disk")
    folder = page.get_by_label("Folder of the weights")
    expect(folder).to_have_value(str(studio.home / "hf" / "hub"))
    folder.fill(str(studio.home / "other"))
    page.get_by_role("button", name="Use this folder").click()
    expect(one).to_contain_text("Not on this disk")
    folder.fill(str(studio.home / "hf"))
    page.get_by_role("button", name="Use this folder").click()
    expect(one).to_contain_text("On this disk")
    expect(folder).to_have_value(str(studio.home / "hf" / "hub"))
    folder.fill("half/a/path")
    page.get_by_role("button", name="Use this folder").click()
    expect(page.get_by_text("whole path")).to_be_visible()
