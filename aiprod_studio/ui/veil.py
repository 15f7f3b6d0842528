"""The veil: what visitors are sent names no folder of this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from urllib.parse import quote

from aiprod_studio.ui.guard import Scope, Send

ALIAS = "studio:"
"""What stands for the studio's data folder outside of this machine."""

_TEXTS = (b"application/json", b"text/event-stream", b"text/html")


class Veil:
    """Replaces the path of the folder `home` by `ALIAS` on the way out, and back on the way in.

    Those of `others` are replaced by their aliases, and not back.
    """

    def __init__(self, home: Path, others: Mapping[Path, str]) -> None:
        self._home = str(home)
        folders = {**others, home: ALIAS}
        # What lies inside of another goes first. A root alone is no secret, and in every address.
        deepest = sorted(folders, key=lambda folder: len(folder.parts), reverse=True)
        self._aliases = [
            (_pattern(folder), folders[folder].encode())
            for folder in deepest
            if len(folder.parts) > 1
        ]

    def lift(self, text: str) -> str:
        """Return a path from outside as one of this machine."""
        return self._home + text.removeprefix(ALIAS) if text.startswith(ALIAS) else text

    def hide(self, body: bytes) -> bytes:
        """Return what may go out."""
        for path, alias in self._aliases:
            body = path.sub(alias, body)
        return body

    def over(self, send: Send) -> Send:
        """Return a `send` that hides the folders in every text that is no file.

        Each part of an event stream is one whole message, so that no path is cut in two.
        """
        start: Scope | None = None
        texts = False

        async def veiled(message: Scope) -> None:
            nonlocal start, texts
            if message["type"] == "http.response.start":
                kinds = [value for name, value in message["headers"] if name == b"content-type"]
                texts = any(kind.startswith(_TEXTS) for kind in kinds)
                # Only what tells its length must wait until it is known.
                if texts and b"content-length" in dict(message["headers"]):
                    start = message
                    return
            elif texts and message["type"] == "http.response.body":
                message = {**message, "body": self.hide(message.get("body", b""))}
                if start is not None:
                    await send(_resized(start, len(message["body"])))
                    start = None
            await send(message)

        return veiled


def _pattern(folder: Path) -> re.Pattern[bytes]:
    """Return what finds the path of a folder: as it is, in an address, in HTML; each in JSON too.

    It must stand for itself: a folder `/data` is no part of the address `/queue/data`.
    """
    told = {str(folder), folder.as_posix()}
    told |= {code(text) for text in tuple(told) for code in (quote, escape)}
    told |= {json.dumps(text, ensure_ascii=plain)[1:-1] for text in told for plain in (True, False)}
    longest = sorted(told, key=len, reverse=True)
    names = b"|".join(re.escape(text.encode()) for text in longest)
    return re.compile(rb"(?<![\w./:-])(?:" + names + rb")(?![\w-])")


def _resized(start: Scope, length: int) -> Scope:
    """Return the start of an answer with the length that it now has."""
    headers = [pair for pair in start["headers"] if pair[0] != b"content-length"]
    return {**start, "headers": [*headers, (b"content-length", str(length).encode())]}
