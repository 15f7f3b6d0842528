import dataclasses

import pytest
import torch

from aiprod_studio.errors import ModelUnavailable
from aiprod_studio.training.curriculum import find_curriculum
from aiprod_studio.training.data import LABEL, seeded, take
from aiprod_studio.training.judge import PER_FRAME, SIDE, Judgement
from aiprod_studio.training.judging import (
    JudgeRefills,
    alone,
    build_judge,
    expect,
    eye_task,
    find_lesson,
    in_time,
    load_judge,
    name_concepts,
    right,
    together,
    train_judge,
    watch_task,
)
from aiprod_studio.training.scenes import Lesson, make_scenes
from aiprod_studio.training.spread import Spread
from aiprod_studio.training.stage import SceneSize
from aiprod_studio.training.world import ABSENT, load_world

HERE = Spread(torch.device("cpu"))


def number(kind, name):
    return [concept.id for concept in load_world().kinds[kind]].index(name)


def scene(**changes):
    """Return the labels of one scene of a dog."""
    kinds = load_world().kinds
    labels = {kind: torch.zeros(1, dtype=torch.long) for kind in (*kinds, "others")}
    labels["others"][:] = ABSENT
    for kind, name in changes.items():
        table = "subjects" if kind == "others" else kind
        labels[kind][:] = number(table, name)
    return labels


def test_the_judge_knows_what_all_phases_show(tiny):
    lesson = find_lesson(tiny)
    assert lesson.subjects == ("ball", "dog")
    assert lesson.motions == ()
    concepts = dict(name_concepts(tiny))
    assert concepts["subjects"] == ("ball", "dog")
    assert concepts["motions"] == tuple(concept.id for concept in load_world().motions)


def test_exams_are_about_usual_sizes_and_no_thirds():
    lesson = find_lesson(find_curriculum("base"))
    assert lesson.thirds == 0
    for one in (alone(lesson), together(lesson)):
        assert (one.sizes, one.counts) == (("usual",), ("one",))


def test_what_looks_the_same_is_expected_the_same(tiny):
    concepts = name_concepts(tiny)
    cameras, motions = dict(concepts)["cameras"], dict(concepts)["motions"]
    resting = expect(scene(motions="bounce", cameras="follow"), concepts)
    assert cameras[resting[f"{LABEL}cameras"]] == "still"
    going = expect(scene(motions="run", cameras="follow"), concepts)
    assert cameras[going[f"{LABEL}cameras"]] == "follow"
    assert motions[going[f"{LABEL}motions"]] == "run"


def test_nobody_is_asked_whose_motion_a_pair_has(tiny):
    pair = expect(scene(relations="beside", others="ball"), name_concepts(tiny))
    assert pair[f"{LABEL}motions"].item() == ABSENT
    names = [pair[f"{LABEL}{kind}"].item() for kind in ("subjects", "others")]
    assert names == [1, 0]


def test_impacts_are_where_the_scene_sounds(tiny):
    size = SceneSize(height=32, width=32)
    lesson = Lesson(subjects=("ball",), motions=("bounce",), places=("room",))
    refills = JudgeRefills(((lesson, 1.0),), size, 6, ("impacts",), name_concepts(tiny))
    rows = refills[0]
    scenes = make_scenes(6, size, dice_after_lesson("impacts", 0), lesson)
    assert rows["impacts"].shape == (6, PER_FRAME * size.frames)
    loud = scenes.audio.view(6, -1, 500).abs().amax(dim=2)  # from each moment to the next
    at = rows["impacts"][:, 2:-2] > 0.9
    assert at.sum() > 6
    assert loud[:, 2:-2][at].mean() > 2 * loud[:, 1:-3][at].mean()


def dice_after_lesson(*names):
    """Return the dice of a refill after they have chosen among lessons."""
    dice = seeded(*names)
    torch.multinomial(torch.ones(1), 1, generator=dice)
    return dice


@pytest.mark.parametrize("part", ["eye", "watch"])
def test_a_part_learns(tiny, part):
    judge = build_judge(tiny)
    make = {"eye": eye_task, "watch": watch_task}[part]
    task = make(tiny, judge.get_submodule(part))
    rows = take(task.draw(0), 0, 16)
    assert rows["frames"].shape[-1] == SIDE
    optimiser = torch.optim.Adam(task.network.parameters(), 2e-3)
    losses = []
    for _ in range(5):
        loss = task.loss(task.network, rows)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_a_judge_is_kept_and_found_again(tiny, tmp_path):
    with pytest.raises(ModelUnavailable, match="Train one first"):
        load_judge(tiny, tmp_path)
    judge = train_judge(tiny, tmp_path, HERE, hours=0.0)
    again = load_judge(tiny, tmp_path)
    assert all(
        torch.equal(a, b) for a, b in zip(judge.parameters(), again.parameters(), strict=True)
    )
    lesson = dataclasses.replace(tiny.phases[0].lesson, subjects=("ball", "cat"))
    phases = (dataclasses.replace(tiny.phases[0], lesson=lesson), tiny.phases[1])
    with pytest.raises(ModelUnavailable, match="other concepts"):
        load_judge(dataclasses.replace(tiny, phases=phases), tmp_path)


def judgement(**changes):
    nothing = torch.full((2, 40), -9.0)
    subjects = torch.tensor([[3.0, 2.0, 0.0], [3.0, 0.0, 2.0]])
    said = Judgement({"subjects": subjects}, nothing, nothing, torch.zeros(2, 4))
    return dataclasses.replace(said, **changes)


def test_what_is_right_and_what_is_not_asked():
    wanted = {
        f"{LABEL}subjects": torch.tensor([0, ABSENT]),
        f"{LABEL}others": torch.tensor([1, ABSENT]),
    }
    found = right(judgement(), wanted)
    assert found["subjects"][0] == found["both"][0] == 1
    assert found["subjects"][1].isnan()
    wanted[f"{LABEL}others"][0] = 2
    assert right(judgement(), wanted)["both"][0] == 0


def test_an_impact_belongs_to_a_sound_near_by():
    seen, heard = torch.full((2, 40), -9.0), torch.full((2, 40), -9.0)
    seen[0, [10, 30]] = 9.0
    heard[0, [12, 34]] = 9.0  # 62 ms and 125 ms later at 8 frames a second
    said = judgement(seen=seen, heard=heard)
    assert in_time(said, 8.0) == (2, 1)
    assert in_time(said, 8.0, shift=1) == (2, 0)
