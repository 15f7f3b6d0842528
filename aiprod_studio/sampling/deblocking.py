"""Deblocking: steps between the cells that a decoder makes of its latents, smoothed away.

Latents that were found in noise are each a little off on their own, so that a clear sky shows the
cells' grid. As in video codecs (List et al., Adaptive Deblocking Filter, 2003) a step is taken for
such an error where it is small and the same all along the cells' side, and for content elsewhere.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# A step of this height, of -1…1, is half believed to be an error: in the starter's clips errors
# seldom reach it, and edges of what is shown are mostly higher.
_LIMIT = 0.2
_ROUGHNESS = 2.0  # how much a step's variation along the side counts beside its height


@torch.inference_mode()
def deblock(video: Tensor, cell: int) -> Tensor:
    """Return frames `[B, c, t, H, W]` in -1…1 without steps between cells of `cell` pixels a side.

    H and W are multiples of `cell`, an even number.
    """
    return _mend(_mend(video, cell).transpose(3, 4), cell).transpose(3, 4).clamp(-1, 1)


def _mend(video: Tensor, cell: int) -> Tensor:
    """Return frames whose steps from column to column of cells are ramps of half a cell a side."""
    height, width = video.shape[3:]
    if width <= cell:
        return video
    cells = video.reshape(*video.shape[:4], -1, cell)
    before, left = cells[..., :-1, -2], cells[..., :-1, -1]
    right, after = cells[..., 1:, 0], cells[..., 1:, 1]
    # What is shown may well rise or fall here: only what is beyond its slope is a step.
    steps = right - left - (left - before + after - right) / 2
    borders = steps.shape[-1]
    steps = steps.reshape(*video.shape[:3], -1, cell, borders)
    step = steps.mean(dim=4)
    rough = (steps - step.unsqueeze(4)).abs().mean(dim=4)
    error = step / (1 + ((step.abs() + _ROUGHNESS * rough) / _LIMIT) ** 4)
    error = F.interpolate(error.flatten(0, 1), (height, borders), mode="bilinear")
    error = error.view(*video.shape[:4], borders)
    rise = (torch.arange(cell, device=video.device, dtype=video.dtype) + 0.5) / cell
    ramp = torch.where(rise < 0.5, rise, rise - 1)
    mended = video.clone()
    mended[..., cell // 2 : -(cell // 2)] += error.repeat_interleave(cell, dim=4).mul_(
        ramp.repeat(borders)
    )
    return mended
