import itertools

import pytest
import torch

from aiprod_studio.sampling.layout import (
    Tile,
    difficulty,
    lay_by_content,
    lay_evenly,
    windows,
    work,
)


def coverage(tiles: list[Tile], height: int, width: int) -> torch.Tensor:
    seen = torch.zeros(height, width)
    for rows, columns in tiles:
        seen[rows.start : rows.end, columns.start : columns.end] += 1
    return seen


def spotted(height: int, width: int) -> torch.Tensor:
    """Return smooth latents with detail in a corner."""
    latents = torch.linspace(0, 1, width).expand(1, 8, 2, height, width).clone()
    latents[..., -height // 4 :, : width // 4] += 3 * torch.randn(-(-height // 4), width // 4)
    return latents


def test_windows_cover_the_whole_length_and_overlap() -> None:
    for length, side, overlap in itertools.product(range(2, 30), range(2, 9), range(1, 8)):
        if overlap >= side:
            continue
        spans = windows(length, side, overlap)
        covered = {place for span in spans for place in range(span.start, span.end)}
        assert covered == set(range(length))
        assert all(2 <= span.length <= max(side, 2) for span in spans)
        for before, after in itertools.pairwise(spans):
            assert before.end - after.start == before.after == after.before == overlap
        assert spans[0].before == spans[-1].after == 0


@pytest.mark.parametrize(("side", "overlap"), [(4, 2), (6, 2), (8, 3), (2, 1), (5, 4)])
def test_tiles_by_content_cover_the_frame_within_their_area(side: int, overlap: int) -> None:
    torch.manual_seed(0)
    for height, width in ((4, 4), (7, 5), (9, 16), (16, 9), (23, 31), (1, 12)):
        for latents in (spotted(height, width), torch.zeros(1, 4, 1, height, width)):
            tiles = lay_by_content(latents, side, overlap)
            assert coverage(tiles, height, width).min() == 1
            assert work(tiles) <= work(lay_evenly(height, width, side, overlap))
            for rows, columns in tiles:
                assert rows.length * columns.length <= side * side
                assert rows.length >= min(2, height)
                assert columns.length >= min(2, width)
                assert rows.start == 0 or rows.before > 0
                assert columns.end == width or columns.after > 0


def test_detail_gets_more_overlap_than_what_is_smooth() -> None:
    torch.manual_seed(0)

    def fades(latents: torch.Tensor) -> set[int]:
        sides = itertools.chain.from_iterable(lay_by_content(latents, 8, 2))
        return {fade for side in sides for fade in (side.before, side.after) if fade}

    smooth = torch.zeros(1, 8, 2, 24, 32)
    assert fades(smooth) == {1}
    assert {1, 4} <= fades(spotted(24, 32))
    even = work(lay_evenly(24, 32, 8, 2))
    assert work(lay_by_content(smooth, 8, 2)) < 0.85 * even
    assert work(lay_by_content(spotted(24, 32), 8, 2)) < even


def test_difficulty_is_the_distance_from_the_neighbours() -> None:
    assert difficulty(torch.ones(1, 3, 2, 4, 5)).abs().max() < 1e-6
    latents = torch.zeros(2, 3, 2, 5, 5)
    latents[..., 2, 2] = 9
    hard = difficulty(latents)
    assert hard.shape == (5, 5)
    assert hard[2, 2] == pytest.approx(8)
    assert hard[1, 1] == pytest.approx(1)
    assert hard[0, 0] == 0
