import dataclasses
import errno
from collections.abc import Iterator

import pytest
import torch

from aiprod_studio.engines.catalog import cards
from aiprod_studio.engines.engine import grow, peak_bytes, ran_out, run_fitting
from aiprod_studio.errors import DoesNotFit, ModelUnavailable
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.ladder import predict
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.types import Plan, Request, complete

PLAN = Plan("cpu", "float32", 256, 256, 17, 4, 0, {"load": 10, "decode": 100}, 1.0, ("cpu",))


def test_the_first_plan_that_fits_comes_back_with_its_reasons():
    tried: list[Plan] = []

    def work(plan: Plan) -> str:
        tried.append(plan)
        if len(tried) < 3:
            raise MemoryError
        return "done"

    plan, result = run_fitting(PLAN, work)
    assert result == "done"
    assert plan is tried[2]
    assert len(plan.because) == 3
    assert plan.batch == 1


def test_when_nothing_fits_the_user_is_told_what_to_do():
    def work(plan: Plan) -> None:
        raise MemoryError

    with pytest.raises(DoesNotFit, match="smaller or shorter"):
        run_fitting(PLAN, work)


def errors() -> Iterator[BaseException]:
    """Yield what devices say when memory runs out, as far as this machine can have them say it."""
    try:
        torch.empty(2**55, dtype=torch.uint8)
    except RuntimeError as error:
        yield error
    try:
        bytearray(2**62)
    except MemoryError as error:
        yield error
    yield torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    yield RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)")
    yield OSError(errno.ENOMEM, "Cannot allocate memory")
    wrapped = ModelUnavailable("The weights cannot be read. Install the studio again.")
    wrapped.__cause__ = OSError(errno.ENOMEM, "Cannot allocate memory")
    yield wrapped


def test_every_device_s_error_is_known_and_no_other():
    found = list(errors())
    assert len(found) == 6
    assert all(ran_out(error) for error in found)
    others = [RuntimeError("shapes differ"), OSError(errno.ENOSPC, "disk full"), ValueError()]
    assert not any(ran_out(error) for error in others)
    with pytest.raises(ZeroDivisionError):
        run_fitting(PLAN, lambda _: 1 / 0)


def test_a_batch_grows_where_memory_was_left():
    card = cards()["starter"]
    machine = dataclasses.replace(imagine(24), free_bytes=10 * 10**9)
    request = complete(Request("a dog"), card)
    plan = predict(dataclasses.replace(choose_plan(machine, card, request, clips=64), batch=4))
    larger = grow(plan, 10**9, 64)
    assert larger.batch == 8
    assert larger.because[-1] == "8 instead of 4 at once, as memory was left"
    assert larger.peak_bytes["denoise"] > plan.peak_bytes["denoise"]
    assert grow(plan, 10**9, 6).batch == 6
    assert grow(plan, 10**9, 4) is plan
    assert grow(plan, 6 * 10**9, 64) is plan
    assert peak_bytes("cpu") > 10**7
