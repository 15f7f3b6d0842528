"""Forecasts: how long a job will take yet, over all its phases."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from aiprod_studio.types import Progress

PHASES = ("load", "encode", "denoise", "refine", "decode", "save")
_SCALED = ("denoise", "refine", "decode", "save")
# Measured with the starter; only until the first clip of an engine is done.
_SHARES = {"load": 0.25, "encode": 0.05, "denoise": 0.6, "decode": 0.09, "save": 0.01}


@dataclass(frozen=True)
class Earlier:
    """A finished job: the seconds that each phase took, and those that were `predicted` in all."""

    took: Mapping[str, float]
    predicted: float | None

    def scaled(self, predicted: float | None) -> dict[str, float]:
        """Return the seconds per phase of a job that is predicted to take `predicted` s.

        What grows with a clip is scaled by the two predictions.
        """
        ratio = predicted / self.predicted if predicted and self.predicted else 1.0
        return {
            phase: seconds * (ratio if phase in _SCALED else 1.0)
            for phase, seconds in self.took.items()
        }


def expect(
    predicted: float | None, earlier: Iterable[Earlier], refined: float = 0.0
) -> dict[str, float]:
    """Return the expected seconds per phase of a job that was predicted to take `predicted` s.

    `refined` s of them are its second stage's. Each phase is the median of `earlier` jobs of the
    same engine, so that one of them that was slow by chance counts for little; those of another
    number of stages tell nothing. Empty when nothing is known.
    """
    alike = [
        one.scaled(predicted)
        for one in earlier
        if one.took and ("refine" in one.took) == (refined > 0)
    ]
    if alike:
        phases = dict.fromkeys(phase for one in alike for phase in one)
        return {phase: median(one.get(phase, 0.0) for one in alike) for phase in phases}
    if not predicted:
        return {}
    found = {phase: share * (predicted - refined) for phase, share in _SHARES.items()}
    return found | ({"refine": refined} if refined else {})


@dataclass
class Stopwatch:
    """The time that each phase of a running job took, and will take by what is `expected` (s)."""

    expected: Mapping[str, float]
    spent: dict[str, float] = field(default_factory=dict)
    _phase: str = ""
    _began: float = 0.0
    _first: int = 0

    def mark(self, progress: Progress) -> float | None:
        """Note a progress; return the seconds left over all phases, None while nobody can tell."""
        now = time.monotonic()
        if progress.stage != self._phase:
            self.stop()
            self._phase, self._began, self._first = progress.stage, now, progress.done
        elapsed = now - self._began
        steps, rest = progress.done - self._first, progress.total - progress.done
        if not steps and not self.expected:
            return None
        if steps and rest:
            current = elapsed / steps * rest
        else:
            current = max(self.expected.get(self._phase, 0.0) - elapsed, 0.0) if rest else 0.0
        return current + sum(self.expected.get(phase, 0.0) for phase in self._later())

    def stop(self) -> dict[str, float]:
        """Return the seconds that each phase took, the running one ended now."""
        if self._phase:
            self.spent[self._phase] = time.monotonic() - self._began
        return dict(self.spent)

    def _later(self) -> tuple[str, ...]:
        """Return the phases that follow the running one."""
        known = self._phase in PHASES
        return PHASES[PHASES.index(self._phase) + 1 :] if known else ()
