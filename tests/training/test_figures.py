import torch

from aiprod_studio.training.choreography import Pose
from aiprod_studio.training.figures import cast_shadow, draw_figure, find_surface


def pose(x=0.5, tall=0.5, turn=0.0, lift=0.0):
    """Return a pose `[1, 1]` on the ground at 0.88 of the frame's height."""
    values = (x, 0.88 - lift - tall / 2, tall, tall, 0.88, lift, turn, 1.0)
    return Pose(*(torch.tensor([[value]]) for value in values))


def test_the_surface_reaches_from_edge_to_edge_of_the_artwork():
    points = find_surface(pose(), 64, 64, 1.0)[0, :, 0]
    inside = (points.abs() < 1).all(dim=0)
    assert inside.float().mean() == 0.25
    rows, columns = inside.any(dim=1).nonzero(), inside.any(dim=0).nonzero()
    assert (columns.min().item(), columns.max().item()) == (16, 47)
    assert abs(rows.max().item() - 0.88 * 64) <= 1.5


def test_a_cover_grows_by_what_is_drawn():
    frames, cover = torch.zeros(1, 3, 64, 64), torch.zeros(1, 64, 64)
    artwork = torch.ones(4, 8, 8)
    draw_figure(frames, cover, artwork, pose(x=0.3, tall=0.2))
    once = cover.sum().item()
    draw_figure(frames, cover, artwork, pose(x=0.7, tall=0.2))
    assert abs(cover.sum().item() - 2 * once) < 1
    assert abs((frames[0, 0] > 0.5).sum().item() - 2 * once) < 0.2 * once
    draw_figure(frames, cover, artwork, pose(x=9.0))
    assert abs(cover.sum().item() - 2 * once) < 1


def test_a_shadow_is_as_large_as_what_casts_it_and_fades_with_its_height():
    dark = {}
    for name, tall, scale, lift in (
        ("small", 0.2, 0.4, 0),
        ("usual", 0.5, 1, 0),
        ("high", 0.5, 1, 0.4),
    ):
        frames = torch.ones(1, 3, 64, 64)
        cast_shadow(frames, pose(tall=tall, lift=lift), scale)
        dark[name] = 1 - frames
    assert dark["small"].sum() < 0.4 * dark["usual"].sum()
    assert dark["high"].max() < 0.5 * dark["usual"].max()
    assert dark["usual"][0, 0].sum(dim=1).argmax().item() in (55, 56)
