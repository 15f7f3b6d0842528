import itertools

import torch

from aiprod_studio.training.choreography import choreograph, pair
from aiprod_studio.training.company import gather
from aiprod_studio.training.scenes import ABSENT, Lesson, draw_labels
from aiprod_studio.training.stage import SceneSize, scene_time

SIZE = SceneSize(frames=9)


def play(lesson, seed=2):
    """Return who is seen in 16 scenes."""
    dice = torch.Generator().manual_seed(seed)
    labels = draw_labels(16, dice, lesson)
    return gather(labels, scene_time(16, SIZE, dice), dice)[0]


def test_without_sizes_and_counts_a_pair_is_as_choreographed():
    dice = torch.Generator().manual_seed(2)
    labels = draw_labels(16, dice, Lesson(relations=()))
    time, begin = scene_time(16, SIZE, dice), dice.get_state()
    figures, _ = gather(labels, time, dice)
    end = dice.get_state()
    dice.set_state(begin)
    first, other = pair(labels["relations"], choreograph(labels, time, dice)[0], dice)
    assert torch.equal(dice.get_state(), end)
    for figure, path in zip(figures, (first, other), strict=True):
        assert torch.equal(figure.path.x, path.x)
        assert torch.equal(figure.path.size, path.size)
        assert (figure.scale == 1).all()


def test_several_stand_apart_and_are_late():
    for count, number in (("two", 2), ("three", 3)):
        figures = play(Lesson(motions=("bounce",), counts=(count,)))[:number]
        assert all(figure.alike and (figure.subject >= 0).all() for figure in figures)
        places = torch.stack([figure.path.x.mean(dim=1) for figure in figures]).sort(dim=0).values
        assert places.diff(dim=0).min() > 0.2
        assert figures[0].path.lift.sub(figures[1].path.lift).abs().amax(dim=1).min() > 0.01
        assert not torch.equal(figures[0].landed, figures[1].landed)


def test_fewer_than_the_most_are_absent():
    figures = play(Lesson(counts=()))
    there = torch.stack([figure.subject != ABSENT for figure in figures if figure.alike]).sum(dim=0)
    assert set(there.tolist()) == {1, 2, 3}


def test_a_third_stands_in_line_with_the_second():
    first, other, third = play(Lesson(relations=("beside",), thirds=1.0))
    places = torch.stack([one.path.x.mean(dim=1) for one in (first, other, third)])
    gaps = places.diff(dim=0)
    assert gaps.abs().min() > 0.25
    assert (gaps[0].sign() == gaps[1].sign()).all()
    first, other, third = play(Lesson(relations=("above",), thirds=1.0))
    assert (first.path.lift > torch.maximum(other.path.lift, third.path.lift) + 0.3).all()


def test_sizes_differ_more_than_the_usual_one_varies():
    heights = {
        size: play(Lesson(motions=("still",), sizes=(size,)))[0].path.size.abs()
        for size in ("tiny", "small", "usual", "large", "huge")
    }
    for less, more in itertools.pairwise(heights.values()):
        assert (less < more).all()
    assert heights["small"].max() < heights["usual"].min()
    assert heights["usual"].max() < heights["large"].min()
    assert heights["huge"].max() < 1.15


def test_what_is_tiny_rolls_faster_on_the_same_way():
    usual = play(Lesson(motions=("roll",)))[0].path
    tiny = play(Lesson(motions=("roll",), sizes=("tiny",)))[0].path
    assert torch.equal(usual.x, tiny.x)
    assert (tiny.turn.abs() >= 2.5 * usual.turn.abs()).all()
