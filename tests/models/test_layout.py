import torch

from aiprod_studio.models.layout import (
    ALIKE,
    CELL_FEATURES,
    SLOTS,
    SOUND_FEATURES,
    TRACKS,
    Figures,
    LayoutConfig,
    LayoutPlanner,
    lay_cells,
    lay_sounds,
    read_tracks,
    write_tracks,
)


def figures(slot: int = 0, frames: int = 5, **changes: float) -> Figures:
    """Return one figure amid the frame, as large as half of it, in one of the slots."""
    usual = {"there": 1.0, "x": 0.5, "y": 0.5, "tall": 0.5, "slim": 1.0, "turn": 0.0, "side": 1.0}
    columns = {name: torch.zeros(1, frames, SLOTS) for name in usual}
    for name, value in (usual | changes).items():
        columns[name][..., slot] = value
    return Figures(**columns)


def tracks_of(those: Figures, landing: torch.Tensor | None = None) -> torch.Tensor:
    frames = those.x.shape[1]
    still = torch.zeros(1, frames, 2) if landing is None else landing
    return write_tracks(those, torch.zeros(1, frames, 3), still)


def test_tracks_say_again_what_was_written():
    torch.manual_seed(0)
    one = torch.rand(2, 9, SLOTS)
    those = Figures(
        there=(torch.rand(2, 1, SLOTS) < 0.5).float().expand(2, 9, SLOTS),
        x=one,
        y=one.flip(1),
        tall=0.2 + one,
        slim=0.5 + one,
        turn=one * 3,
        side=(torch.rand(2, 1, SLOTS) < 0.5).float().expand(2, 9, SLOTS) * 2 - 1,
    )
    camera, landing = torch.randn(2, 9, 3) / 6, torch.rand(2, 9, 2)
    tracks = write_tracks(those, camera, landing)
    assert tracks.shape == (2, 9, TRACKS)
    again, seen, heard = read_tracks(tracks)
    torch.testing.assert_close(seen, camera)
    torch.testing.assert_close(heard, landing)
    torch.testing.assert_close(again.there, those.there)
    here = those.there > 0
    for name in ("x", "y", "tall", "slim", "turn", "side"):
        torch.testing.assert_close(getattr(again, name)[here], getattr(those, name)[here])


def test_a_cell_knows_which_point_of_whose_artwork_lies_in_it():
    for slot, column in ((0, 0), (ALIKE - 1, 0), (ALIKE, 11), (ALIKE + 1, 22)):
        cells = lay_cells(tracks_of(figures(slot)), (8, 8))
        assert cells.shape == (1, 2, 8, 8, CELL_FEATURES)
        first = cells[0, 0, ..., column : column + 3]
        inside = first[..., 0]
        assert inside[2:6, 2:6].min() > 0.9
        assert inside[0].max() < 0.05
        # A quarter of a cell's side from the middle: columns go from left to right, rows down.
        torch.testing.assert_close(first[2:6, 4, 1] / inside[2:6, 4], torch.full((4,), 0.25))
        torch.testing.assert_close(first[3, 2:6, 2] / inside[3, 2:6], torch.full((4,), -0.25))
        others = [one for one in (0, 11, 22) if one != column]
        assert all(cells[..., one].max() < 1e-3 for one in others)


def test_who_is_mirrored_or_turned_shows_another_point():
    plain, mirrored, turned = (
        lay_cells(tracks_of(figures(**how)), (8, 8))[0, 0]
        for how in ({}, {"side": -1.0}, {"turn": torch.pi / 2})
    )
    torch.testing.assert_close(mirrored[..., 1], -plain[..., 1])
    torch.testing.assert_close(turned[..., 1], plain[..., 2], atol=1e-5, rtol=0)
    torch.testing.assert_close(turned[..., 2], -plain[..., 1], atol=1e-5, rtol=0)


def test_frames_wider_than_high_keep_the_figure_s_shape():
    inside = lay_cells(tracks_of(figures(tall=0.5)), (8, 16))[0, 0, ..., 0] > 0.5
    assert inside.any(dim=1).sum() == inside.any(dim=0).sum()


def test_the_nearest_of_a_kind_stands_for_it():
    left, right = figures(0, x=0.25, tall=0.3), figures(1, x=0.75, tall=0.3)
    both = Figures(*(getattr(left, name) + getattr(right, name) for name in vars(left)))
    inside = lay_cells(tracks_of(both), (8, 8))[0, 0, 4, :, 0] > 0.5
    assert inside.tolist() == [False, True, True, False, False, True, True, False]


def test_a_landing_is_heard_when_it_is_seen():
    landing = torch.zeros(1, 17, 2)
    landing[0, 8, 0] = 1  # at one second
    sounds = lay_sounds(tracks_of(figures(frames=17), landing), 27, 8.0)
    assert sounds.shape == (1, 27, SOUND_FEATURES)
    peak = sounds.flatten().argmax().item()
    assert abs((peak + 0.5) / (12.5 * SOUND_FEATURES) - 1) < 0.02
    assert sounds[0, :10].max() == 0
    alone = lay_sounds(tracks_of(figures(frames=1)), 2, 8.0)
    assert alone.shape == (1, 2, SOUND_FEATURES)


def test_the_planner_hears_the_prompt_and_the_time():
    torch.manual_seed(0)
    planner = LayoutPlanner(LayoutConfig(9, 8.0, 16, 7, 8, 32, 2, 1)).eval()
    for block in planner.blocks:
        torch.nn.init.normal_(block.told.weight, std=0.05)
    noisy, words = torch.randn(2, 9, TRACKS), torch.randn(2, 7, 16)
    with torch.no_grad():
        clean = planner(noisy, torch.full((2, 1), 0.5), words)
        other = planner(noisy, torch.full((2, 1), 0.5), words + 1)
        later = planner(noisy, torch.full((2, 1), 0.9), words)
    assert clean.shape == noisy.shape
    assert not torch.allclose(clean, other)
    assert not torch.allclose(clean, later)


def test_waves_say_what_tracks_say_the_slowest_first():
    torch.manual_seed(0)
    planner = LayoutPlanner(LayoutConfig(9, 8.0, 16, 7, 8, 32, 2, 1))
    planner.scale.uniform_(0.5, 2)
    tracks = torch.randn(2, 9, TRACKS)
    torch.testing.assert_close(planner.from_waves(planner.to_waves(tracks)), tracks)
    planner.scale.fill_(1)
    still, shaken = torch.ones(1, 9, TRACKS), torch.ones(1, 9, TRACKS)
    shaken[:, ::2] *= -1
    slow, fast = (planner.to_waves(each)[0].square().mean(dim=1) for each in (still, shaken))
    assert slow[0] > 8.9 > 1e-6 > slow[1:].sum()
    assert fast[8] > 7
