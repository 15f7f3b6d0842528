import pytest

from aiprod_studio.engines.engine import run_fitting
from aiprod_studio.errors import DoesNotFit
from aiprod_studio.types import Plan

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
