"""Where the tiles of a frame lie: evenly, or by what the latents show.

All counts here are latents. Tiles cover the frame and overlap; each fades in and out over its
overlaps. A decoder errs at a tile's edge, where it misses the neighbours, the more so the more they
differ: on the starter's VAE by 2e-5 (mean square, of -1…1) where latents are smooth and by 1e-3 in
detail, 10 to 50 times less one latent further in. So cuts through detail need more overlap than
cuts through sky, and tiles grow where cuts are cheap.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

# A cut of this difficulty gets the usual overlap. Errors grow by the square of the difficulty and
# fall by about overlap^-1.6, so that area and error are in balance at overlap ~ difficulty^0.75.
_TYPICAL = 0.7
_GROWTH = 0.75
# Numbers of bands that are tried, from the least that can suffice.
_TRIES = 3

Grid = list[list[int]]


@dataclass(frozen=True)
class Side:
    """A tile along one axis, and over how much it fades in (`before`) and out (`after`)."""

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

    Neighbours share from half of `overlap` in smooth regions to twice of it in detail; cuts lie
    where little overlap is needed. Even tiles where these decode no less.
    """
    needs = _needs(difficulty(latents), overlap, side // 2)
    height, width = len(needs), len(needs[0])
    found = lay_evenly(height, width, side, overlap)
    least = math.ceil(height / side)
    for count in range(least, min(least + _TRIES, height // 2 + 1)):
        tiles = _lay_bands(needs, _place_cuts(needs, count), side * side)
        if tiles and work(tiles) < work(found):
            found = tiles
    return found


def difficulty(latents: Tensor) -> Tensor:
    """Return how much each place `[h, w]` of `[B, C, T, h, w]` differs from those around it."""
    B, C, T, H, W = latents.shape
    frames = latents.float().reshape(B * C, T, H, W)
    mean = F.avg_pool2d(F.pad(frames, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return (frames - mean).square_().mean(dim=(0, 1)).sqrt_()


def work(tiles: Sequence[Tile]) -> int:
    """Return the latents that all tiles decode."""
    return sum(rows.length * columns.length for rows, columns in tiles)


def _needs(hard: Tensor, overlap: int, most: int) -> Grid:
    """Return the overlap that a cut through each place `[h][w]` needs, at most `most`."""
    wanted = (overlap * (hard / _TYPICAL) ** _GROWTH).round()
    least = min(max(1, overlap // 2), most)
    needs: Grid = wanted.clamp(least, min(2 * overlap, most)).int().tolist()
    return needs


def _place_cuts(needs: Grid, count: int) -> list[int]:
    """Return the rows where bands of about one height begin and end, cut where it is easy."""
    height = len(needs)
    sums = [sum(row) for row in needs]
    cuts = [0]
    for number in range(1, count):
        ideal, reach = number * height / count, height / count / 5
        near = range(math.ceil(ideal - reach), math.floor(ideal + reach) + 1)
        rows = [row for row in near if cuts[-1] + 1 < row < height - 1] or [round(ideal)]
        cuts.append(min(rows, key=lambda row: (sums[row - 1] + sums[row], abs(row - ideal))))
    return [*cuts, height]


def _lay_bands(needs: Grid, cuts: Sequence[int], area: int) -> list[Tile]:
    """Return the tiles of all bands, none where a band has none within `area`."""
    tiles: list[Tile] = []
    for top, bottom in itertools.pairwise(cuts):
        band = _Band(needs, top, bottom).lay(area)
        if not band:
            return []
        tiles += band
    return tiles


class _Band:
    """Rows of a frame between two cuts, and the overlap that its own cuts and borders need."""

    def __init__(self, needs: Grid, top: int, bottom: int) -> None:
        self.top, self.bottom = top, bottom
        self.height, self.width = len(needs), len(needs[0])
        columns = [max(column) for column in zip(*needs[top:bottom], strict=True)]
        self.cuts: list[int] = [0, *map(max, itertools.pairwise(columns)), 0]
        self.above = [*map(max, needs[top - 1], needs[top])] if top else [0] * self.width
        last = bottom == self.height
        self.below = [0] * self.width if last else [*map(max, needs[bottom - 1], needs[bottom])]

    def lay(self, area: int) -> list[Tile]:
        """Return the tiles within `area` that decode least: the shortest path over cuts."""
        costs, lefts = [0.0], [0]
        for right in range(1, self.width + 1):
            cost, left = math.inf, 0
            above = below = 0
            for start in range(right - 1, -1, -1):
                above, below = max(above, self.above[start]), max(below, self.below[start])
                size = self._size(start, right, above, below)
                if size > area:
                    break
                if right - start > 1 and costs[start] + size < cost:
                    cost, left = costs[start] + size, start
            costs.append(cost)
            lefts.append(left)
        return self._trace(lefts) if math.isfinite(costs[-1]) else []

    def _size(self, left: int, right: int, above: int, below: int) -> int:
        """Return the latents of the tile between two cuts."""
        first = max(0, left - self.cuts[left] // 2)
        last = min(self.width, right + (self.cuts[right] + 1) // 2)
        top, bottom = max(0, self.top - above // 2), self.bottom + (below + 1) // 2
        return (last - first) * (min(self.height, bottom) - top)

    def _trace(self, lefts: list[int]) -> list[Tile]:
        """Return the tiles of the path that ends at the last cut."""
        tiles, right = [], self.width
        while right:
            left = lefts[right]
            above, below = max(self.above[left:right]), max(self.below[left:right])
            rows = _extend(self.top, self.bottom, above, below, self.height)
            columns = _extend(left, right, self.cuts[left], self.cuts[right], self.width)
            tiles.append((rows, columns))
            right = left
        return tiles


def _extend(start: int, end: int, before: int, after: int, length: int) -> Side:
    """Return a side from cut to cut, extended by its share of both overlaps."""
    first, last = max(0, start - before // 2), min(length, end + (after + 1) // 2)
    return Side(first, last, before if first else 0, after if last < length else 0)
