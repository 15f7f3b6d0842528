"""The gate: what visitors may ask of a shared studio, once they have signed in.

Everything is refused that is not named here, most of what Gradio itself would answer with it:
what it serves of files, uploads and its description of the page.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from aiprod_studio.errors import StudioError
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.guard import App, Receive, Scope, Send
from aiprod_studio.ui.lockout import Lockout
from aiprod_studio.ui.login import draw_login
from aiprod_studio.ui.media import locate_absolute, send_file
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.tongues import asked_in
from aiprod_studio.ui.veil import Veil
from aiprod_studio.ui.visitors import Visitors, store_upload

log = logging.getLogger(__name__)

COOKIE = "aiprod-visitor"
COOKIE_SECONDS = 30 * 86_400
EVENT_BYTES = 2**18
LOGIN_BYTES = 2**12
ENVELOPE_BYTES = 2**14
NAME_LENGTH = 64

FILE = "/gradio_api/file="
HEARTBEAT = "/gradio_api/heartbeat/"
UPLOAD = "/gradio_api/upload"
PROGRESS = "/gradio_api/upload_progress"
EVENTS = ("/gradio_api/queue/join", "/gradio_api/run/predict")
MESSAGES = "/gradio_api/queue/data"
# The server asks itself for the first of them before anyone can have signed in.
OPEN = ("/gradio_api/startup-events", "/favicon.ico", "/robots.txt")
PAGES = ("/", "/config", "/theme.css", "/gradio_api/theme.css", "/gradio_api/app_id")
# The description of the endpoints that have a name; the page's own have none.
NAMED = "/gradio_api/info"
FOLDERS = ("/assets/", "/static/", "/svelte/", "/media/")


class TooLarge(Exception):
    """More was sent than is read."""


@dataclass(frozen=True)
class Password:
    """A user's name, empty if none is asked for, and the password, kept as a digest alone."""

    user: str
    salt: bytes
    digest: bytes

    def fits(self, user: str, password: str) -> bool:
        """Compare in a time that tells nothing of how much is right."""
        same = secrets.compare_digest(self.digest, _digest(password, self.salt))
        named = not self.user or secrets.compare_digest(self.user.encode(), user.encode())
        return same and named


def keep_password(user: str, password: str) -> Password:
    """Return a password in the form in which it is kept."""
    salt = secrets.token_bytes(16)
    return Password(user, salt, _digest(password, salt))


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(errors="replace"), salt=salt, n=2**12, r=8, p=1)


@dataclass(frozen=True)
class Door:
    """Who may come in, and what they find: all that the gate decides by.

    `secure` says that the page is reached by https alone.
    """

    visitors: Visitors
    password: Password
    lockout: Lockout
    veil: Veil
    say: Texts
    secure: bool


