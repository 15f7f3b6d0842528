import torch

from aiprod_studio.models.layout import ALIKE, GROUP, SLOTS, Figures, write_tracks
from aiprod_studio.models.sketches import (
    ANIMATIC_FEATURES,
    FINE,
    Sketcher,
    SketcherConfig,
    animate,
    lay_sketches,
)

RED, GREEN, BLUE = torch.eye(3)


def plain(colour: torch.Tensor) -> torch.Tensor:
    """Return a sketch that one colour fills."""
    return torch.cat([colour, torch.ones(1)]).view(4, 1, 1).expand(4, 8, 8)


def tracks_of(*figures: dict[str, float], frames: int = 5) -> torch.Tensor:
    """Return the tracks of figures, each with its slot, as large as half of the frame."""
    usual = {"there": 1.0, "x": 0.5, "y": 0.5, "tall": 0.5, "slim": 1.0, "turn": 0.0, "side": 1.0}
    columns = {name: torch.zeros(1, frames, SLOTS) for name in usual}
    for one in figures:
        for name in usual:
            columns[name][..., int(one.get("slot", 0))] = one.get(name, usual[name])
    still = torch.zeros(1, frames, 3)
    return write_tracks(Figures(**columns), still, still[..., :2])


def canvas(cells: torch.Tensor) -> torch.Tensor:
    """Return the frames `[T, 4, height, width]` of the first clip's cells."""
    _, groups, rows, columns, _ = cells.shape
    parts = cells[0].view(groups, rows, columns, GROUP, 4, FINE, FINE).permute(0, 3, 4, 1, 5, 2, 6)
    frames = parts.reshape(groups * GROUP, 4, rows * FINE, columns * FINE)
    return frames[GROUP - 1 :]


def test_a_sketch_lies_where_the_tracks_say():
    sketches = torch.stack([plain(RED), plain(GREEN), plain(BLUE)])[None]
    cells = lay_sketches(tracks_of({"x": 0.25, "y": 0.75}), sketches, (4, 8))
    assert cells.shape == (1, 2, 4, 8, ANIMATIC_FEATURES)
    frames = canvas(cells)
    assert frames.shape == (5, 4, 32, 64)
    inside = frames[:, 3] > 0.5
    rows, columns = inside[2].any(dim=1).nonzero(), inside[2].any(dim=0).nonzero()
    assert (rows.min().item(), rows.max().item()) == (16, 31)
    assert (columns.min().item(), columns.max().item()) == (8, 23), "as wide as high, in pixels"
    assert (frames[:, 0] == frames[:, 3]).all()
    assert not frames[:, 1:3].any()
    assert not lay_sketches(tracks_of(), sketches, (4, 4)).any()


def test_it_moves_and_turns_as_its_figure_does():
    half = torch.zeros(1, 3, 4, 8, 8)
    half[..., :4] = 1  # its left half
    shown = {}
    for name, how in (("plain", {}), ("mirrored", {"side": -1.0}), ("turned", {"turn": 1.5708})):
        frame = canvas(lay_sketches(tracks_of(how), half, (4, 4)))[0, 3]
        rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
        shown[name] = [((frame * at).sum() / frame.sum()).item() for at in (rows, columns)]
    assert shown["plain"][1] < 13 < 18 < shown["mirrored"][1]
    assert abs(shown["turned"][1] - 15.5) < 0.5
    assert shown["turned"][0] < 13
    tracks = tracks_of({}, frames=5)
    tracks[0, :, 1] = torch.linspace(-1, 1, 5)
    across = canvas(lay_sketches(tracks, half, (4, 4)))[:, 3].sum(dim=1) @ torch.arange(32.0)
    assert (across.diff() > 0).all()


def test_every_kind_has_its_sketch_and_who_stands_lower_is_in_front():
    sketches = torch.stack([plain(RED), plain(GREEN), plain(BLUE)])[None]
    cast = [
        {"slot": 0, "x": 0.5, "y": 0.6},
        {"slot": ALIKE, "x": 0.5, "y": 0.4},
        {"slot": ALIKE + 1, "x": 0.9, "y": 0.5, "tall": 0.2},
    ]
    frame = canvas(lay_sketches(tracks_of(*cast), sketches, (8, 8)))[0]
    assert frame[:3, 32, 32].tolist() == [1, 0, 0]
    assert frame[:3, 14, 32].tolist() == [0, 1, 0]
    assert frame[:3, 32, 58].tolist() == [0, 0, 1]
    cast[1]["y"] = 0.7
    frame = canvas(lay_sketches(tracks_of(*cast), sketches, (8, 8)))[0]
    assert frame[:3, 36, 32].tolist() == [0, 1, 0]


def test_cells_show_the_animatic_and_it_has_any_size():
    sketches = torch.stack([plain(RED), plain(GREEN), plain(BLUE)])[None]
    tracks = tracks_of({"x": 0.25, "y": 0.75}, {"slot": ALIKE, "x": 0.7, "turn": 0.4})
    frames = animate(tracks, sketches, (4 * FINE, 8 * FINE))[0].transpose(0, 1)
    assert torch.equal(canvas(lay_sketches(tracks, sketches, (4, 8))), frames)
    large = animate(tracks, sketches, (96, 192))
    assert large.shape == (1, 4, 5, 96, 192)
    share = [
        (each[0, 3] > 0.5).float().mean().item() for each in (large, frames.transpose(0, 1)[None])
    ]
    assert abs(share[0] - share[1]) < 0.02


def test_some_frames_of_an_animatic_are_as_in_the_whole():
    sketches = torch.stack([plain(RED), plain(GREEN), plain(BLUE)])[None]
    tracks = tracks_of({"x": 0.45}, {"slot": ALIKE, "x": 0.55})
    # Who stands nearer, who is there and how they face is what most frames say.
    tracks[:, 0] = -tracks[:, 0]
    whole = animate(tracks, sketches, (32, 64))
    pieces = [animate(tracks, sketches, (32, 64), slice(at, at + 2)) for at in range(0, 5, 2)]
    assert torch.equal(torch.cat(pieces, dim=2), whole)
    assert not torch.equal(animate(tracks[:, :1], sketches, (32, 64)), whole[:, :, :1])


def test_clips_of_a_batch_are_laid_apart():
    sketches = torch.stack([plain(RED), plain(GREEN), plain(BLUE)])[None]
    one, two = tracks_of({}), tracks_of({"x": 0.2}, {"slot": ALIKE, "x": 0.8})
    both = lay_sketches(torch.cat([one, two]), sketches.expand(2, -1, -1, -1, -1), (4, 4))
    assert torch.equal(both[:1], lay_sketches(one, sketches, (4, 4)))
    assert torch.equal(both[1:], lay_sketches(two, sketches, (4, 4)))


def test_the_sketcher_reads_the_registers_that_name_figures_and_style():
    torch.manual_seed(0)
    sketcher = Sketcher(SketcherConfig(16, (0, 3, 4), 2, 8, 12)).eval()
    words = torch.randn(2, 5, 16)
    with torch.no_grad():
        sketches = sketcher(words)
        changed = []
        for register in range(5):
            other = words.clone()
            other[:, register] += 1
            moved = (sketcher(other) - sketches).abs().amax(dim=(0, 2, 3, 4)) > 1e-6
            changed.append(moved.tolist())
    assert sketches.shape == (2, 3, 4, 8, 8)
    assert sketches.min() >= 0
    assert sketches.max() <= 1
    first, second, third = [[n == kind for n in range(3)] for kind in range(3)]
    assert changed == [first, [False] * 3, [True] * 3, second, third]
