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

    def spans(self, length: int) -> list[Side]:
        """Return the spans of time that `length` latents are worked on in."""
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

    def run(span: Side) -> Tensor:
        seen = latents[:, :, span.start : span.end]
        tiles = _lay(tiling, *seen.shape[-2:])
        if tiling.tile and tiling.by_content:
            tiles = lay_by_content(seen, tiling.side, tiling.shared)
        return _join(lambda tile: _settle(decode(_cut(seen, tile, 1))), tiles, tiling.space)

    spans = tiling.spans(latents.shape[2])
    return _chain(run, spans, lambda shared: tiling.time * (shared - 1) + 1)


def encode_tiled(encode: Network, video: Tensor, tiling: Tiling) -> Tensor:
    """Return `encode(video)`, latents `[B, C, T, h, w]` computed in pieces."""
    space, time = tiling.space, tiling.time
    t, H, W = video.shape[2:]
    tiles = _lay(tiling, H // space, W // space)

    def run(span: Side) -> Tensor:
        frames = video[:, :, time * span.start : time * (span.end - 1) + 1]
        return _join(lambda tile: encode(_cut(frames, tile, space)), tiles, 1)

    spans = tiling.spans((t - 1) // time + 1)
    return torch.cat(list(_chain(run, spans, lambda shared: shared)), dim=2)


def _lay(tiling: Tiling, height: int, width: int) -> list[Tile]:
    """Return even tiles of so many latents, or one."""
    if not tiling.tile:
        return [(Side(0, height), Side(0, width))]
    return lay_evenly(height, width, tiling.side, tiling.shared)


def _chain(
    run: Callable[[Side], Tensor], spans: list[Side], count: Callable[[int], int]
) -> Iterator[Tensor]:
    """Yield what `run` makes of each span, in order; `count` latents of overlap fade."""
    held: Tensor | None = None
    for span in spans:
        piece = run(span)
        if held is not None:
            _fade_in(piece, held)
        ready = piece.shape[2] - (count(span.after) if span.after else 0)
        # A view would keep all of the piece in memory.
        held = piece[:, :, ready:].clone()
        yield piece[:, :, :ready]
        del piece


@torch.inference_mode()
def _fade_in(piece: Tensor, held: Tensor) -> None:
    """Let the first frames of a piece, in place, begin as the held ones."""
    first = piece[:, :, : held.shape[2]]
    ramp = _ramp(held.shape[2], held.shape[2], 0).view(-1, 1, 1)
    first.copy_(torch.lerp(held, first, ramp.to(held)))


@torch.inference_mode()
def _join(run: Callable[[Tile], Tensor], tiles: list[Tile], scale: int) -> Tensor:
    """Return what `run` makes of all tiles, faded into each other, `scale` values a latent."""
    if len(tiles) == 1:
        return run(tiles[0])
    masks = [torch.outer(*(_fades(side, scale) for side in tile)) for tile in tiles]
    height, width = (max(side.end for side in axis) * scale for axis in zip(*tiles, strict=True))
    weight, total = torch.zeros(height, width), torch.empty(0)
    for tile, mask in zip(tiles, masks, strict=True):
        _cut(weight, tile, scale).add_(mask)
    for tile, mask in zip(tiles, masks, strict=True):
        piece = run(tile)
        if not total.numel():
            total = piece.new_zeros(*piece.shape[:-2], height, width)
        piece *= mask.div_(_cut(weight, tile, scale)).to(piece)
        _cut(total, tile, scale).add_(piece)
    return total


def _cut(whole: Tensor, tile: Tile, scale: int) -> Tensor:
    """Return the view `[..., h, w]` that a tile has of a frame of `scale` values a latent."""
    rows, columns = (slice(side.start * scale, side.end * scale) for side in tile)
    return whole[..., rows, columns]


def _settle(piece: Tensor) -> Tensor:
    """Return a decoded piece where it will wait for the others."""
    return piece if piece.device.type == "cpu" else piece.to("cpu", torch.float16)


def _fades(side: Side, scale: int) -> Tensor:
    """Return a tile's weight along one axis."""
    return _ramp(side.length * scale, side.before * scale, side.after * scale)


def _ramp(length: int, before: int, after: int) -> Tensor:
    """Return weights of 1 that rise linearly over the first values and fall over the last."""
    place = torch.arange(length) + 0.5
    rise = (place / before).clamp(max=1) if before else torch.ones(length)
    fall = ((length - place) / after).clamp(max=1) if after else torch.ones(length)
    return rise * fall
