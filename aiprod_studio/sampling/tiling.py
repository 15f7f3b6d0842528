"""Tiling: a decoder run on overlapping windows of its latents, blended where they meet."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def decode_tiled(
    decode: Callable[[Tensor], Tensor], latents: Tensor, tile: int, factor: int, overlap: int = 2
) -> Tensor:
    """Return `decode(latents)` computed in windows of `tile` pixels a side (0: all at once).

    `latents` is `[B, C, T, h, w]`, the result `[B, c, t, h·factor, w·factor]`; neighbours share
    `overlap` latents and fade into each other linearly.
    """
    side = tile // factor
    H, W = latents.shape[-2:]
    if side <= 0 or (side >= H and side >= W):
        return decode(latents)
    total: Tensor | None = None
    weight = torch.zeros(H * factor, W * factor, device=latents.device)
    for top, bottom in windows(H, side, overlap):
        for left, right in windows(W, side, overlap):
            seen = decode(latents[..., top:bottom, left:right])
            if total is None:
                shape = (*seen.shape[:-2], H * factor, W * factor)
                total = torch.zeros(shape, device=seen.device, dtype=seen.dtype)
            ramp = torch.outer(
                _ramp(bottom - top, top > 0, bottom < H, factor, overlap),
                _ramp(right - left, left > 0, right < W, factor, overlap),
            ).to(seen)
            area = (slice(top * factor, bottom * factor), slice(left * factor, right * factor))
            total[..., area[0], area[1]] += seen * ramp
            weight[area] += ramp.to(weight)
    assert total is not None
    return total / weight.to(total)


def windows(length: int, side: int, overlap: int) -> list[tuple[int, int]]:
    """Return windows of `side` (at most `length`) that cover 0…length and share `overlap`."""
    side = min(max(side, overlap + 1), length)
    starts = [*range(0, length - side, side - overlap), length - side]
    return [(start, start + side) for start in starts]


def _ramp(cells: int, before: bool, after: bool, factor: int, overlap: int) -> Tensor:
    """Return blending weights of one axis, rising and falling where there is a neighbour."""
    ramp = torch.ones(cells * factor)
    width = min(overlap, cells) * factor
    rise = (torch.arange(width) + 0.5) / width
    if before:
        ramp[:width] *= rise
    if after:
        ramp[-width:] *= rise.flip(0)
    return ramp
