"""The page over HTTP: who is answered, with what, and by a process without torch."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiprod_studio.ui.app import drop_partial
from tests.ui.conftest import Served

PROGRAM = """
import sys
from aiprod_studio.types import Request
from aiprod_studio.ui.app import build_page, open_bench
from aiprod_studio.ui.board import look, queue_clip
from aiprod_studio.ui.cards import draw_board
from aiprod_studio.ui.offers import draw_offers, list_offers
with open_bench() as bench:
    page = build_page(bench)
    queue_clip(bench, Request("a dog"))
    drawn = draw_board(look(bench), bench.say)
    bench.gallery.scan()
    draw_offers(list_offers(bench), bench.say)
print(len(page.blocks) > 20, "a dog" in drawn, "torch" in sys.modules)
"""


def ask(served: Served, path: str, **headers: str) -> tuple[int, bytes]:
    """Return status and body of a request to the studio."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_the_page_is_built_and_used_without_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["True", "True", "False"], done.stderr


def test_the_page_loads_nothing_from_elsewhere(served: Served) -> None:
    status, body = ask(served, "/")
    assert status == 200
    text = body.decode()
    assert "AIPROD Studio" in text
    for foreign in ("fonts.googleapis", "fonts.gstatic", "cdnjs", "api.gradio.app"):
        assert foreign not in text
    config = json.loads(ask(served, "/config")[1])
    assert config["analytics_enabled"] is False
    assert not config.get("stylesheets")


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
)
def test_foreign_pages_are_refused(served: Served, headers: dict[str, str]) -> None:
    status, body = ask(served, "/config", **headers)
    assert status == 403
    assert b"only to its own page" in body


@pytest.mark.parametrize("name", ["studio.db", "form.json", "logs/studio.log"])
def test_no_file_but_clips_and_pictures_is_served(served: Served, name: str) -> None:
    assert ask(served, f"/gradio_api/file={served.home.as_posix()}/{name}")[0] == 403


def test_an_upload_that_broke_off_is_cleared_away_and_a_whole_one_stays(served: Served) -> None:
    uploads = served.home / "uploads"
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = part + b"picture\r\n--b--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    whole = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    whole.request("POST", "/gradio_api/upload", body, kind)
    [kept] = json.loads(whole.getresponse().read())
    whole.close()
    broken = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    broken.putrequest("POST", "/gradio_api/upload")
    broken.putheader("Content-Type", kind["Content-Type"])
    broken.putheader("Content-Length", "1000000")
    broken.endheaders(part + b"pict")
    for _ in range(300):
        left = list(uploads.glob("tmp*"))
        if left:
            break
        time.sleep(0.05)
    assert len(left) == 1
    drop_partial(uploads)
    assert left[0].exists(), "it may still come"
    broken.close()
    os.utime(left[0], (0, 0))
    drop_partial(uploads)
    assert not left[0].exists()
    assert Path(kept).read_bytes() == b"picture"
