import itertools

import pytest
import torch

from aiprod_studio.training.scenes import (
    ABSENT,
    EVERYTHING,
    Lesson,
    draw_labels,
    make_scenes,
)
from aiprod_studio.training.stage import SceneSize
from aiprod_studio.training.world import load_sprites, load_world


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(
        6, SceneSize(frames=9, height=64, width=80), torch.Generator().manual_seed(1)
    )


def test_shapes_and_ranges(scenes):
    assert scenes.video.shape == (6, 3, 9, 64, 80)
    assert scenes.video.min() >= -1
    assert scenes.video.max() <= 1
    assert scenes.subject.shape == (6, 9, 64, 80)
    assert scenes.audio.shape == (6, round(9 / 8 * 16_000))
    assert scenes.audio.abs().max() <= 1
    assert scenes.audio[:, 0].abs().max() < 1e-3


def test_the_same_dice_give_the_same_scenes(scenes):
    again = make_scenes(
        6, SceneSize(frames=9, height=64, width=80), torch.Generator().manual_seed(1)
    )
    assert torch.equal(again.video, scenes.video)
    assert torch.equal(again.audio, scenes.audio)
    assert torch.equal(again.surface, scenes.surface)


def test_subjects_are_large_and_move_unless_they_rest():
    scenes = make_scenes(64, SceneSize(frames=5, height=64, width=64), torch.Generator())
    share = scenes.subject.mean(dim=(1, 2, 3))
    assert share.median() > 0.1
    moved = (scenes.subject[:, 0] - scenes.subject[:, -1]).abs().mean(dim=(1, 2))
    motions = [m.id for m in load_world().motions]
    assert moved[scenes.labels["motions"] == motions.index("spin")].min() > 0.005


def test_the_surface_says_what_part_of_the_artwork_lies_in_a_cell():
    size = SceneSize(frames=5, height=64, width=64)
    scenes = make_scenes(32, size, torch.Generator().manual_seed(3))
    cover = torch.nn.functional.avg_pool2d(scenes.subject, 16)
    assert scenes.surface.shape == (32, 2, 5, 4, 4)
    outside = (scenes.surface.abs() > 1.6).any(dim=1)
    middle = (scenes.surface.abs() < 0.3).all(dim=1)
    assert middle.sum() > 20
    assert cover[outside].mean() < 0.05
    assert cover[middle].mean() > 0.6


def test_the_artwork_has_a_sprite_for_every_subject():
    sprites = load_sprites(32)
    assert sprites.shape == (2, len(load_world().subjects), 4, 32, 32)
    assert (sprites[:, :, 3].mean(dim=(2, 3)) > 0.12).all()


def test_a_lesson_says_what_is_shown():
    dice = torch.Generator().manual_seed(1)
    plain, rich = draw_labels(400, dice), draw_labels(400, dice, EVERYTHING)
    assert (plain["others"] == ABSENT).all()
    assert not any(plain[kind].any() for kind in ("styles", "sizes", "counts"))
    assert (plain["thirds"] == ABSENT).all()
    assert ((rich["others"] == ABSENT) == (rich["relations"] == 0)).all()
    assert all(
        rich[kind].max() == len(table) - 1
        for kind, table in load_world().kinds.items()
        if kind != "subjects"
    )
    rooms = rich["places"] == [place.id for place in load_world().places].index("room")
    assert not rich["weathers"][rooms].any()
    assert rich["weathers"].any()


def test_two_subjects_are_drawn_where_there_are_two():
    dice = torch.Generator().manual_seed(1)
    scenes = make_scenes(24, SceneSize(1, 64, 64), dice, Lesson(relations=()))
    assert scenes.video.shape == (24, 3, 1, 64, 64)
    alone = scenes.labels["relations"] == 0
    shown = torch.cat([scenes.surface[:, :, 0], torch.ones(24, 1, 4, 4)], dim=1)
    first = (shown[:, :2].abs().amax(dim=1) < 1).float().mean(dim=(1, 2))
    assert first[alone].mean() > 1.3 * first[~alone].mean(), "there must be room for both"
    size = scenes.subject.mean(dim=(1, 2, 3))
    assert size[~alone].mean() > 0.8 * size[alone].mean(), "the other one is covered, too"


