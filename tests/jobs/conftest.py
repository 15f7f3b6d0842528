"""A queue of the test's own, and processes that work on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aiprod_studio.jobs.queue import Queue

PATIENCE = 120


class Crew:
    """A warm process that forks workers, each a real process that can be killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def start(self, role: str, place: Path, **task: Any) -> int:
        """Start a process on the queue in the folder `place` and return its number."""
        task |= {"role": role, "database": str(place / "q.db"), "folder": str(place / "jobs")}
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def kill(self, *pids: int) -> None:
        """End processes without a word to them."""
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.join(*pids)

    def join(self, *pids: int) -> None:
        """Wait until processes have ended."""
        for pid in pids:
            self.wait(lambda pid=pid: not lives(pid))

    def wait(self, met: Callable[[], object]) -> None:
        """Wait until a condition is met."""
        deadline = time.monotonic() + PATIENCE
        while not met():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)


def lives(pid: int) -> bool:
    """Say whether a process has not ended; the crew leaves no zombies."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def open_crew(*words: str) -> Iterator[Crew]:
    """Start a crew and end it."""
    script = Path(__file__).with_name("crew.py")
    # The package may be a plain checkout.
    paths = os.pathsep.join([str(script.parents[2]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, str(script), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    ) as process:
        yield Crew(process)


@pytest.fixture(scope="session")
def crew() -> Iterator[Crew]:
    """Processes for what needs no network."""
    with open_crew() as crew:
        yield crew


@pytest.fixture(scope="session")
def warm_crew() -> Iterator[Crew]:
    """Processes that have torch and the engine's code in memory already."""
    with open_crew("warm") as crew:
        yield crew


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """A new queue in the test's folder."""
    queue = Queue(str(tmp_path / "q.db"))
    yield queue
    queue.database.close()
