import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from aiprod_studio.engines.held import Held
from aiprod_studio.types import Plan

PLAN = Plan("cpu", "float32", 64, 64, 5, 1, 0, {"load": 1}, 1.0, ("a test",))


@dataclass
class Shelf:
    """An engine that notes what is on it; what it loads is its number and its plan."""

    notes: list[str] = field(default_factory=list)

    @contextmanager
    def load(self, plan: Plan) -> Iterator[tuple[int, Plan]]:
        self.notes.append("in")
        yield len(self.notes), plan
        self.notes.append("out")


@pytest.mark.parametrize(
    "changes",
    [
        {"quantisation": "float8"},
        {"placement": {"denoise": "group"}},
        {"precision": "bfloat16"},
        {"pinned": True},
        {"attention": "sliced"},
    ],
)
def test_what_decides_how_weights_are_loaded_loads_them_anew(changes):
    shelf = Shelf()
    held = Held(lambda _: shelf)
    held.load("a", PLAN)
    held.load("a", dataclasses.replace(PLAN, **changes))
    assert shelf.notes == ["in", "out", "in"]
    held.close()
    assert shelf.notes == ["in", "out", "in", "out"]


def test_other_plans_and_engines():
    shelves = {"a": Shelf(), "b": Shelf()}
    held = Held(shelves.__getitem__)
    first = held.load("a", PLAN)
    changes = {"tile": 32, "width": 128, "batch": 4, "cache": "mag"}
    assert held.load("a", dataclasses.replace(PLAN, **changes)) is first
    held.load("b", PLAN)
    assert shelves["a"].notes == ["in", "out"]
    assert held.load("a", PLAN) is not first
    held.close()
    held.close()
    assert shelves["a"].notes == ["in", "out"] * 2
