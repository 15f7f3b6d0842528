"""Visitors: who is signed in to a shared studio, and the bench that each of them works at.

A session is a folder of the visitor's own with the file `session` in it; the cookie names it and
carries a signature. So sessions survive a restart, and one that ended cannot come back.
"""

from __future__ import annotations

import dataclasses
import functools
import hmac
import os
import secrets
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from aiprod_studio.errors import BadRequest, StudioError
from aiprod_studio.jobs.job import WAITING
from aiprod_studio.jobs.queue import Quota
from aiprod_studio.library.gallery import Gallery
from aiprod_studio.media.files import explain, write_bytes
from aiprod_studio.sentences import Said
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.limits import Limits
from aiprod_studio.ui.media import locate_absolute

FOLDER = "visitors"
"""The folder of visitors, below the studio's data, its uploads and its outputs."""

IDLE_SECONDS = 30 * 86_400
TOUCH_SECONDS = 3600
DAY_SECONDS = 86_400
KEY_BYTES = 32
SESSION = "session"
PAGES_KEPT = 10_000


class Visitors:
    """The visitors of the studio at `bench`.

    Raises `StudioError` when the folder of visitors cannot be written.
    """

    def __init__(self, bench: Bench, limits: Limits) -> None:
        self.limits = limits
        self._bench = bench
        self._folder = bench.home / FOLDER
        self._benches: dict[str, Bench] = {}
        self._pages: dict[str, str] = {}
        self._lock = threading.Lock()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._key = _read_key(self._folder / "key")
        except OSError as error:
            raise explain(error, self._folder) from error

    def open(self) -> str:
        """Begin a session and return its cookie; raises `BadRequest` when there are too many."""
        now = time.time()
        for session in self._folder.glob(f"*/{SESSION}"):
            if session.stat().st_mtime < now - IDLE_SECONDS:
                self.end(session.parent.name)
        if len(list(self._folder.glob(f"*/{SESSION}"))) >= self.limits.visitors:
            raise BadRequest(self._bench.say("share.full"))
        visitor = secrets.token_hex(8)
        session = self._folder / visitor / SESSION
        try:
            session.parent.mkdir(mode=0o700)
            session.touch()
        except OSError as error:
            raise explain(error, session) from error
        return f"{visitor}.{self._sign(visitor)}"

    def find(self, cookie: str) -> str | None:
        """Return the visitor whom a cookie names, None for a forged one and an ended session."""
        visitor, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(visitor).encode()):
            return None
        session = self._folder / visitor / SESSION
        try:
            age = time.time() - session.stat().st_mtime
            if age > TOUCH_SECONDS:
                os.utime(session)
        except OSError:
            return None
        return visitor

    def bench(self, visitor: str) -> Bench:
        """Return the bench of a visitor: the same machine with nothing but their own things.

        Raises `BadRequest` when their session has ended.
        """
        with self._lock:
            if visitor not in self._benches:
                self._benches[visitor] = self._make(visitor)
            return self._benches[visitor]

    def claims(self, page: str, visitor: str) -> bool:
        """Say whether an open page, by the name that it gave itself, is this visitor's.

        A name belongs to whoever used it first; without that, who guessed one could read along.
        """
        owner = self._pages.setdefault(page, visitor)
        if len(self._pages) > PAGES_KEPT:
            del self._pages[next(iter(self._pages))]
        return owner == visitor

    def end(self, visitor: str) -> None:
        """End a session: its jobs are cancelled, its form, pictures and uploads deleted.

        The clips stay with the owner of the machine.
        """
        with suppress(BadRequest):
            bench = self.bench(visitor)
            (self._folder / visitor / SESSION).unlink(missing_ok=True)
            with self._lock:
                self._benches.pop(visitor, None)
            self._clear(bench)

    def close(self) -> None:
        """Close what the visitors' benches keep open."""
        with self._lock:
            for bench in self._benches.values():
                bench.gallery.close()
            self._benches.clear()

    def _clear(self, bench: Bench) -> None:
        for job in bench.queue.jobs("running", *WAITING):
            with suppress(BadRequest):  # it has ended by itself meanwhile
                bench.queue.cancel(job.id)
        bench.gallery.close()
        shutil.rmtree(bench.home, ignore_errors=True)
        shutil.rmtree(bench.uploads, ignore_errors=True)

    def _make(self, visitor: str) -> Bench:
        home = self._folder / visitor
        if not (home / SESSION).exists():
            raise BadRequest(self._bench.say("share.ended"))
        check = functools.partial(self.limits.check, pictures=home / "pictures")
        return dataclasses.replace(
            self._bench,
            queue=self._bench.queue.seen_by(visitor, Quota(self.limits.jobs, check)),
            gallery=Gallery(self._bench.gallery.outputs / FOLDER / visitor, home),
            home=home,
            uploads=self._bench.uploads / FOLDER / visitor,
            guests=self.bench,
            limits=self.limits,
        )

    def _sign(self, visitor: str) -> str:
        return hmac.new(self._key, visitor.encode(), "sha256").hexdigest()


def store_upload(bench: Bench, name: str, content: BinaryIO, most_bytes: float) -> Path:
    """Keep what a visitor sent in a new folder among their uploads and return its path.

    Of its `name` only the ending is used. Uploads older than a day are deleted first. Raises
    `BadRequest` when all of them together would be more than `most_bytes`, and `StudioError` when
    the file cannot be written.
    """
    suffix = Path(name.replace("\\", "/")).suffix.lower()
    kept = suffix if suffix[1:].isalnum() and suffix.isascii() else ""
    path = bench.uploads / secrets.token_hex(8) / f"file{kept}"
    try:
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            shutil.copyfileobj(content, file)
        total = 0
        for each in bench.uploads.glob("*/*"):
            facts = each.stat()
            if facts.st_mtime < time.time() - DAY_SECONDS:
                shutil.rmtree(each.parent)
            else:
                total += facts.st_size
    except OSError as error:
        raise explain(error, path) from error
    if total > most_bytes:
        shutil.rmtree(path.parent, ignore_errors=True)
        told = "You have sent as much as this studio takes in a day. Try tomorrow."
        raise BadRequest(Said("said.sent_much", told))
    return path


def show_picture(bench: Bench, picture: str | None) -> str | None:
    """Return a copy among a visitor's uploads of a picture that a job of theirs keeps.

    The page may be sent nothing else; None for any other path. Raises `StudioError` when it cannot
    be written.
    """
    kept = None if picture is None else locate_absolute(bench.home / "pictures", picture)
    if kept is None:
        return None
    copy = bench.uploads / kept.stem / f"file{kept.suffix}"
    write_bytes(copy, kept.read_bytes())
    return str(copy)


def _read_key(file: Path) -> bytes:
    """Return the key that signs the cookies, made the first time; only its owner can read it."""
    with suppress(FileExistsError):
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as made:
            made.write(secrets.token_bytes(KEY_BYTES))
    key = file.read_bytes()
    if len(key) != KEY_BYTES:
        raise StudioError(f"{file} is damaged. Delete it; visitors then sign in anew.")
    return key
