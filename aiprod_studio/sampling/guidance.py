"""Guidance: the prediction with the prompt, pushed away from the one without."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Conditioned = Callable[[Tensor, float, bool], Tensor]


def guided(model: Conditioned, scale: float) -> Callable[[Tensor, float], Tensor]:
    """Return a denoiser with classifier-free guidance (Ho and Salimans, 2022).

    `model(x, t, told)` predicts the clean sample with (`told`) or without the prompt; a scale of
    1 or less calls it once.
    """

    def denoise(x: Tensor, t: float) -> Tensor:
        told = model(x, t, True)
        if scale <= 1:
            return told
        return torch.lerp(model(x, t, False), told, scale)

    return denoise
