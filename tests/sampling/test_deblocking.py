"""Deblocking, on frames whose steps are known."""

import torch
import torch.nn.functional as F

from aiprod_studio.sampling.deblocking import deblock

CELL = 8


def sky(height: int = 40, width: int = 48) -> torch.Tensor:
    """Return frames `[1, 3, 2, H, W]` that rise smoothly both ways."""
    rows = torch.linspace(-0.5, 0.5, height).view(-1, 1)
    columns = torch.linspace(-0.2, 0.3, width)
    return (rows + columns).expand(1, 3, 2, height, width).clone()


def blocks(height: int, width: int, strength: float) -> torch.Tensor:
    """Return an error for each cell of a frame, the same all over the cell."""
    dice = torch.Generator().manual_seed(3)
    cells = torch.randn(1, 3, height // CELL, width // CELL, generator=dice) * strength
    return F.interpolate(cells, (height, width), mode="nearest").unsqueeze(2)


def off(seen: torch.Tensor, shown: torch.Tensor) -> float:
    return float((seen - shown).square().mean().sqrt())


def test_a_smooth_frame_stays_as_it_is():
    assert off(deblock(sky(), CELL), sky()) < 1e-5


def test_steps_between_cells_become_ramps():
    shown = sky()
    seen = shown + blocks(40, 48, 0.04)
    mended = deblock(seen, CELL)

    def steps(video: torch.Tensor) -> float:
        change = (video - shown).diff(dim=4)[..., CELL - 1 :: CELL]
        return float(change.abs().mean())

    assert steps(mended) < 0.4 * steps(seen)
    assert off(mended, shown) < 0.95 * off(seen, shown)


def test_edges_of_what_is_shown_stay_sharp():
    shown = torch.full((1, 3, 1, 32, 32), -0.6)
    shown[..., 16:] = 0.6
    assert off(deblock(shown, CELL), shown) < 1e-3


def test_texture_is_not_taken_for_a_step():
    shown = torch.rand(1, 3, 1, 32, 32, generator=torch.Generator().manual_seed(1)) - 0.5
    assert off(deblock(shown, CELL), shown) < 0.02


def test_both_directions_are_treated_alike():
    seen = sky(40, 40) + blocks(40, 40, 0.04)
    turned = deblock(seen.transpose(3, 4), CELL).transpose(3, 4)
    assert off(turned, deblock(seen, CELL)) < 0.005


def test_a_frame_of_one_cell_has_no_steps():
    frame = torch.rand(1, 3, 1, CELL, CELL) * 2 - 1
    assert torch.equal(deblock(frame, CELL), frame)
