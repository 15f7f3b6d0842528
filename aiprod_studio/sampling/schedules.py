"""Schedules: the times in 1 (noise) … 0 (clean) at which a solver calls the model."""

from __future__ import annotations

import torch
from torch import Tensor


def shifted(steps: int, shift: float = 1.0) -> Tensor:
    """Return `steps + 1` falling times from 1 to 0; `shift` > 1 spends more steps on noise.

    Esser et al., "Scaling Rectified Flow Transformers" (2024), section 5.3.2.
    """
    times = torch.linspace(1, 0, steps + 1)
    return shift * times / (1 + (shift - 1) * times)
