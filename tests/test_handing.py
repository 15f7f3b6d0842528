"""Jobs of the command line that the worker of an open studio renders, as real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiprod_studio.cli import main
from aiprod_studio.handing import hand_over, is_owned
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.library.provenance import read_request
from aiprod_studio.settings import settings
from aiprod_studio.types import Plan, Request

STUDIO = [sys.executable, "-m", "aiprod_studio"]
PLAN = Plan("cpu", "float32", 128, 128, 5, 1, 0, {"denoise": 1}, 1.0, ())
SMALL = ["--seconds", "0.6", "--width", "64", "--height", "64"]


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """A worker that owns the device."""
    with subprocess.Popen([*STUDIO, "worker"], stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr
        assert "waiting" in worker.stderr.readline()
        yield worker
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)


@pytest.fixture
def queue() -> Iterator[Queue]:
    settings().home.mkdir(parents=True, exist_ok=True)
    queue = Queue(settings().database)
    yield queue
    queue.database.close()


@pytest.mark.usefixtures("worker")
def test_the_worker_renders_what_the_command_line_asks_for(
    queue: Queue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_owned()
    words = ["--cli", "a dog", "a cat", "--steps", "2", *SMALL, "--out", str(tmp_path), "--json"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "The studio that is open renders this" in told.err
    clips = [json.loads(line) for line in told.out.splitlines()]
    assert [clip["status"] for clip in clips] == ["done", "done"]
    assert sorted(Path(clip["path"]).name for clip in clips) == ["a-cat.mp4", "a-dog.mp4"]
    assert read_request(tmp_path / "a-dog.mp4").prompt == "a dog"
    assert [job.state for job in queue.jobs()] == ["done", "done"]


@pytest.mark.usefixtures("worker")
def test_ctrl_c_cancels_there(queue: Queue, tmp_path: Path) -> None:
    command = [*STUDIO, "--cli", "a dog", "a cat", "--steps", "200", *SMALL, "--out", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as asking:
        for _ in range(600):
            if any(job.done for job in queue.jobs("running")):
                break
            time.sleep(0.1)
        asking.send_signal(signal.SIGINT)
        _, told = asking.communicate(timeout=60)
    assert asking.returncode == 130
    assert "Stopped" in told
    for _ in range(100):
        if not queue.jobs("running"):
            break
        time.sleep(0.1)
    assert [job.state for job in queue.jobs()] == ["cancelled", "cancelled"]
    assert list(tmp_path.glob("*.mp4")) == []


def test_a_job_that_was_put_away_stops_no_other(queue: Queue, tmp_path: Path) -> None:
    asked = [(Request(name), tmp_path / f"{name}.mp4", PLAN) for name in ("dog", "cat")]
    given = hand_over(queue, asked, lambda _number, _progress: None)
    threading.Thread(target=_put_away_and_cancel, args=(queue,)).start()
    told = [(number, str(ended)) for number, ended in given]
    assert [number for number, _ in told] == [0, 1]
    assert "put away" in told[0][1]
    assert "cancelled" in told[1][1]


def _put_away_and_cancel(queue: Queue) -> None:
    while len(jobs := queue.jobs()) < 2:
        time.sleep(0.01)
    queue.remove(jobs[0].id)
    queue.cancel(jobs[1].id)


def test_without_a_worker_nothing_is_handed_over(
    queue: Queue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not is_owned()
    assert main(["--cli", "a dog", "--steps", "1", *SMALL, "--out", str(tmp_path)]) == 0
    assert Path(capsys.readouterr().out.strip()) == tmp_path / "a-dog.mp4"
    assert queue.jobs() == []
