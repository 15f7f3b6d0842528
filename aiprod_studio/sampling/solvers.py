"""Solvers of the rectified flow, for a model that predicts the clean sample.

`model(x, t)` returns the clean sample that `x` at time `t` hides; on the straight path
x = (1 - t)·clean + t·noise the velocity is (x - clean) / t.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

Denoiser = Callable[[Tensor, float], Tensor]
OnStep = Callable[[int, Tensor], None]


def sample_euler(
    model: Denoiser, x: Tensor, times: Tensor, on_step: OnStep | None = None
) -> Tensor:
    """Follow the flow along `times` `[n + 1]` with one model call a step (Euler's method).

    `on_step` gets the number of steps done and the latest clean prediction.
    """
    course = times.tolist()
    for step, (t, after) in enumerate(pairwise(course)):
        clean = model(x, t)
        x = clean + (x - clean) * (after / t)
        if on_step:
            on_step(step + 1, clean)
    return x


def sample_multistep(
    model: Denoiser, x: Tensor, times: Tensor, on_step: OnStep | None = None
) -> Tensor:
    """Follow the flow with one model call a step, to second order.

    The clean prediction is extrapolated from the last two calls in the logarithm of the
    signal-to-noise ratio, as in DPM-Solver++(2M) (Lu et al., 2022).
    """
    course = times.tolist()
    before: Tensor | None = None
    before_t = 1.0
    for step, (t, after) in enumerate(pairwise(course)):
        clean = model(x, t)
        best = clean
        if before is not None and after > 0 and before_t < 1:
            ratio = (_log_ratio(after) - _log_ratio(t)) / (_log_ratio(t) - _log_ratio(before_t))
            best = clean + (clean - before) * (ratio / 2)
        x = best + (x - best) * (after / t)
        before, before_t = clean, t
        if on_step:
            on_step(step + 1, clean)
    return x


def _log_ratio(t: float) -> float:
    """Return half the logarithm of the signal-to-noise ratio at time `t` in 0 … 1."""
    return math.log((1 - t) / t)
