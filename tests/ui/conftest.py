"""A bench with a real queue and gallery, and the whole studio served on a port of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aiprod_studio.hardware.probe import probe
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.library.gallery import Gallery
from aiprod_studio.settings import settings
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.machine import Machine
from aiprod_studio.ui.renderer import Renderer
from aiprod_studio.ui.texts import Texts


@pytest.fixture
def bench() -> Iterator[Bench]:
    home = settings().home
    home.mkdir(parents=True)
    (home / "machine.json").write_text(json.dumps(dataclasses.asdict(probe())), encoding="utf-8")
    queue, gallery = Queue(settings().database), Gallery(settings().outputs, home)
    renderer = Renderer((sys.executable, "-c", "pass"), settings().logs / "worker.log")
    yield Bench(queue, gallery, Machine(home / "machine.json"), renderer, Texts("en"))
    gallery.close()
    queue.database.close()


@dataclass(frozen=True)
class Served:
    """The studio as a person starts it: its port and its home folder."""

    port: int
    home: Path

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}/"


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "aiprod_studio", "ui", "--no-browser", "--port", str(port)]
    environment = {**os.environ, "AIPROD_HOME": str(home), "LC_ALL": "C.UTF-8"}
    environment.pop("AIPROD_OUTPUTS", None)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        assert str(port) in process.stdout.readline(), "the studio did not open"
        yield Served(port, home)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
