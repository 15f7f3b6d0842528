"""The porch: the light page before the studio is open, and what becomes of what is typed there."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from aiprod_studio.errors import StudioError
from aiprod_studio.settings import settings
from aiprod_studio.ui.form import FORM, Form, save_form
from aiprod_studio.ui.porch import draw_porch, listen, open_porch
from aiprod_studio.ui.texts import LANGUAGES, Texts
from tests.ui.conftest import PATIENCE_MS, find_port, read_address, start_studio

HEAVY = "{'gradio', 'torch', 'sqlalchemy', 'av', 'starlette'} & sys.modules.keys()"


def ask(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    """Return status and body of a request to whoever listens on a port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def port_of(address: str) -> int:
    """Return the port of an address."""
    return int(address.rstrip("/").rpartition(":")[2])


def test_the_light_page_waits_for_no_heavy_library() -> None:
    program = f"import sys; import aiprod_studio.ui.porch, aiprod_studio.ui.share; print({HEAVY})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_the_page_is_there_with_the_last_prompt_and_the_rest_is_not_yet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings().home.mkdir(parents=True)
    save_form(Form(prompt="a <b>dog</b>"), settings().home / FORM)
    with open_porch(browser=False) as porch:
        port = port_of(porch.address)
        assert porch.address in capsys.readouterr().out
        status, page = ask(port, "/?__theme=dark")
        assert status == 200
        assert b"a &lt;b&gt;dog&lt;/b&gt;" in page
        assert ask(port, "/config")[0] == 503
        assert ask(port, "/", Origin=f"http://127.0.0.1:{port}")[0] == 200


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
)
@pytest.mark.parametrize("path", ["/", "/porch"])
def test_foreign_pages_are_refused(path: str, headers: dict[str, str]) -> None:
    with open_porch(browser=False) as porch:
        status, body = ask(port_of(porch.address), path, **headers)
    assert status == 403
    assert b"only to its own page" in body


def test_whoever_waits_is_told_that_it_is_left_and_the_port_is_free() -> None:
    with open_porch(browser=False) as porch:
        port = port_of(porch.address)
        waits = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        waits.request("GET", "/porch")
        assert ask(port, "/")[0] == 200  # who comes later is let in later
        assert porch.leave() == port
        assert waits.getresponse().status == 204
        waits.close()
        with listen("127.0.0.1", port) as free:
            assert free.getsockname()[1] == port


def test_a_port_that_is_taken_is_passed_over_or_told() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StudioError, match=f"port {port} is in use.*--port"), open_porch(port):
            pass
    with open_porch(browser=False) as first, open_porch(browser=False) as second:
        assert port_of(first.address) < port_of(second.address)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_speaks_the_owners_language(language: str) -> None:
    page = draw_porch("", Texts(language))
    assert f'<html lang="{language}" dir="{"rtl" if language == "ar" else "ltr"}">' in page
    assert Texts(language)("field.prompt") in page


def test_a_studio_that_is_told_to_stop_while_it_opens_stops_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    port = find_port()
    with start_studio(tmp_path, port) as process:
        read_address(process, port)
        process.terminate()
        assert process.communicate(timeout=30)[0] == ""
    assert capfd.readouterr().err == ""
    with listen("127.0.0.1", port) as free:
        assert free.getsockname()[1] == port


def open_page(browser: Browser, port: int) -> Page:
    """Return a page of the studio on a port, which lies in the light one's prompt."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"http://127.0.0.1:{port}/")
    return page


@pytest.mark.browser
def test_no_letter_is_lost_when_the_studio_takes_over(tmp_path: Path, browser: Browser) -> None:
    (tmp_path / FORM).write_text(json.dumps({"prompt": "a dog "}), encoding="utf-8")
    port = find_port()
    with start_studio(tmp_path, port) as process:
        read_address(process, port)
        page = open_page(browser, port)
        light, prompt = page.locator("#porch textarea"), page.locator("#as-prompt textarea")
        expect(light).to_be_focused()
        expect(light).to_have_value("a dog ")
        typed = "a dog "
        for number in range(10_000):
            word = f"and {number} cats "
            page.keyboard.type(word)
            typed += word
            if light.count() == 0:
                break
        page.keyboard.type("END")
        expect(prompt).to_be_focused()
        expect(prompt).to_have_value(f"{typed}END")
        expect(page.locator("#as-plan")).to_contain_text("Fits")
        assert page.evaluate("document.querySelectorAll('[inert]').length") == 0
        page.reload()
        expect(prompt).to_have_value(f"{typed}END")


@pytest.mark.browser
def test_the_cursor_and_a_word_half_put_together_stay(tmp_path: Path, browser: Browser) -> None:
    port = find_port()
    with start_studio(tmp_path, port) as process:
        read_address(process, port)
        page = open_page(browser, port)
        light, prompt = page.locator("#porch textarea"), page.locator("#as-prompt textarea")
        light.fill("a cat")
        light.press("Home")
        light.press("ArrowRight")
        light.dispatch_event("compositionstart")
        expect(page.locator("#as-prompt textarea:enabled")).to_have_count(1)
        expect(light).to_be_focused()
        light.dispatch_event("compositionend")
        expect(light).to_have_count(0)
        page.keyboard.type(" red")
        expect(prompt).to_have_value("a red cat")


@pytest.mark.browser
def test_what_was_typed_outlives_the_tab_and_the_studio(tmp_path: Path, browser: Browser) -> None:
    port, context = find_port(), browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    with start_studio(tmp_path, port) as process:
        read_address(process, port)
        page.goto(f"http://127.0.0.1:{port}/")
        page.locator("#porch textarea").fill("a whale")
        process.terminate()
        expect(page.locator("#porch [role=status]")).to_contain_text("Start it again")
    other = context.new_page()
    other.set_default_timeout(PATIENCE_MS)
    with start_studio(tmp_path, port) as process:
        read_address(process, port)
        expect(page.locator("#as-prompt textarea:enabled")).to_have_value("a whale")
        page.evaluate("localStorage.setItem('aiprod-draft', 'a squid')")
        page.close()
        other.goto(f"http://127.0.0.1:{port}/")
        expect(other.locator("#as-prompt textarea:enabled")).to_have_value("a squid")
        assert other.evaluate("localStorage.getItem('aiprod-draft')") is None
