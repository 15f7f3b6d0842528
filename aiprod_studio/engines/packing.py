"""Weight matrices in few bits: whole steps of each row's scale, deflated.

The fewer steps there are from zero to a row's largest value, the fewer bits a weight takes: about 7
with 127 steps, 3.6 with 9.
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

FINEST = 127


def to_steps(weight: Tensor, finest: int = FINEST) -> tuple[Tensor, Tensor]:
    """Return a weight as int8 of its shape, `finest` at most, and the scale of rows `[rows]`."""
    scale = weight.flatten(1).abs().amax(dim=1).clamp(min=1e-8) / finest
    return (weight / scale.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8), scale


def from_steps(stored: Tensor, scale: Tensor) -> Tensor:
    """Return the weight that `to_steps` has stored, in float32."""
    return stored.float() * scale.view(-1, *[1] * (stored.ndim - 1))


def deflate(values: Tensor) -> Tensor:
    """Return int8 values as fewer bytes, uint8 `[n]`."""
    packer = zlib.compressobj(9, zlib.DEFLATED, strategy=zlib.Z_HUFFMAN_ONLY)
    packed = packer.compress(values.cpu().contiguous().numpy().tobytes()) + packer.flush()
    return torch.frombuffer(bytearray(packed), dtype=torch.uint8)


def inflate(packed: Tensor) -> Tensor:
    """Return the int8 values `[n]` that `deflate` has packed; raises `zlib.error` for others."""
    values = zlib.decompress(packed.cpu().numpy().tobytes())
    return torch.frombuffer(bytearray(values), dtype=torch.int8)
