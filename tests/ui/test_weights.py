"""Downloads beside the page, against a real server: stopped, taken up, checked, removed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aiprod_studio.engines.hub.errors import CorruptFile, GatedRepo
from aiprod_studio.engines.hub.source import find_source
from aiprod_studio.engines.hub.survey import this_hub
from aiprod_studio.errors import BadRequest
from aiprod_studio.ui.stock import Stock, draw_stock
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.weights import Task, Ware, Weights
from tests.loopback_hub import LoopbackHub
from tests.ui.conftest import BYTES, FILES, REPO, TOTAL

WARE = Ware("wan2.1-1.3b", "text")
LARGE = "transformer/model.safetensors"


def wait(weights: Weights, until: Callable[[Task | None], bool]) -> Task | None:
    """Return the task of the ware once `until` says so."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        task = weights.task(WARE)
        if until(task):
            return task
        time.sleep(0.01)
    raise AssertionError(f"it stays at {weights.task(WARE)}")


def fetch(weights: Weights) -> None:
    """Download the whole ware."""
    weights.get(WARE)
    assert wait(weights, lambda task: not (task and task.runs)) is None


def test_a_ware_is_asked_for_before_its_first_byte(hub: LoopbackHub) -> None:
    weights = Weights()
    weights.ask(WARE)
    task = wait(weights, lambda task: task is not None and not task.runs)
    assert task is not None
    assert task.found is not None
    assert (task.phase, task.found.missing_bytes) == ("ready", TOTAL)
    assert not hub.sent("*.safetensors")
    weights.stop(WARE)
    assert weights.task(WARE) is None


def test_a_stopped_download_goes_on_in_another_process(hub: LoopbackHub) -> None:
    hub.fault(LARGE, bytes_per_second=300_000)
    weights = Weights()
    weights.get(WARE)
    weights.get(WARE)  # a second tab asks for the same
    enough = lambda task: bool(task and task.progress and task.progress.done > 150_000)  # noqa: E731
    task = wait(weights, enough)
    assert task is not None
    assert task.progress is not None
    assert task.progress.total == TOTAL
    assert task.progress.speed > 0
    assert weights.busy
    weights.stop(WARE)
    here = WARE.survey()
    assert here is not None
    assert 0 < here.part_bytes < BYTES
    kept = here.part_bytes
    fetch(Weights())  # as after a kill: nothing is known but what lies on the disk
    assert [first for first, _ in hub.sent(LARGE)] == [0, kept]
    whole = WARE.survey()
    assert whole is not None
    assert whole.complete


def test_what_is_damaged_is_found_and_repaired(hub: LoopbackHub) -> None:
    weights = Weights()
    fetch(weights)
    here = WARE.survey()
    assert here is not None
    (here.folder / LARGE).resolve().write_bytes(bytes(BYTES))
    weights.check(WARE)
    task = wait(weights, lambda task: task is not None and not task.runs)
    assert task is not None
    assert task.verdict is not None
    assert task.verdict.damaged == (LARGE,)
    weights.repair(WARE)
    assert wait(weights, lambda task: not (task and task.runs)) is None
    assert (here.folder / LARGE).read_bytes() == FILES[LARGE]


def test_cancelling_leaves_nothing_behind(hub: LoopbackHub) -> None:
    hub.fault(LARGE, bytes_per_second=300_000)
    weights = Weights()
    weights.get(WARE)
    wait(weights, lambda task: bool(task and task.progress and task.progress.done > 100_000))
    assert weights.remove(WARE) > 0
    assert weights.task(WARE) is None
    assert [path for path in Path(this_hub().cache).rglob("blobs/*") if path.is_file()] == []
    assert weights.remove(WARE) == 0


def test_a_failure_is_kept_until_it_is_put_away(hub: LoopbackHub) -> None:
    hub.fault(LARGE, corrupt=1, times=None)
    weights = Weights()
    weights.get(WARE)
    task = wait(weights, lambda task: task is not None and not task.runs)
    assert task is not None
    assert isinstance(task.error, CorruptFile)
    assert not weights.busy
    hub.faults.clear()
    hub.add_repo(REPO, FILES, gated=True, token="hf_good")
    weights.get(WARE)
    task = wait(weights, lambda task: task is not None and not task.runs)
    assert task is not None
    assert isinstance(task.error, GatedRepo)
    weights.stop(WARE)
    assert weights.task(WARE) is None


def test_a_check_that_failed_is_tried_again_as_a_check(hub: LoopbackHub) -> None:
    weights, source = Weights(), find_source(WARE.engine)
    weights.check(WARE)
    task = wait(weights, lambda task: task is not None and not task.runs)
    assert task is not None
    assert (task.phase, task.did) == ("failed", "check")
    stock = Stock(source.variant(WARE.variant), WARE, None, task)
    assert 'data-do="check"' in draw_stock(source, stock, Texts("en"))
    asked = Stock(stock.variant, WARE, None, replace(task, did="get"))
    assert 'data-do="ask"' in draw_stock(source, asked, Texts("en"))


def test_a_button_names_a_ware() -> None:
    assert Ware.parse(str(WARE)) == WARE
    for name in ("nonesuch/text", "wan2.1-1.3b/nonesuch", "starter/x", ""):
        with pytest.raises(BadRequest):
            Ware.parse(name)
