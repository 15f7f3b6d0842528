"""A small Hugging Face Hub on 127.0.0.1: a real HTTP server with real faults, for tests.

    with LoopbackHub() as hub:
        hub.add_repo("owner/name", {"model.safetensors": b"..."})
        hub.fault("*.safetensors", break_after=1000)     # send 1,000 bytes, then hang up

Large files are redirected to another host name, as the Hub redirects to its CDN. `hub.log` keeps
every request with what was sent of which byte on.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree|auth-check)(?:/([^/]+))?)?")
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
CDN = re.compile(r"/cdn/([0-9a-f]{64})")
CHUNK = 16384


@dataclass(frozen=True)
class File:
    """One file of a repository; a large one (`lfs`) is known by SHA-256, others by git's SHA-1."""

    path: str
    data: bytes

    @property
    def lfs(self) -> bool:
        return self.path.endswith(".safetensors")

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def blob_id(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    def row(self) -> dict[str, Any]:
        """Return what the Hub's listing of a folder says of the file."""
        size = len(self.data)
        row = {"type": "file", "path": self.path, "size": size, "oid": self.blob_id}
        lfs = {"oid": self.sha256, "size": size, "pointerSize": 134}
        return {**row, "lfs": lfs} if self.lfs else row

    def describe(self) -> dict[str, Any]:
        """Return what the Hub's API says of the file."""
        row: dict[str, Any] = {
            "rfilename": self.path,
            "size": len(self.data),
            "blobId": self.blob_id,
        }
        if self.lfs:
            row["lfs"] = {"sha256": self.sha256, "size": len(self.data), "pointerSize": 134}
        return row


@dataclass
class Repo:
    """A repository with one commit; `token` is the one that may read it if gated or private."""

    name: str
    files: dict[str, File]
    gated: bool = False
    private: bool = False
    token: str | None = None

    @property
    def commit(self) -> str:
        text = self.name + "".join(file.path + file.blob_id for file in self.files.values())
        return hashlib.sha1(text.encode()).hexdigest()


@dataclass
class Fault:
    """What goes wrong with the next `times` requests (None: all) for a path or the API."""

    pattern: str
    times: int | None = 1
    break_after: int | None = None
    status: int | None = None
    retry_after: str | None = None
    bytes_per_second: int | None = None
    corrupt: int | None = None
    ignore_range: bool = False
    stall: float = 0.0
    page: bool = False


@dataclass
class Entry:
    """One request: its method, the path of the file or of the API, and what was sent."""

    method: str
    path: str
    authorised: bool
    asked: str | None
    status: int = 0
    start: int = 0
    sent: int = 0


@dataclass
class LoopbackHub:
    """The server, started and stopped by `with`."""

    repos: dict[str, Repo] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    log: list[Entry] = field(default_factory=list)
    bad_tokens: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self.server = Server(("127.0.0.1", 0), handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def add_repo(self, name: str, files: dict[str, bytes], **options: Any) -> Repo:
        """Add or replace a repository."""
        self.repos[name] = Repo(name, {k: File(k, v) for k, v in files.items()}, **options)
        return self.repos[name]

    def fault(self, pattern: str, **options: Any) -> None:
        """Let the next requests for paths like `pattern` go wrong."""
        with self.lock:
            self.faults.append(Fault(pattern, **options))

    def take_fault(self, path: str) -> Fault:
        """Return the fault of a request, or one that does nothing."""
        with self.lock:
            for fault in self.faults:
                if fault.times != 0 and fnmatch(path, fault.pattern):
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return Fault(path)

    def sent(self, pattern: str) -> list[tuple[int, int]]:
        """Return each stretch of bytes, first and past the last, that was sent of the files."""
        return [
            (one.start, one.start + one.sent)
            for one in self.log
            if one.sent and fnmatch(one.path, pattern)
        ]


class Server(ThreadingHTTPServer):
    """A server whose clients may hang up at any time: that is what is tested."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.serve()

    def do_GET(self) -> None:
        self.serve()

    def serve(self) -> None:
        """Find what is asked for, let the fault happen, answer."""
        path = unquote(urlsplit(self.path).path)
        if found := CDN.fullmatch(path):
            files = (file for repo in self.hub.repos.values() for file in repo.files.values())
            file = next(file for file in files if file.sha256 == found[1])
            self.begin(file.path)
            self.send_file(file)
        elif found := RESOLVE.fullmatch(path):
            self.resolve(found)
        elif found := API.fullmatch(path):
            self.begin(path)
            if not self.fails():
                self.answer_api(found)
        else:
            self.begin(path)
            self.reply(404)

    def begin(self, path: str) -> None:
        """Note the request."""
        asked = self.headers.get("Range")
        authorised = "Authorization" in self.headers
        self.entry = Entry(self.command, path, authorised, asked)
        self.hub.log.append(self.entry)

    def fails(self) -> bool:
        """Stall or answer with an error if a fault says so."""
        self.now = self.hub.take_fault(self.entry.path)
        time.sleep(self.now.stall)
        if self.now.page:  # as a network's login page does
            self.reply(200, b"<html>Please log in</html>")
        if self.now.status:
            headers = {"Retry-After": self.now.retry_after} if self.now.retry_after else {}
            self.reply(self.now.status, headers=headers)
        return bool(self.now.status or self.now.page)

    def token(self) -> str | None:
        """Return the token of the request."""
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def refuses(self, repo: Repo | None, content: bool) -> bool:
        """Answer with an error where the Hub would; `content` is what a gate guards."""
        token = self.token()
        if token in self.hub.bad_tokens:
            said = "Invalid credentials in Authorization header"
            self.reply(401, headers={"X-Error-Message": said})
        elif repo is None or (repo.private and token != repo.token):
            self.reply(404 if token else 401, headers={"X-Error-Code": "RepoNotFound"})
        elif repo.gated and content and token != repo.token:
            self.reply(403 if token else 401, headers={"X-Error-Code": "GatedRepo"})
        else:
            return False
        return True

    def answer_api(self, found: re.Match[str]) -> None:
        """Answer a question about a repository."""
        repo = self.hub.repos.get(found[1])
        if self.refuses(repo, content=found[2] == "auth-check"):
            return
        assert repo is not None
        if found[3] not in (None, "main", repo.commit):
            self.reply(404, headers={"X-Error-Code": "RevisionNotFound"})
            return
        if found[2] == "tree":
            self.reply(200, json.dumps([file.row() for file in repo.files.values()]).encode())
            return
        info = {
            "id": repo.name,
            "sha": repo.commit,
            "gated": "manual" if repo.gated else False,
            "private": repo.private,
            "tags": [],
            "siblings": [file.describe() for file in repo.files.values()],
        }
        self.reply(200, json.dumps(info).encode())

    def resolve(self, found: re.Match[str]) -> None:
        """Answer with a file, or with the address of a large one."""
        repo = self.hub.repos.get(found[1])
        file = repo.files.get(found[3]) if repo else None
        if file and file.lfs:
            self.begin(f"redirect:{file.path}")
        else:
            self.begin(found[3])
        if self.refuses(repo, content=True):
            return
        assert repo is not None
        if file is None or found[2] not in ("main", repo.commit):
            self.reply(404, headers={"X-Error-Code": "EntryNotFound"})
            return
        headers = {"X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        if file.lfs:
            headers["X-Linked-Etag"] = f'"{file.sha256}"'
            headers["X-Linked-Size"] = str(len(file.data))
            headers["Location"] = f"http://localhost:{self.hub.port}/cdn/{file.sha256}"
            self.reply(302, headers=headers)
        else:
            self.send_file(file, {**headers, "ETag": f'"{file.blob_id}"'})

    def send_file(self, file: File, headers: dict[str, str] | None = None) -> None:
        """Send the bytes that are asked for, as far as the fault lets them through."""
        if self.fails():
            return
        data = bytearray(file.data)
        if self.now.corrupt is not None:
            data[self.now.corrupt] ^= 0xFF
        status, headers = 200, dict(headers or {})
        if self.entry.asked and not self.now.ignore_range:
            self.entry.start = int(self.entry.asked.removeprefix("bytes=").split("-")[0])
            status = 206
            span = f"bytes {self.entry.start}-{len(data) - 1}/{len(data)}"
            headers["Content-Range"] = span
        body = bytes(data[self.entry.start :])
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.entry.status = status
        if self.command == "GET":
            self.send_body(body)

    def send_body(self, body: bytes) -> None:
        """Send a body in pieces, at the fault's speed and up to where it breaks."""
        end = len(body) if self.now.break_after is None else self.now.break_after
        speed = self.now.bytes_per_second
        for at in range(0, min(end, len(body)), CHUNK):
            piece = body[at : min(at + CHUNK, end)]
            self.wfile.write(piece)
            self.entry.sent += len(piece)
            if speed:
                time.sleep(len(piece) / speed)
        if end < len(body):
            self.close_connection = True

    def reply(
        self, status: int, body: bytes = b"{}", headers: dict[str, str] | None = None
    ) -> None:
        """Send a short answer."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.entry.status = status
