"""The guard: lets nothing but this machine's own browser pages speak to the studio.

A web page elsewhere can send requests to 127.0.0.1, and a name that an attacker owns can be made
to point there. Both show: the first in the Origin header, the second in the Host header.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]

OWN_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
REFUSAL = "The studio answers only to its own page. Open it at http://127.0.0.1 and its port.\n"


class Guard:
    """An ASGI middleware that refuses every request with a foreign Host or Origin header."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 403 and a sentence."""
        if scope["type"] == "lifespan" or is_own(scope["headers"]):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            kind = (b"content-type", b"text/plain; charset=utf-8")
            await send({"type": "http.response.start", "status": 403, "headers": [kind]})
            await send({"type": "http.response.body", "body": REFUSAL.encode()})
        else:
            await send({"type": "websocket.close", "code": 1008})


def is_own(headers: list[tuple[bytes, bytes]]) -> bool:
    """Say whether a request comes from the studio's own page, by its headers."""
    told = {name: value.decode("latin-1") for name, value in headers}
    host, origin = told.get(b"host", ""), told.get(b"origin")
    try:
        if urlsplit(f"//{host}").hostname not in OWN_HOSTS:
            return False
        # Another program on this machine may serve a page too: the port must be the same.
        return origin is None or urlsplit(origin).netloc == host
    except ValueError:
        return False
