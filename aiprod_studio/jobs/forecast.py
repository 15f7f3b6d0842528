"""Forecasts: how long a job will take yet, over all its phases."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiprod_studio.types import Progress

PHASES = ("download", "load", "encode", "denoise", "decode", "save")
_SCALED = ("denoise", "decode", "save")
# Measured with the starter; only until the first clip of an engine is done.
_SHARES = {"load": 0.25, "encode": 0.05, "denoise": 0.6, "decode": 0.05, "save": 0.05}


def expect(
    predicted: float | None, usual: Mapping[str, float] | None, usual_predicted: float | None
) -> dict[str, float]:
    """Return the expected seconds per phase of a job that was predicted to take `predicted` s.

    `usual` are the measured phases of an earlier job of the same engine that was predicted to
    take `usual_predicted` s; what grows with a clip is scaled by the two predictions. Empty when
    nothing is known.
    """
    if not usual:
        return {phase: share * predicted for phase, share in _SHARES.items()} if predicted else {}
    ratio = predicted / usual_predicted if predicted and usual_predicted else 1.0
    return {
        phase: seconds * (ratio if phase in _SCALED else 1.0) for phase, seconds in usual.items()
    }


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
