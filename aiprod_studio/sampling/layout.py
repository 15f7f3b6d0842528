"""Where the tiles of a frame lie: evenly, or by what the latents show.

All counts here are latents. Tiles cover the frame and overlap; each fades in and out over its
overlaps. A decoder errs at a tile's edge where it misses the neighbours, the more so the more they
differ: on the starter's VAE by 4e-5 (mean square, frames in -1…1) where latents are smooth, 1e-3 in
detail, and 20 to 50 times less one latent further in. So cuts through detail need more overlap than
cuts through sky, and tiles grow where cuts are cheap.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

# A cut of this difficulty gets the usual overlap, one of `_STEEP` times more or less half of it
# more or less: errors grow by its square, and fall by as much over half the usual two latents.
_TYPICAL = 1.0
_STEEP = 6.0
# Numbers of bands that are tried, from the least that can suffice.
_TRIES = 4


@dataclass(frozen=True)
class Side:
    """A tile along one axis, from `start` to `end`, and over how much it fades `before`, `after`."""

    start: int
    end: int
    before: int = 0
    after: int = 0

    @property
    def length(self) -> int:
        """The latents from start to end."""
        return self.end - self.start


Tile = tuple[Side, Side]


def windows(length: int, side: int, overlap: int) -> list[Side]:
    """Return the fewest windows of at most `side` that cover 0…`length` and share `overlap`.

    They are as even as can be; none is shorter than `overlap` + 1, for `side` > `overlap`.
    """
    if side >= length:
        return [Side(0, length)]
    count = math.ceil((length - overlap) / (side - overlap))
    cuts = [number * (length - overlap) // count for number in range(count + 1)]
    return [
        Side(start, end + overlap, overlap * (start > 0), overlap * (end + overlap < length))
        for start, end in itertools.pairwise(cuts)
    ]


def lay_evenly(height: int, width: int, side: int, overlap: int) -> list[Tile]:
    """Return tiles (rows, columns) of at most `side` × `side` that share `overlap`."""
    rows, columns = windows(height, side, overlap), windows(width, side, overlap)
    return list(itertools.product(rows, columns))


def lay_by_content(latents: Tensor, side: int, overlap: int) -> list[Tile]:
    """Return tiles of at most `side`² latents for `latents` `[B, C, T, h, w]` of unit variance.

    Neighbours share half of `overlap` in smooth regions and half more than it in detail; cuts lie
    where least overlap is needed. Even tiles where these are no larger.
    """
    needs = _needs(difficulty(latents), overlap)
    height, width = len(needs), len(needs[0])
    found = lay_evenly(height, width, side, overlap)
    least = math.ceil(height / (side - (overlap + 1) // 2))
    for count in range(least, min(least + _TRIES, height // 2 + 1)):
        tiles = _lay_bands(needs, _place_cuts(needs, count), side * side)
        if tiles and work(tiles) < work(found):
            found = tiles
    return found


def difficulty(latents: Tensor) -> Tensor:
    """Return how much each place `[h, w]` of `[B, C, T, h, w]` differs from its neighbours' mean."""
    B, C, T, H, W = latents.shape
    frames = latents.float().reshape(B * C, T, H, W)
    mean = F.avg_pool2d(F.pad(frames, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return (frames - mean).square_().mean(dim=(0, 1)).sqrt_()


def work(tiles: Sequence[Tile]) -> int:
    """Return the latents that all tiles decode."""
    return sum(rows.length * columns.length for rows, columns in tiles)


def _needs(hard: Tensor, overlap: int) -> list[list[int]]:
    """Return the overlap that a cut through each place `[h][w]` needs."""
    steps = (hard.clamp(min=1e-6) / _TYPICAL).log() / math.log(_STEEP)
    wanted = (overlap * (1 + steps / 2)).round()
    needs: list[list[int]] = wanted.clamp((overlap + 1) // 2, overlap + overlap // 2).int().tolist()
    return needs


def _place_cuts(needs: list[list[int]], count: int) -> list[int]:
    """Return the rows where `count` bands of about one height begin and end, cut where it is easy."""
    height = len(needs)
    cost = [math.inf, *(sum(map(sum, pair)) for pair in itertools.pairwise(needs))]
    cuts = [0]
    for number in range(1, count):
        ideal, reach = number * height / count, height / count / 5
        near = range(math.ceil(ideal - reach), math.floor(ideal + reach) + 1)
        rows = [row for row in near if cuts[-1] + 1 < row < height - 1] or [round(ideal)]
        cuts.append(min(rows, key=lambda row: (cost[row], abs(row - ideal))))
    return [*cuts, height]


def _lay_bands(needs: list[list[int]], cuts: Sequence[int], area: int) -> list[Tile]:
    """Return the tiles of all bands, none where a band has none within `area`."""
    tiles: list[Tile] = []
    for top, bottom in itertools.pairwise(cuts):
        band = _lay_band(needs, top, bottom, area)
        if not band:
            return []
        tiles += band
    return tiles


def _lay_band(needs: list[list[int]], top: int, bottom: int, area: int) -> list[Tile]:
    """Return the tiles of one band of rows whose total area is least: shortest path over cuts."""
    width = len(needs[0])
    columns = [max(column) for column in zip(*needs[top:bottom], strict=True)]
    across = [0, *map(max, itertools.pairwise(columns)), 0]
    best: list[tuple[float, list[Tile]]] = [(0.0, [])]
    for right in range(1, width + 1):
        paths = [
            (best[tile[1]][0] + work([tile[0]]), tile)
            for tile in _candidates(needs, (top, bottom), right, across, area)
        ]
        cost, (tile, left) = min(paths, key=lambda path: path[0], default=(math.inf, (None, 0)))
        best.append((cost, [*best[left][1], tile] if tile else []))
    return best[width][1] if math.isfinite(best[width][0]) else []


def _candidates(
    needs: list[list[int]], band: tuple[int, int], right: int, across: list[int], area: int
) -> Iterator[tuple[Tile, int]]:
    """Yield the tiles of a band that end at the cut `right`, and the cut where each begins."""
    height, width = len(needs), len(needs[0])
    top, bottom = band
    above = below = 0
    for left in range(right - 1, -1, -1):
        if top > 0:
            above = max(above, needs[top - 1][left], needs[top][left])
        if bottom < height:
            below = max(below, needs[bottom - 1][left], needs[bottom][left])
        rows = _extend(top, bottom, above, below, height)
        columns = _extend(left, right, across[left], across[right], width)
        if rows.length * columns.length > area:
            return
        if min(columns.length, rows.length) >= 2:
            yield (rows, columns), left


def _extend(start: int, end: int, before: int, after: int, length: int) -> Side:
    """Return a side from cut to cut, extended by its share of both overlaps."""
    first, last = max(0, start - before // 2), min(length, end + (after + 1) // 2)
    return Side(first, last, before if first else 0, after if last < length else 0)
