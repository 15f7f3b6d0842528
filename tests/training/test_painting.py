import pytest
import torch

from aiprod_studio.training.painting import Backdrop, paint_ground, paint_sky, scatter
from aiprod_studio.training.world import load_world


@pytest.mark.parametrize("place", load_world().places, ids=lambda place: place.id)
@pytest.mark.parametrize("flat", [False, True])
def test_every_place_is_painted_at_every_hour(place, flat):
    dice = torch.Generator().manual_seed(1)
    means = []
    for hour in range(3):
        backdrop = Backdrop(place, hour, 0.5, flat, 48, 64)
        sky, ground = paint_sky(backdrop, dice), paint_ground(backdrop, dice)
        assert sky.shape == (3, 48, 64)
        assert ground.shape == (4, 48, 64)
        assert min(sky.min(), ground.min()) >= 0
        assert max(sky.max(), ground.max()) <= 1
        assert (ground[:3] <= ground[3:] + 1e-6).all()
        assert (ground[3, -10:] == 1).all()
        means.append(ground[:3].mean())
    assert means[0] > means[2]


def test_flat_style_has_less_texture():
    place = next(place for place in load_world().places if place.id == "meadow")
    rough = []
    for flat in (False, True):
        ground = paint_ground(Backdrop(place, 0, 0, flat, 64, 64), torch.Generator())
        rough.append(ground[:3, -20:].diff(dim=-1).abs().mean())
    assert rough[1] < 0.2 * rough[0]


@pytest.mark.parametrize(("height", "width"), [(256, 256), (300, 515), (130, 128)])
def test_specks_are_as_large_in_the_frame_at_any_size(height, width):
    specks = scatter(height, width, torch.Generator().manual_seed(4))
    assert specks.shape == (height, width)
    side = min(height, width) // 128
    small = scatter(-(-height // side), -(-width // side), torch.Generator().manual_seed(4))
    assert torch.equal(specks[::side, ::side], small)
    assert torch.equal(specks[side - 1 :: side, ::side], small[: len(specks) // side])
