"""The upscaler: frames to frames of twice the height and width, one by one."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

FACTOR = 2


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
    """What bicubic interpolation lacks, from sub-pixel convolution (Shi et al., 2016)."""

    def __init__(self, config: UpscalerConfig) -> None:
        super().__init__()
        self.config = config
        cell = 3 * FACTOR**2
        self.inward = nn.Conv2d(cell, config.width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(config.width) for _ in range(config.blocks)))
        self.outward = nn.Conv2d(config.width, cell * FACTOR**2, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames `[B, 3, H, W]` in -1…1, of even sides, to `[B, 3, 2H, 2W]`."""
        smooth = F.interpolate(frames, scale_factor=FACTOR, mode="bicubic", align_corners=False)
        hidden = self.blocks(self.inward(F.pixel_unshuffle(frames, FACTOR)))
        return smooth + F.pixel_shuffle(self.outward(F.gelu(hidden)), FACTOR**2)
