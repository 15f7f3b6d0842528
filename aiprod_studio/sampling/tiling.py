"""Tiling: a video VAE run on overlapping pieces of space and time that fade into each other.

    tiling = Tiling(space=16, time=4, tile=96, overlap=32, chunk=64)
    video = decode_tiled(vae.decode, latents, tiling)             # all at once
    for frames in decode_stream(vae.decode, latents, tiling):     # as they come: flat memory
    latents = encode_tiled(vae.encode, video, tiling)

`decode` maps latents `[B, C, T, h, w]` to video `[B, c, t, h·space, w·space]` with
t = time·(T - 1) + 1, and `encode` back: the first latent is one frame, each further one `time`
frames. `tile`, `overlap` and `chunk` are a plan's. The pieces of a decoder on another device than
the CPU are joined on the CPU in 16 bits, so that the device never holds more than one of them.
All of it runs in inference mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from aiprod_studio.sampling.layout import Side, Tile, lay_by_content, lay_evenly, windows
from aiprod_studio.types import SHARED_FRAMES

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tiling:
    """A VAE's factors of space and time, and the pieces it works in.

    `tile` is a side in pixels (0: the whole frame), `overlap` the pixels that neighbours share,
    `chunk` frames (0: all). `by_content` lays tiles of at most `tile`² pixels by what the latents
    show, which must have about unit variance; encoding, which has none yet, lays them evenly.
    """

    space: int
    time: int
    tile: int = 0
    overlap: int = 0
    chunk: int = 0
    by_content: bool = False

    @property
    def side(self) -> int:
        """The latents of a tile's side, at least two, as some decoders mirror their edges."""
        return max(2, self.tile // self.space)

    @property
    def shared(self) -> int:
        """The latents that neighbouring tiles share, at least one, so that they can fade."""
        return min(max(1, self.overlap // self.space), self.side - 1)

    def lay(self, latents: Tensor) -> list[Tile]:
        """Return the tiles of latents `[B, C, T, h, w]`."""
        H, W = latents.shape[-2:]
        if not self.tile:
            return [(Side(0, H), Side(0, W))]
        if self.by_content:
            return lay_by_content(latents, self.side, self.shared)
        return lay_evenly(H, W, self.side, self.shared)

    def spans(self, length: int) -> list[Side]:
        """Return the spans of time that `length` latents are decoded in."""
        if not self.chunk:
            return [Side(0, length)]
        side = max(2, self.chunk // self.time + 1)
        return windows(length, side, min(SHARED_FRAMES // self.time + 1, side - 1))


def decode_tiled(decode: Network, latents: Tensor, tiling: Tiling) -> Tensor:
    """Return `decode(latents)`, computed in pieces."""
    return torch.cat(list(decode_stream(decode, latents, tiling)), dim=2)


def decode_stream(decode: Network, latents: Tensor, tiling: Tiling) -> Iterator[Tensor]:
    """Yield the frames of `decode(latents)` in order, `[B, c, t, H, W]` of each chunk.

    The frames that two chunks share fade from the earlier one's to the later one's.
    """
    spans, held = tiling.spans(latents.shape[2]), None
    for span in spans:
        frames = _decode_span(decode, latents[:, :, span.start : span.end], tiling)
        if held is not None:
            _fade_in(frames, held)
        kept = tiling.time * (span.after - 1) + 1 if span.after else 0
        ready = frames.shape[2] - kept
        held = frames[:, :, ready:].clone()
        yield frames[:, :, :ready]


@torch.inference_mode()
def encode_tiled(encode: Network, video: Tensor, tiling: Tiling) -> Tensor:
    """Return `encode(video)`, latents `[B, C, T, h, w]` computed in pieces."""
    B, _, t, H, W = video.shape
    p, k = tiling.space, tiling.time
    cells = video.new_empty(1, 1, 1, 1, 1).expand(B, 1, (t - 1) // k + 1, H // p, W // p)
    even = dataclasses.replace(tiling, by_content=False)
    parts: list[Tensor] = []
    for span in even.spans(cells.shape[2]):
        frames = video[:, :, k * span.start : k * (span.end - 1) + 1]

        def run(rows: Side, columns: Side, frames: Tensor = frames) -> Tensor:
            area = frames[..., rows.start * p : rows.end * p, columns.start * p : columns.end * p]
            return encode(area)

        piece = _join(run, even.lay(cells), 1)
        if span.before:
            tail = parts.pop()
            ready = tail.shape[2] - span.before
            _fade_in(piece, tail[:, :, ready:])
            parts.append(tail[:, :, :ready])
        parts.append(piece)
    return torch.cat(parts, dim=2)
