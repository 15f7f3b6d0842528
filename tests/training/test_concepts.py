import torch

from aiprod_studio.training.concepts import ABSENT, concept_table, draw_said, write_registers
from aiprod_studio.training.scenes import draw_labels
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