class Gate:
    """An ASGI middleware: who has not signed in gets the login, who has only what is theirs."""

    def __init__(self, app: App, door: Door) -> None:
        self.app = app
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request in its language, or pass it on with the visitor's name in the scope."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        else:
            with asked_in(scope):
                await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        what = (scope["method"], scope["path"])
        visitor = self.door.visitors.find(Request(scope).cookies.get(COOKIE, ""))
        try:
            if what == ("POST", "/login"):
                await (await self._sign_in(scope, receive))(scope, receive, send)
            elif visitor is None and what[0] in ("GET", "HEAD") and what[1] in OPEN:
                await self.app(scope, receive, send)
            elif visitor is None:
                await self._turn_away(scope)(scope, receive, send)
            elif what == ("POST", "/logout"):
                await self._sign_out(visitor)(scope, receive, send)
            else:
                scope["visitor"] = visitor
                await self._serve(scope, receive, send, visitor)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except TooLarge:
            answer = PlainTextResponse("This is more than the studio takes.\n", 413)
            await answer(scope, receive, send)
        except StudioError as error:
            text = self.door.veil.hide(str(error).encode()).decode()
            await PlainTextResponse(f"{text}\n", 400)(scope, receive, send)

    def _turn_away(self, scope: Scope) -> Response:
        if scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            return draw_login(self.door.say, bool(self.door.password.user))
        return PlainTextResponse("Sign in first: open the studio's page.\n", 401)

    async def _sign_in(self, scope: Scope, receive: Receive) -> Response:
        """Begin a session where the password is right; count what is wrong."""
        door, address = self.door, (scope.get("client") or ("",))[0]
        body = await _read(scope, receive, LOGIN_BYTES)
        given = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
        asks = bool(door.password.user)
        # From here to the count nothing waits, so that parallel tries are counted one by one.
        wait = door.lockout.wait(address)
        if wait > 0:
            said = door.say("share.locked", seconds=f"{wait:.0f}")
            locked = draw_login(door.say, asks, said, 429)
            locked.headers["Retry-After"] = str(int(wait) + 1)
            return locked
        if not door.password.fits(*(given.get(name, [""])[0] for name in ("user", "password"))):
            door.lockout.miss(address)
            log.warning("a wrong password came from %s", address)
            return draw_login(door.say, asks, door.say("share.wrong"), 401)
        door.lockout.hit(address)
        try:
            cookie = door.visitors.open()
        except StudioError as error:
            return draw_login(door.say, asks, str(error), 503)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="lax",
            secure=door.secure,
        )
        return answer

    def _sign_out(self, visitor: str) -> Response:
        self.door.visitors.end(visitor)
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=self.door.secure)
        return answer

    async def _serve(self, scope: Scope, receive: Receive, send: Send, visitor: str) -> None:
        """Pass on what may be asked, and answer by itself for files and uploads."""
        method, path = scope["method"], scope["path"]
        bench = self.door.visitors.bench(visitor)
        send = self.door.veil.over(send)
        if method == "POST" and path == UPLOAD:
            await (await self._take_upload(scope, receive, bench))(scope, receive, send)
        elif method == "POST" and path in EVENTS:
            event = await self._read_event(scope, receive, bench, visitor)
            if event is None:
                await _nothing()(scope, receive, send)
            else:
                await self.app(scope, _replay(event, receive), send)
        elif method == "GET" and path == PROGRESS:
            # The page asks how far an upload is; it shows as well without.
            done = Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")
            await done(scope, receive, send)
        elif method in ("GET", "HEAD") and path.startswith(FILE):
            found = self._own_file(path.removeprefix(FILE), bench)
            await (send_file(found) if found else _nothing())(scope, receive, send)
        elif method in ("GET", "HEAD") and self._may_get(scope, visitor):
            await self.app(scope, receive, send)
        else:
            await _nothing()(scope, receive, send)

    def _may_get(self, scope: Scope, visitor: str) -> bool:
        """Say whether a page, a part of it or its messages may be read."""
        path = scope["path"]
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if path == MESSAGES or path.startswith(HEARTBEAT):
            page = path.removeprefix(HEARTBEAT) if path != MESSAGES else ""
            return self._is_own_page(page or query.get("session_hash", [""])[0], visitor)
        if "deep_link" in query or "all_endpoints" in query:
            return False
        return path in (*PAGES, *OPEN, NAMED) or path.startswith(FOLDERS)

    def _is_own_page(self, page: Any, visitor: str) -> bool:
        named = isinstance(page, str) and 0 < len(page) <= NAME_LENGTH
        return named and self.door.visitors.claims(page, visitor)

    def _own_file(self, text: Any, bench: Bench) -> Path | None:
        """Return an upload of the visitor's own by the path that the page knows, or None."""
        if not isinstance(text, str):
            return None
        return locate_absolute(bench.uploads, self.door.veil.lift(text))

    async def _read_event(
        self, scope: Scope, receive: Receive, bench: Bench, visitor: str
    ) -> bytes | None:
        """Return an event with real paths in place of the page's; None if it may not be sent.

        It is written anew, so that no other reader can find something else in it.
        """
        body = await _read(scope, receive, EVENT_BYTES)
        try:
            event = json.loads(body)
        except (ValueError, RecursionError):
            return None
        if not isinstance(event, dict) or not self._is_own_page(event.get("session_hash"), visitor):
            return None
        rest: list[Any] = [event]
        while rest:
            value = rest.pop()
            if isinstance(value, dict) and value.get("path") is not None:
                found = self._own_file(value["path"], bench)
                if found is None:
                    return None
                value["path"], value["url"] = str(found), None
            if isinstance(value, dict | list):
                rest.extend(value.values() if isinstance(value, dict) else value)
        return json.dumps(event).encode()

    async def _take_upload(self, scope: Scope, receive: Receive, bench: Bench) -> Response:
        """Keep one file that the visitor sends; it is refused while it is read."""
        limits = self.door.visitors.limits
        most = int(limits.upload_mb * 1e6)
        _check_length(scope, most + ENVELOPE_BYTES)
        counted = _count(receive, most + ENVELOPE_BYTES)
        try:
            async with Request(scope, counted).form(max_files=1, max_fields=4) as form:
                file = form.get("files")
                if file is None or isinstance(file, str):
                    raise HTTPException(400)
                if (file.size or 0) > most:
                    raise TooLarge
                name, all_bytes = file.filename or "", limits.uploads_mb * 1e6
                path = store_upload(bench, name, file.file, all_bytes)
        except (HTTPException, ClientDisconnect):
            return PlainTextResponse("This upload cannot be read. Send the file once more.\n", 400)
        return JSONResponse([str(path)])


def _nothing() -> Response:
    return PlainTextResponse("There is nothing here for you.\n", 404)


def _check_length(scope: Scope, most: int) -> None:
    """Raise `TooLarge` when a request says that its body is more than `most` bytes."""
    told = dict(scope["headers"]).get(b"content-length", b"0")
    if not told.isdigit() or int(told) > most:
        raise TooLarge


def _count(receive: Receive, most: int) -> Receive:
    """Return a `receive` that raises `TooLarge` as soon as the body is more than `most` bytes."""
    size = 0

    async def counted() -> Scope:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise TooLarge
        return message

    return counted


async def _read(scope: Scope, receive: Receive, most: int) -> bytes:
    """Return the body of a request; raises `TooLarge` and `ClientDisconnect`."""
    _check_length(scope, most)
    return await Request(scope, _count(receive, most)).body()


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already, then what comes after it."""
    given = False

    async def again() -> Scope:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