def test_half_of_the_sizes_and_counts_are_usual():
    labels = draw_labels(2000, torch.Generator().manual_seed(1), EVERYTHING)
    for kind in ("sizes", "counts"):
        assert 0.45 < (labels[kind] == 0).float().mean() < 0.55
    few = Lesson(sizes=("tiny", "huge"))
    assert set(draw_labels(50, torch.Generator(), few)["sizes"].tolist()) == {1, 4}


def test_a_third_is_only_where_there_is_room_for_it():
    labels = draw_labels(2000, torch.Generator().manual_seed(1), EVERYTHING)
    third = labels["thirds"] != ABSENT
    fitting = [bool(relation.facts.get("third")) for relation in load_world().relations]
    assert third.any()
    assert (labels["others"][third] != ABSENT).all()
    assert torch.tensor(fitting)[labels["relations"][third]].all()
    assert not labels["counts"][third].any()


def test_what_is_usual_costs_no_dice():
    states = []
    for lesson in (Lesson(), Lesson(sizes=("huge",), counts=("two",))):
        dice = torch.Generator().manual_seed(1)
        draw_labels(4, dice, lesson)
        states.append(dice.get_state())
    assert torch.equal(*states)


def test_sizes_can_be_told_apart():
    shares = []
    for size in ("tiny", "small", "usual", "large", "huge"):
        lesson = Lesson(subjects=("ball",), motions=("still",), cameras=("still",), sizes=(size,))
        scenes = make_scenes(12, SceneSize(1, 64, 64), torch.Generator().manual_seed(2), lesson)
        shares.append(scenes.subject.mean(dim=(1, 2, 3)))
    for less, more in itertools.pairwise(shares):
        assert less.max() < more.min()


def test_each_of_several_is_seen_and_has_its_surface():
    lesson = Lesson(("candle",), ("still",), ("still",), counts=("three",))
    size = SceneSize(frames=1, height=128, width=128)
    scenes = make_scenes(4, size, torch.Generator().manual_seed(5), lesson)
    for row in range(4):
        seen = (scenes.subject[row, 0].amax(dim=0) > 0.5).int()
        assert (seen.diff() == 1).sum() + seen[0] == 3
    cover = torch.nn.functional.avg_pool2d(scenes.subject, 16)
    inside = (scenes.surface.abs() < 1).all(dim=1)
    assert inside[cover > 0.9].all()
    assert cover[~inside].mean() < 0.1


def test_a_bounce_is_heard_when_it_is_seen():
    world = load_world()
    dice = torch.Generator().manual_seed(4)
    scenes = make_scenes(128, SceneSize(frames=17, height=32, width=32), dice)
    motions, places = [m.id for m in world.motions], [p.facts["ambience"] for p in world.places]
    heard = []
    for row in range(128):
        labels = {kind: int(values[row]) for kind, values in scenes.labels.items()}
        if motions[labels["motions"]] != "bounce" or places[labels["places"]] == "waves":
            continue
        rows = torch.arange(32).float().view(1, 32, 1)
        cover = scenes.subject[row]
        height = (cover * rows).sum(dim=(1, 2)) / cover.sum(dim=(1, 2)).clamp(min=1e-3)
        lowest = (height[2:-2].argmax().item() + 2.5) / 8
        loud = scenes.audio[row].view(-1, 400).square().mean(dim=1).sqrt()
        near = loud[int((lowest - 0.15) * 40) : int((lowest + 0.2) * 40)].max()
        heard.append(bool(near > 1.3 * loud.median()))
    assert len(heard) >= 5
    assert sum(heard) / len(heard) >= 0.7
