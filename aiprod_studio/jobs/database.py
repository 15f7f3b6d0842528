"""The database behind the queue: opened, locked and explained."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    insert,
    make_url,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from aiprod_studio.errors import StudioError

VERSION = 1
PATIENCE_SECONDS = 30.0
_OWN = "set AIPROD_DATABASE to a file of your own"
_REASONS = {
    "readonly": f"cannot be written. Change its permissions, or {_OWN}.",
    "read-only": f"cannot be written. Change its permissions, or {_OWN}.",
    "unable to open": f"cannot be opened. Check its folder and permissions, or {_OWN}.",
    "full": "cannot grow, as the disk is full. Free some space and try again.",
    "i/o error": "cannot be read or written. Check the disk and its free space.",
    "locked": "is kept locked by another program. Close what uses it and try again.",
    "not a database": f"holds something else or is damaged. Move it away, or {_OWN}.",
    "malformed": f"is damaged. Move it away, or {_OWN}.",
}


TABLES = MetaData()
_VERSIONS = Table("schema_version", TABLES, Column("version", Integer, nullable=False))


class QueueUnavailable(StudioError):
    """The queue's database cannot be opened, read or written at the moment."""


class Database:
    """The `TABLES` in any database that SQLAlchemy reaches; `place` is a URL or an SQLite file.

    The tables are made where they are missing. Every use raises `QueueUnavailable` when the
    database cannot be reached or written, or belongs to a newer version of the studio.
    """

    def __init__(self, place: str) -> None:
        self._name = place
        with self._explained(ImportError, OSError):
            url = make_url(place) if "://" in place else URL.create("sqlite", database=place)
            self._name = url.database or "" if _is_file(url) else url.render_as_string()
            self._engine = _open(url)
        with self.writing() as connection:
            TABLES.create_all(connection)
            version = connection.scalar(select(_VERSIONS.c.version))
            if version is None:
                connection.execute(insert(_VERSIONS).values(version=VERSION))
            elif version > VERSION:
                raise QueueUnavailable(
                    f"The queue in {self._name} was made by a newer version of the studio. "
                    f"Update this one, or {_OWN}."
                )

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Hold the write lock: what happens inside is one transaction that nothing interleaves."""
        with self._explained(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """See one moment of the tables without waiting for whoever writes."""
        with self._explained(), self._engine.connect() as connection:
            yield connection.execution_options(reads=True)

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        self._engine.dispose()

    @contextmanager
    def _explained(self, *more: type[Exception]) -> Iterator[None]:
        """Turn the database's errors, and `more`, into a sentence that says what to do."""
        known: tuple[type[Exception], ...] = (SQLAlchemyError, sqlite3.Error, *more)
        try:
            yield
        except known as error:
            raise QueueUnavailable(f"The queue in {self._name} {_reason(error)}") from error


def _is_file(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _open(url: URL) -> Engine:
    """Return an engine whose transactions are safe against other processes."""
    if not _is_file(url):
        return create_engine(url, pool_pre_ping=True)
    if url.database and not url.database.startswith("file:"):
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": PATIENCE_SECONDS})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
    """Set up a new SQLite connection."""
    # Python's module would begin transactions late, after the first read, and so race.
    connection.isolation_level = None
    _enter_wal(connection)
    # In WAL mode a killed process loses nothing this way and a power cut at most the last moments,
    # never the file; FULL would wait for the disk at every step of every clip.
    connection.execute("PRAGMA synchronous=NORMAL")


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, in which readers and the writer do not wait for each other."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself for this one lock.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin(connection: Connection) -> None:
    """Begin a transaction; one that writes takes the lock first, so that it reads nothing stale."""
    reads = connection.get_execution_options().get("reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _reason(error: Exception) -> str:
    """Return what happened and what to do, after "The queue in …"."""
    text = str(getattr(error, "orig", None) or error)
    for part, reason in _REASONS.items():
        if part in text.lower():
            return reason
    said = text.splitlines()[0] if text else type(error).__name__
    return f"cannot be used ({said}). Check AIPROD_DATABASE, the database and its permissions."
