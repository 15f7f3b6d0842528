"""The veil: no folder of this machine leaves it."""

from __future__ import annotations

import asyncio
import json
from html import escape
from pathlib import Path
from urllib.parse import quote

import pytest

from aiprod_studio.ui.guard import Scope
from aiprod_studio.ui.veil import Veil

HOME = Path("/home/märy & co/AIPROD Studio")
VEIL = Veil(HOME, {Path("/home/märy & co"): "~", Path("/"): "/"})


@pytest.mark.parametrize("code", [str, quote, escape])
@pytest.mark.parametrize("plain", [True, False])
def test_every_way_of_writing_a_path_is_hidden(code: object, plain: bool) -> None:
    assert callable(code)
    told = json.dumps({"path": code(f"{HOME}/a.png")}, ensure_ascii=plain)
    assert json.loads(VEIL.hide(told.encode())) == {"path": "studio:/a.png"}
    assert VEIL.hide("in '/home/märy & co/x'".encode()) == b"in '~/x'"


def test_what_only_looks_like_a_path_stays() -> None:
    veil = Veil(Path("/data"), {})
    assert veil.hide(b'"/queue/data?a" "/database"') == b'"/queue/data?a" "/database"'
    assert veil.hide(b'file=/data/a.png "/data"') == b'file=studio:/a.png "studio:"'


def test_a_path_comes_back() -> None:
    assert VEIL.lift("studio:/uploads/a.png") == f"{HOME}/uploads/a.png"
    assert VEIL.lift("/etc/passwd") == "/etc/passwd"


def test_an_answer_keeps_a_true_length() -> None:
    sent: list[Scope] = []

    async def send(message: Scope) -> None:
        sent.append(message)

    async def answer(kind: bytes, body: bytes) -> None:
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        over = VEIL.over(send)
        await over({"type": "http.response.start", "status": 200, "headers": headers})
        await over({"type": "http.response.body", "body": body})

    told = str(HOME).encode()
    asyncio.run(answer(b"application/json", told))
    asyncio.run(answer(b"video/mp4", told))
    assert [message.get("body") for message in sent] == [None, b"studio:", None, told]
    assert dict(sent[0]["headers"])[b"content-length"] == b"7"
    assert dict(sent[2]["headers"])[b"content-length"] == str(len(told)).encode()
