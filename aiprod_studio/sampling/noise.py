"""The noise that latents are made of."""

from __future__ import annotations

import torch
from torch import Tensor


def carry_noise(noise: Tensor, carried: float) -> Tensor:
    """Return unit noise whose latent frames resemble those before them, of independent ones.

    `noise` is `[B, C, T, H, W]`, `carried` the correlation of a frame's noise with that of the one
    before, in 0…1. What frames are made of being alike, so is what is made of them (the progressive
    noise of Ge et al., Preserve Your Own Correlation, 2023).
    """
    frames = list(noise.unbind(2))
    for at in range(1, len(frames)):
        frames[at] = carried * frames[at - 1] + (1 - carried**2) ** 0.5 * frames[at]
    return torch.stack(frames, dim=2)
