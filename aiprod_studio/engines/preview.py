"""A cheap look at latents: the colours that a straight line through a VAE's own latents finds.

Decoding a frame at every step would need the decoder on the device beside the denoiser. A linear
map does not; it shows places and colours, not detail.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aiprod_studio.engines.engine import Frame
from aiprod_studio.types import Plan

# Cells of a sample's side, and samples: several times as many places as any VAE has channels.
_SIDE, _SAMPLES = 8, 8


@torch.inference_mode()
def fit_colours(encode: Callable[[Tensor], Tensor], space: int) -> Tensor:
    """Return the map `[C + 1, 3]` from latents to colours in -1…1, its last row the constant.

    `encode` maps one frame `[1, 3, 1, H, W]` to latents `[1, C, 1, H/space, W/space]`.
    """
    dice = torch.Generator().manual_seed(0)
    rows, colours = [], []
    for number in range(_SAMPLES):
        # Coarse to fine: latents of a place depend on its neighbours, too.
        grid = torch.rand(1, 3, 2 + number % 4, 2 + number % 4, generator=dice) * 2 - 1
        small = F.interpolate(grid, (_SIDE, _SIDE), mode="bilinear")
        picture = F.interpolate(small, scale_factor=space, mode="bilinear")
        latents = encode(picture[:, :, None])[0, :, 0].float().cpu()
        rows.append(latents.flatten(1).T)
        colours.append(F.avg_pool2d(picture, space)[0].flatten(1).T)
    known = _with_constant(torch.cat(rows))
    # What these pictures hardly excite must not be amplified in others.
    damping = 1e-3 * len(known) * torch.eye(known.shape[1])
    found: Tensor = torch.linalg.solve(known.T @ known + damping, known.T @ torch.cat(colours))
    return found


def paint(latents: Tensor, colours: Tensor, plan: Plan) -> Frame:
    """Return the first frame `[H, W, 3]` of latents `[1, C, T, h, w]` by a map of colours."""
    first = latents[0, :, 0].detach().float().cpu()
    rgb = (_with_constant(first.flatten(1).T) @ colours).T.view(1, 3, *first.shape[1:])
    size = (plan.height, plan.width)
    large = F.interpolate(rgb, size, mode="bilinear")[0].permute(1, 2, 0)
    frame: Frame = ((large + 1) * 127.5).round().clamp(0, 255).numpy().astype(np.uint8)
    return frame


def _with_constant(rows: Tensor) -> Tensor:
    """Return rows `[n, C]` with a 1 behind each."""
    return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
