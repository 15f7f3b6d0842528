"""The finisher: decoded frames and their animatic to frames whose figures are sharp.

A latent of the video VAE stands for four frames, in which whoever moves fast leaves a ghost. The
animatic shows frame by frame where every figure is and what it looks like; the finisher paints
with it what the decoder has smeared. It begins as the identity, and sees one frame at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aiprod_studio.models.video_vae import SharpBlock

_PATCH = 4  # pixels a side of what one cell of the finisher covers


@dataclass(frozen=True)
class FinisherConfig:
    """Width and blocks at a quarter of the frame's sides."""

    width: int = 48
    blocks: int = 3

    @classmethod
    def starter(cls) -> FinisherConfig:
        """Return the size that a laptop's processor runs."""
        return cls()

    @classmethod
    def base(cls) -> FinisherConfig:
        """Return the size beside the base backbone."""
        return cls(128, 6)


class Finisher(nn.Module):
    """Frames and what their animatic shows to finished frames."""

    def __init__(self, config: FinisherConfig) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Conv2d((3 + 4) * _PATCH**2, config.width, 1)
        self.blocks = nn.Sequential(*[SharpBlock(config.width) for _ in range(config.blocks)])
        self.out = nn.Conv2d(config.width, 3 * _PATCH**2, 3, padding=1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, frames: Tensor, animatic: Tensor) -> Tensor:
        """Map frames `[N, 3, H, W]` in -1…1 to the same shape, not clamped.

        The animatic `[N, 4, H, W]` is premultiplied RGBA in 0…1; H and W are multiples of 4.
        """
        x = self.enter(F.pixel_unshuffle(torch.cat([frames, animatic], dim=1), _PATCH))
        painted: Tensor = F.pixel_shuffle(self.out(self.blocks(x)), _PATCH)
        return frames + painted
