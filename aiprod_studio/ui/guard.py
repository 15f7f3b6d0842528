"""The guard: lets nothing but the studio's own pages speak to the studio.

A web page elsewhere can send requests to 127.0.0.1, and a name that an attacker owns can be made
to point there. Both show: the first in the Origin header, the second in the Host header.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OWN_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
REFUSAL = "The studio answers only to its own page. Open it at the address that it printed.\n"


@dataclass
class Hosts:
    """The names under which a server may be asked; with `addresses` any bare IP address too.

    An attacker can let a name point anywhere, never an address. A tunnel adds its name once it is
    open.
    """

    names: set[str]
    addresses: bool = False

    def know(self, name: str) -> bool:
        """Say whether `name` is one of them."""
        return name in self.names or (self.addresses and is_address(name))


class Guard:
    """An ASGI middleware that refuses every request with a foreign Host or Origin header."""

    def __init__(self, app: App, hosts: Hosts | None = None) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 403 and a sentence."""
        if scope["type"] == "lifespan" or is_own(scope["headers"], self.hosts):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            kind = (b"content-type", b"text/plain; charset=utf-8")
            await send({"type": "http.response.start", "status": 403, "headers": [kind]})
            await send({"type": "http.response.body", "body": REFUSAL.encode()})
        else:
            await send({"type": "websocket.close", "code": 1008})


def is_own(headers: list[tuple[bytes, bytes]], hosts: Hosts | None = None) -> bool:
    """Say whether a request comes from the studio's own page, by its headers.

    Without `hosts` that is a page of this machine.
    """
    told = {name: value.decode("latin-1") for name, value in headers}
    host, origin = told.get(b"host", ""), told.get(b"origin")
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if not (name in OWN_HOSTS if hosts is None else hosts.know(name)):
            return False
        # Another program on this machine may serve a page too: the port must be the same.
        return origin is None or urlsplit(origin).netloc == host
    except ValueError:
        return False


def is_address(name: str) -> bool:
    """Say whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
