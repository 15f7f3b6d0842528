"""The upscaler: frames to frames of twice the height and width, one by one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FACTOR = 2
TAPS = 7  # the side of the linear filters


@dataclass(frozen=True)
class UpscalerConfig:
    """Its sizes; it works on cells of 2 × 2 pixels, where the same arithmetic sees further."""

    width: int = 64
    blocks: int = 4

    @classmethod
    def starter(cls) -> UpscalerConfig:
        """Return the size that a laptop's processor runs."""
        return cls()

    @classmethod
    def base(cls) -> UpscalerConfig:
        """Return a size for a GPU."""
        return cls(width=128, blocks=12)


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inward = nn.Conv2d(width, width, 3, padding=1)
        self.outward = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, D, h, w]` to the same shape."""
        out: Tensor = x + self.outward(F.gelu(self.inward(x)))
        return out


class Upscaler(nn.Module):
    """A linear filter for each pixel of a cell, and what it lacks by sub-pixel convolution.

    From Shi et al., 2016. The filters are the same for all colours.
    """

    def __init__(self, config: UpscalerConfig) -> None:
        super().__init__()
        self.config = config
        cell = 3 * FACTOR**2
        self.short = nn.Conv2d(
            1, FACTOR**2, TAPS, padding=TAPS // 2, padding_mode="replicate", bias=False
        )
        self.inward = nn.Conv2d(cell, config.width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(config.width) for _ in range(config.blocks)))
        self.outward = nn.Conv2d(config.width, cell * FACTOR**2, 3, padding=1)
        for values in self.outward.parameters():
            nn.init.zeros_(values)
        with torch.no_grad():
            self.short.weight.zero_()[:, :, TAPS // 2, TAPS // 2] = 1  # repeats each pixel

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames `[B, 3, H, W]` in -1…1, of even sides, to `[B, 3, 2H, 2W]`."""
        smooth = F.pixel_shuffle(self.short(frames.flatten(0, 1).unsqueeze(1)), FACTOR)
        hidden = self.blocks(self.inward(F.pixel_unshuffle(frames, FACTOR)))
        lacking = F.pixel_shuffle(self.outward(F.gelu(hidden)), FACTOR**2)
        return smooth.view_as(lacking) + lacking
