"""Previews: the colours that a linear map finds in latents."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aiprod_studio.engines.preview import fit_colours, paint
from tests.engines.plans import plan_of

MIX = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))


def encode(video: Tensor) -> Tensor:
    """Return latents that are a mix of the colours of each 8 × 8 pixels, and an offset."""
    small = F.avg_pool2d(video[:, :, 0], 8)
    return (torch.einsum("ck,bkhw->bchw", MIX, small) + 0.5)[:, :, None]


def test_colours_that_latents_mix_are_found_again() -> None:
    plan = plan_of("wan", width=64, height=32)
    dice = torch.Generator().manual_seed(1)
    rough = torch.rand(1, 3, 2, 4, generator=dice) * 2 - 1
    picture = F.interpolate(rough, (32, 64), mode="bilinear")
    frame = paint(encode(picture[:, :, None]), fit_colours(encode, 8), plan)
    assert frame.shape == (32, 64, 3)
    assert frame.dtype == np.uint8
    seen = torch.tensor(frame).permute(2, 0, 1)[None].float() / 127.5 - 1
    wanted = F.interpolate(F.avg_pool2d(picture, 8), (32, 64), mode="bilinear")
    assert (seen - wanted).abs().max() < 0.02
