"""A bench with a real queue and gallery, and the whole studio served on a port of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import constants
from playwright.sync_api import Browser, Page, expect, sync_playwright

from aiprod_studio.hardware.probe import probe
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.library.gallery import Gallery
from aiprod_studio.settings import settings
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.machine import Machine, write
from aiprod_studio.ui.renderer import Renderer
from aiprod_studio.ui.texts import Texts
from tests.loopback_hub import LoopbackHub

PATIENCE_MS = 30_000
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
REPO = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
BYTES = 600_000
FILES = {
    "model_index.json": b"{}",
    "scheduler/scheduler_config.json": b"{}\n",
    "text_encoder/config.json": b"{ }",
    "text_encoder/model.safetensors": os.urandom(2000),
    "tokenizer/spiece.model": b"pieces",
    "transformer/config.json": b'{"layers": 30}',
    "transformer/model.safetensors": os.urandom(BYTES),
    "vae/config.json": b'{"z": 16}',
    "vae/model.safetensors": os.urandom(3000),
}
TOTAL = sum(map(len, FILES.values()))
# Small and quick to reach, but for the steps: a clip of many keeps its place in the queue.
LIMITS = """
jobs = 5
steps = 200
upload_mb = 0.1
visitors = 60
tries = 3
pause = 2.0
"""


@pytest.fixture
def bench() -> Iterator[Bench]:
    home = settings().home
    home.mkdir(parents=True)
    (home / "machine.json").write_text(write(probe()), encoding="utf-8")
    queue, gallery = Queue(settings().database), Gallery(settings().outputs, home)
    renderer = Renderer((sys.executable, "-c", "pass"), settings().logs / "worker.log")
    yield Bench(queue, gallery, Machine(home / "machine.json"), renderer, Texts("en"))
    gallery.close()
    queue.database.close()


@dataclass(frozen=True)
class Served:
    """The studio as a person starts it: its port, its home folder and what else it printed."""

    port: int
    home: Path
    told: str = ""

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}/"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with run_studio(tmp_path_factory.mktemp("studio")) as served:
        yield served


def find_port() -> int:
    """Return a port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def start_studio(home: Path, port: int, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Start the studio with more `words` on its command line, and end it after the block."""
    command = [sys.executable, "-m", "aiprod_studio", "ui", "--no-browser", "--port", str(port)]
    environment = {**os.environ, "AIPROD_HOME": str(home), "LC_ALL": "C.UTF-8"}
    environment.pop("AIPROD_OUTPUTS", None)
    process = subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, encoding="utf-8", env=environment
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def read_address(process: subprocess.Popen[str], port: int) -> None:
    """Wait for the next line of a studio, which names its port."""
    assert process.stdout is not None
    assert str(port) in process.stdout.readline(), "the studio did not open"


@contextmanager
def run_studio(home: Path, *words: str, lines: int = 0) -> Iterator[Served]:
    """Run the studio with more `words` on its command line; it prints so many more `lines`."""
    port = find_port()
    with start_studio(home, port, *words) as process:
        read_address(process, port)  # the light page is there
        read_address(process, port)
        assert process.stdout is not None
        yield Served(port, home, "".join(process.stdout.readline() for _ in range(lines)))


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A Chromium without a screen, patient enough for a busy machine."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on the PATH")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(served: Served, browser: Browser) -> Page:
    """The page of the studio that is `served`, in a window of a usual size."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(served.address)
    return page


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub on this machine with one small engine, used by this process; no token, no cache."""
    with LoopbackHub() as hub:
        hub.add_repo(REPO, FILES)
        # The Hub's library has read its environment long ago.
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@dataclass(frozen=True)
class Shared:
    """A shared studio: the owner's page, the port of the visitors' and their password."""

    owner: Served
    port: int
    password: str

    @property
    def link(self) -> str:
        """The address that a scanned code leads to."""
        return f"http://127.0.0.1:{self.port}/#{self.password}"


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    home = tmp_path_factory.mktemp("shared")
    (home / "sharing.toml").write_text(LIMITS, encoding="utf-8")
    with run_studio(home, "--host", "127.0.0.1", lines=2) as owner:
        told = re.fullmatch(r"Shared at http://127.0.0.1:(\d+)/\nPassword: (\S+)\n", owner.told)
        assert told is not None, owner.told
        yield Shared(owner, int(told[1]), told[2])
