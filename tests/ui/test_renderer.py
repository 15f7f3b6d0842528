"""The renderer: a process that is kept alive."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from aiprod_studio.ui.renderer import Renderer


def wait_for(log: Path, text: str) -> bool:
    """Wait until `text` stands in the log."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if log.exists() and text in log.read_text(encoding="utf-8"):
            return True
        time.sleep(0.05)
    return False


def test_a_worker_that_dies_is_started_again_and_ends_with_the_page(tmp_path: Path) -> None:
    log, mark = tmp_path / "logs" / "worker.log", tmp_path / "mark"
    program = (
        "import pathlib, sys, time\n"
        f"mark = pathlib.Path({str(mark)!r})\n"
        "if not mark.exists():\n    mark.touch()\n    sys.exit(3)\n"
        "print('alive', flush=True)\ntime.sleep(600)\n"
    )
    renderer = Renderer((sys.executable, "-c", program), log)
    assert not renderer.runs
    renderer.start()
    try:
        assert wait_for(log, "alive")
        assert renderer.runs
    finally:
        renderer.close()
    assert not renderer.runs
