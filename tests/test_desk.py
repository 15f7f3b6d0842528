import io
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from aiprod_studio.desk import encode_preview
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.settings import settings
from aiprod_studio.types import Request

COMMAND = [sys.executable, "-m", "aiprod_studio", "worker"]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.delenv("AIPROD_DATABASE", raising=False)
    settings.cache_clear()
    return dict(os.environ)


def test_the_worker_drains_the_queue_and_a_bad_job_has_its_sentence(environment, tmp_path):
    queue = Queue(settings().database)
    job = queue.add(Request("a dog", engine="nonesuch"), tmp_path / "dog.mp4")
    subprocess.run([*COMMAND, "--drain"], env=environment, check=True, capture_output=True)
    ended = queue.find(job.id)
    queue.database.close()
    assert ended.state == "failed"
    assert "'nonesuch'" in ended.error


def test_the_worker_ends_in_peace_when_it_is_told_to(environment):
    with subprocess.Popen(COMMAND, env=environment, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr
        assert "waiting" in worker.stderr.readline()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


def test_a_database_that_cannot_be_opened_is_one_sentence(environment, tmp_path):
    (tmp_path / "folder.db").mkdir()
    environment["AIPROD_DATABASE"] = str(tmp_path / "folder.db")
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("The queue in")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("shape", [(64, 64, 3), (90, 1600, 3)])
def test_previews_are_small(shape):
    picture = Image.open(io.BytesIO(encode_preview(np.zeros(shape, np.uint8))))
    assert max(picture.size) == min(256, max(shape))
    assert picture.format == "WEBP"
