import itertools

import pytest
import torch
import torch.nn.functional as F

from aiprod_studio.sampling.tiling import decode_tiled, windows


def grow(latents: torch.Tensor) -> torch.Tensor:
    B, C, T, H, W = latents.shape
    return F.interpolate(latents.view(B, C * T, H, W), scale_factor=16).view(B, C, T, H * 16, -1)


@pytest.mark.parametrize("tile", [0, 48, 64, 80, 400])
def test_tiles_join_without_a_seam(tile):
    latents = torch.randn(1, 3, 2, 9, 6)
    torch.testing.assert_close(decode_tiled(grow, latents, tile, 16), grow(latents))


def test_windows_cover_the_whole_length_and_overlap():
    for length in range(3, 30):
        spans = windows(length, 5, 2)
        covered = {i for start, end in spans for i in range(start, end)}
        assert covered == set(range(length))
        assert all(after[0] <= before[1] - 2 for before, after in itertools.pairwise(spans))
