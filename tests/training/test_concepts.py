import torch

from aiprod_studio.training.concepts import (
    ABSENT,
    concept_table,
    concepts_of,
    draw_said,
    hear,
    kinds,
    write_registers,
)
from aiprod_studio.training.scenes import EVERYTHING, draw_labels
from aiprod_studio.training.world import load_world


def test_a_row_depends_on_its_name_alone_and_differs_from_every_other():
    table = concept_table("subjects", 64)
    assert table.shape == (len(load_world().subjects) + 1, 64)
    alike = (table @ table.T / 64).fill_diagonal_(0)
    assert alike.abs().max() < 0.7
    assert torch.equal(table[-1], concept_table("times", 64)[-1])


def test_registers_hold_what_is_said_and_absence_elsewhere():
    said = {"subjects": torch.tensor([3, 1]), "places": torch.tensor([ABSENT, 2])}
    features = write_registers(said, 4, 32)
    assert features.shape == (2, 4, 32)
    assert torch.equal(features[0, 0], concept_table("subjects", 32)[3])
    assert torch.equal(features[1, 1], concept_table("places", 32)[2])
    assert torch.equal(features[0, 1], features[0, 3])


def test_the_subject_is_always_said_and_the_usual_often_left_out():
    dice = torch.Generator().manual_seed(1)
    labels = draw_labels(2000, dice)
    said = draw_said(labels, dice)
    assert torch.equal(said["subjects"], labels["subjects"])
    day = labels["times"] == [t.id for t in load_world().times].index("day")
    assert 0.4 < (said["times"][day] == ABSENT).float().mean() < 0.6
    assert (said["times"][~day] == ABSENT).float().mean() < 0.1


def test_registers_keep_their_places_and_new_kinds_come_last():
    assert kinds()[8:] == ("others", "sizes", "counts", "thirds")
    assert set(kinds()) == {*load_world().kinds, "others", "thirds"}
    assert tuple(draw_labels(4, torch.Generator())) == kinds()


def test_the_usual_size_and_number_are_what_unused_registers_say():
    labels = draw_labels(200, torch.Generator().manual_seed(1), EVERYTHING)
    features = write_registers(labels, 12, 32)
    silence = concept_table("sizes", 32)[-1]
    for kind in ("sizes", "counts"):
        silent = (features[:, kinds().index(kind)] == silence).all(dim=1)
        assert torch.equal(silent, labels[kind] == 0)
    lone = labels["thirds"] == ABSENT
    assert (features[lone, 11] == silence).all()
    said = draw_said(labels, torch.Generator())
    assert (said["sizes"][labels["sizes"] == 0] == ABSENT).all()
    assert torch.equal(said["counts"][labels["counts"] > 0], labels["counts"][labels["counts"] > 0])


def test_only_what_prompts_may_say_is_heard():
    rows = {"relations": 1, "others": 5, "sizes": 0, "counts": 0, "times": 0}
    heard = hear({kind: torch.tensor([row]) for kind, row in rows.items()})
    said = {kind: int(row) for kind, row in heard.items() if row != ABSENT}
    assert said == {"relations": 1, "others": 5, "times": 0}
    assert concepts_of("others")[5] == load_world().subjects[5]
