"""Solvers of the rectified flow, for a model that predicts the clean sample.

`model(x, t)` returns the clean sample that `x` at time `t` hides; on the straight path
x = (1 - t)·clean + t·noise the velocity is (x - clean) / t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor

Denoiser = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Point:
    """All that a solver carries after `done` steps: the sample and the last clean prediction.

    `more` is what else one of another library carries, under that library's names.
    """

    done: int
    x: Tensor
    clean: Tensor
    more: Mapping[str, Tensor] = field(default_factory=dict)


OnPoint = Callable[[Point], None]


def sample_euler(
    model: Denoiser,
    x: Tensor,
    times: Tensor,
    on_point: OnPoint | None = None,
    start: Point | None = None,
) -> Tensor:
    """Follow the flow from `x` along `times` `[n + 1]`, one model call a step (Euler's method).

    `on_point` gets every point; a run that goes on from `start`, one of them, ends exactly where
    the whole run does, whatever `x` is.
    """
    course = times.tolist()
    done, x = (start.done, start.x) if start else (0, x)
    for step, (t, after) in enumerate(pairwise(course[done:]), done):
        clean = model(x, t)
        x = clean + (x - clean) * (after / t)
        if on_point:
            on_point(Point(step + 1, x, clean))
    return x


def sample_multistep(
    model: Denoiser,
    x: Tensor,
    times: Tensor,
    on_point: OnPoint | None = None,
    start: Point | None = None,
) -> Tensor:
    """Follow the flow with one model call a step, to second order; else as `sample_euler`.

    The clean prediction is extrapolated from the last two calls in the logarithm of the
    signal-to-noise ratio, as in DPM-Solver++(2M) (Lu et al., 2022).
    """
    course = times.tolist()
    before: Tensor | None = None
    before_t, done = 1.0, 0
    if start and start.done:
        done, x, before, before_t = start.done, start.x, start.clean, course[start.done - 1]
    for step, (t, after) in enumerate(pairwise(course[done:]), done):
        clean = model(x, t)
        best = clean
        if before is not None and after > 0 and before_t < 1:
            ratio = (_log_ratio(after) - _log_ratio(t)) / (_log_ratio(t) - _log_ratio(before_t))
            best = clean + (clean - before) * (ratio / 2)
        x = best + (x - best) * (after / t)
        before, before_t = clean, t
        if on_point:
            on_point(Point(step + 1, x, clean))
    return x


def _log_ratio(t: float) -> float:
    """Return half the logarithm of the signal-to-noise ratio at time `t` in 0 … 1."""
    return math.log((1 - t) / t)
