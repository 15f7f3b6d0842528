import threading

import pytest

from aiprod_studio.errors import StudioError
from aiprod_studio.jobs.device import own_device


def test_one_process_holds_the_device_until_it_ends_or_is_killed(crew, tmp_path):
    path, stop = tmp_path / "worker.lock", threading.Event()
    holder = crew.start("hold", tmp_path, lock=str(path))
    crew.wait(lambda: (tmp_path / "held").exists())
    with own_device(path, stop, wait=False) as mine:
        assert not mine
    stopper = threading.Timer(0.1, stop.set)
    stopper.start()
    with own_device(path, stop) as mine:
        assert not mine
    crew.kill(holder)
    with own_device(path, threading.Event()) as mine:
        assert mine
    with own_device(path, threading.Event(), wait=False) as mine:
        assert mine


def test_a_lock_that_cannot_be_made_is_one_sentence(tmp_path):
    with (
        pytest.raises(StudioError, match="cannot be used"),
        own_device(tmp_path, threading.Event()),
    ):
        raise AssertionError("it was held")
