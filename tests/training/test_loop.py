import json

import pytest
import torch
from torch import nn

from aiprod_studio.training.loop import Course, fit


def line(network: nn.Linear):
    def loss(dice: torch.Generator, share: float) -> torch.Tensor:
        x = torch.randn(16, 3, generator=dice)
        wanted = x @ torch.tensor([[1.0], [-2.0], [0.5]])
        return (network(x) - wanted).square().mean()

    return loss


def test_training_lowers_the_loss_and_keeps_a_checkpoint_that_resumes(tmp_path):
    torch.manual_seed(0)
    network = nn.Linear(3, 1)
    average = fit(network, line(network), Course("line", 1.5, 0.05), tmp_path)
    dice = torch.Generator().manual_seed(9)
    x = torch.randn(64, 3, generator=dice)
    off = (average(x) - x @ torch.tensor([[1.0], [-2.0], [0.5]])).square().mean()
    assert off < 0.05
    notes = [json.loads(row) for row in (tmp_path / "line.jsonl").read_text().splitlines()]
    assert notes[-1]["loss"] < notes[0]["loss"] or notes[0]["loss"] < 0.05
    assert sorted(path.name for path in tmp_path.iterdir()) == ["line.jsonl", "line.pt"]

    again = nn.Linear(3, 1)
    fit(again, line(again), Course("line", 0.0, 0.05), tmp_path)
    assert torch.equal(again.weight, network.weight)


def test_losses_that_are_not_finite_stop_the_training(tmp_path):
    network = nn.Linear(1, 1)

    def loss(dice: torch.Generator, share: float) -> torch.Tensor:
        return network(torch.ones(1, 1)).sum() * float("nan")

    with pytest.raises(FloatingPointError, match="not finite"):
        fit(network, loss, Course("bad", 60.0, 0.01), tmp_path)
