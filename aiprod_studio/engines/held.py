"""What is held in memory: the weights of one engine at a time, as the running plan wants them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from aiprod_studio.types import Plan

if TYPE_CHECKING:
    from aiprod_studio.engines.engine import Engine, Parts


class Held:
    """The loaded parts of the engine that was asked for last; `find` returns one by its id."""

    def __init__(self, find: Callable[[str], Engine]) -> None:
        self._find = find
        self._memory = ExitStack()
        self._how: tuple[Any, ...] = ()
        self._parts: Parts | None = None

    def load(self, engine: str, plan: Plan) -> Parts:
        """Return the parts of an engine as planned, loaded only if they are not held like that.

        What was held otherwise leaves the memory first.
        """
        how = (engine, *_how(plan))
        if self._parts is None or self._how != how:
            self.close()
            self._parts = self._memory.enter_context(self._find(engine).load(plan))
            self._how = how
        return self._parts

    def close(self) -> None:
        """Let go of all weights."""
        self._parts = None
        self._memory.close()


def _how(plan: Plan) -> tuple[Any, ...]:
    """Return what of a plan decides how weights are loaded."""
    places = tuple(sorted(plan.placement.items()))
    network = (plan.device, plan.precision, plan.quantisation, places, plan.pinned)
    return (*network, plan.attention, plan.compiled)
