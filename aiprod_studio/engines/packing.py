"""Weight matrices in few bits: 8 with a scale per row, or 4 with a scale per group of a row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 64  # at most so many values of a row share a scale in 4 bits
_LARGEST = 7


def to_eight_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight as int8 of its shape, and the scale of each row `[rows]`."""
    scale = weight.flatten(1).abs().amax(dim=1).clamp(min=1e-8) / 127
    return (weight / scale.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8), scale


def from_eight_bits(stored: Tensor, scale: Tensor) -> Tensor:
    """Return the weight that `to_eight_bits` has stored, in float32."""
    return stored.float() * scale.view(-1, *[1] * (stored.ndim - 1))


def to_four_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight as uint8, two values in each, and the scales `[rows, groups]` in 16 bits.

    The groups of a row are equally long; its last one is filled up with zeros.
    """
    rows = weight.flatten(1)
    count = -(-rows.shape[1] // GROUP)
    size = -(-rows.shape[1] // (2 * count)) * 2
    groups = F.pad(rows, (0, count * size - rows.shape[1])).view(len(rows), count, size)
    scale = (groups.abs().amax(dim=2) / _LARGEST).clamp(min=1e-7).half()
    values = (groups / scale.float().unsqueeze(2)).round().clamp(-_LARGEST, _LARGEST) + _LARGEST
    pairs = values.to(torch.uint8).view(len(rows), -1, 2)
    return pairs[..., 0] | pairs[..., 1] << 4, scale


def from_four_bits(stored: Tensor, scale: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the weight of a shape that `to_four_bits` has stored, in float32."""
    values = torch.stack([stored & 15, stored >> 4], dim=2).flatten(1).float() - _LARGEST
    groups = values.view(*scale.shape, -1) * scale.float().unsqueeze(2)
    length = torch.Size(shape[1:]).numel()
    return groups.flatten(1)[:, :length].reshape(tuple(shape))
