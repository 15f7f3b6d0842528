"""The porch: a light page in which a prompt can be written while the studio behind it opens.

It is served before Gradio is imported, on the port that the studio's own server takes over when it
is ready. The light page asks until that answers, and then lets the real one come to be beneath it
(`porch.html`), which takes over what was written (`studio.js`).
"""

from __future__ import annotations

import os
import socket
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import urlsplit

from aiprod_studio.errors import StudioError
from aiprod_studio.report import write_line
from aiprod_studio.settings import settings
from aiprod_studio.ui.form import FORM, load_form
from aiprod_studio.ui.guard import REFUSAL, is_own
from aiprod_studio.ui.prefs import load_prefs
from aiprod_studio.ui.sheets import fill_page
from aiprod_studio.ui.texts import Texts, choose_language

HOST = "127.0.0.1"
FIRST_PORT, PORTS_TRIED = 7860, 100
LOOK_SECONDS = 0.02
SLOWEST_SECONDS = 10.0


class Porch:
    """The light page on a socket that listens; `leave` hands the port on."""

    def __init__(self, listener: socket.socket, page: str) -> None:
        self._listener = listener
        self._port: int = listener.getsockname()[1]
        self._server = _Server(listener, page)
        threading.Thread(
            target=self._server.serve_forever, args=(LOOK_SECONDS,), name="porch", daemon=True
        ).start()

    @property
    def address(self) -> str:
        """Where the page is, and where the studio will be."""
        return f"http://{HOST}:{self._port}/"

    def leave(self) -> int:
        """Answer no more, tell the pages that are open, and return the port, which is free."""
        self._server.shutdown()
        self._listener.close()
        self._server.left.set()
        return self._port


@contextmanager
def open_porch(port: int | None = None, browser: bool = True) -> Iterator[Porch]:
    """Serve the light page, say where, and show it in the browser; raises `StudioError`.

    Without a `port` the first free one from 7860 on is taken. The socket is closed in the end.
    """
    say = own_texts()
    page = draw_porch(load_form(settings().home / FORM).prompt, say)
    with _listen_somewhere(port) as listener:
        porch = Porch(listener, page)
        write_line(say("app.opening", address=porch.address))
        if browser:  # some wait for it to end
            threading.Thread(target=webbrowser.open, args=(porch.address,), daemon=True).start()
        try:
            yield porch
        finally:
            porch.leave()


def own_texts() -> Texts:
    """Return the texts in the owner's language."""
    return Texts(choose_language(load_prefs().language))


def draw_porch(prompt: str, say: Texts) -> str:
    """Return the light page, which begins with the prompt of the form that was kept."""
    texts = ("field.prompt", "create.placeholder", "app.starting", "app.porch", "app.ended")
    parts = {key.rpartition(".")[2]: escape(say(key)) for key in texts}
    parts |= {"language": say.language, "direction": say.direction}
    return fill_page("porch.html", {**parts, "written": escape(prompt)})


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address of this machine; raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        if os.name == "posix":  # elsewhere it would let two programs share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(socket.SOMAXCONN)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_somewhere(port: int | None) -> socket.socket:
    """Return a socket that listens on `port`, else on the first free one; raises `StudioError`."""
    ports = range(FIRST_PORT, FIRST_PORT + PORTS_TRIED) if port is None else [port]
    for each in ports:
        try:
            return listen(HOST, each)
        except OSError:
            continue
    taken = port or f"from {ports[0]} to {ports[-1]}"
    raise StudioError(
        f"The port {taken} is in use. Close the program that uses it, or choose another one with "
        "--port."
    )


class _Server(ThreadingHTTPServer):
    """Answers on a socket that listens already."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, page: str) -> None:
        super().__init__(listener.getsockname(), _Answer, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.page = page.encode()
        self.left = threading.Event()


class _Answer(BaseHTTPRequestHandler):
    """Answers one request: with the light page, or not before the porch is left."""

    timeout = SLOWEST_SECONDS

    def do_GET(self) -> None:
        """Answer a request; what only the studio has is refused for now."""
        porch = cast(_Server, self.server)
        told = [(name.lower().encode(), text.encode()) for name, text in self.headers.items()]
        path = urlsplit(self.path).path
        if not is_own(told):
            self._send(403, "text/plain", REFUSAL.encode())
        elif path == "/":
            self._send(200, "text/html", porch.page)
        elif path == "/porch":
            porch.left.wait()
            self._send(204, "text/plain", b"")
        else:
            self._send(503, "text/plain", b"The studio is opening. Try again in a moment.\n")

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet: the terminal is for the owner."""
