"""The device: a lock that one worker at a time holds, and that nobody's death leaves locked."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from aiprod_studio.errors import StudioError

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0


@contextmanager
def own_device(path: Path, stop: threading.Event, wait: bool = True) -> Iterator[bool]:
    """Hold the lock in the file `path` and yield True; False when another process kept it.

    With `wait` that takes until `stop` is set. Raises `StudioError` when the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite's locks are the system's own on each platform: they end with their process.
        connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise _no_lock(path, error) from error
    with closing(connection):
        yield _lock(connection, path, stop, wait)


def _lock(connection: sqlite3.Connection, path: Path, stop: threading.Event, wait: bool) -> bool:
    """Take the lock and say whether that went well."""
    told = False
    while not stop.is_set():
        try:
            connection.execute("BEGIN EXCLUSIVE")
            return True
        except sqlite3.Error as error:
            if "locked" not in str(error):
                raise _no_lock(path, error) from error
        if not told:
            log.info("Another worker renders on this machine.")
            told = True
        if not wait:
            return False
        stop.wait(POLL_SECONDS)
    return False


def _no_lock(path: Path, error: Exception) -> StudioError:
    return StudioError(
        f"The lock {path} cannot be used ({error}). Check the permissions of its folder, or set "
        "AIPROD_HOME to a folder of your own."
    )
