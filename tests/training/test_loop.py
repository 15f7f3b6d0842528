import json
import os
import signal

import pytest
import torch
from torch import nn

from aiprod_studio.errors import DoesNotFit, ModelUnavailable
from aiprod_studio.training.data import seeded
from aiprod_studio.training.loop import Course, Diverged, Stopped, Task, fit, listening
from aiprod_studio.training.spread import Spread

HERE = Spread(torch.device("cpu"))
WANTED = torch.tensor([[1.0], [-2.0], [0.5]])


def draw(step):
    x = torch.randn(16, 3, generator=seeded("step", step))
    return {"x": x, "y": x @ WANTED}


def off(network, rows):
    return (network(rows["x"]) - rows["y"]).square().mean()


def line(**changes):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))
    return Task(**{"network": network, "draw": draw, "loss": off} | changes)


def end_at(number):
    """Return a draw that asks its own process to end in the middle of a step."""

    def deadly(step):
        if step == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(step)

    return deadly


def test_training_lowers_the_loss_and_keeps_the_best_average(tmp_path):
    held_out = [draw(10**6)]
    task = line(held_out=lambda: held_out)
    before = off(task.network, held_out[0]).item()
    average = fit(task, Course("line", 0.05, 200), tmp_path, HERE)
    assert off(average, held_out[0]) < 0.2 * before
    notes = [json.loads(row) for row in (tmp_path / "line.jsonl").read_text().splitlines()]
    assert notes[-1]["step"] == 200
    assert notes[-1]["loss"] < notes[0]["loss"]
    assert notes[-1]["rate"] < notes[2]["rate"]
    best = torch.load(tmp_path / "line.best.pt", weights_only=True)
    assert best["held_out"] == min(note["held_out"] for note in notes if "held_out" in note)
    names = {"line.jsonl", "line.pt", "line.best.pt", "training.html"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_course_that_was_stopped_goes_on_to_the_very_same_weights(tmp_path):
    whole = line()
    fit(whole, Course("line", 0.05, 20), tmp_path / "whole", HERE)
    with listening() as asked, pytest.raises(Stopped, match="after step 10"):
        fit(line(draw=end_at(9)), Course("line", 0.05, 20), tmp_path / "parts", HERE, asked)
    fit(line(), Course("line", 0.05, 20), tmp_path / "parts", HERE)
    states = [
        torch.load(tmp_path / part / "line.pt", weights_only=True) for part in ("whole", "parts")
    ]
    assert states[0]["step"] == states[1]["step"] == 20
    for kind in ("network", "average"):
        for name, values in states[0][kind].items():
            assert torch.equal(values, states[1][kind][name]), name
    moments = [state["optimiser"]["state"] for state in states]
    for number, values in moments[0].items():
        assert torch.equal(values["exp_avg_sq"], moments[1][number]["exp_avg_sq"])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_phase_begins_where_the_one_before_it_ended_and_does_not_undo_a_later_one(tmp_path):
    first = line()
    fit(first, Course("line", 0.05, 5, phase=1), tmp_path, HERE)
    second = line()
    fit(second, Course("line", 0.0, 1, phase=2), tmp_path, HERE)
    assert torch.equal(first.network[0].weight, second.network[0].weight)
    again = line()
    average = fit(again, Course("line", 0.05, 50, phase=1), tmp_path, HERE)
    assert torch.equal(again.network[0].weight, second.network[0].weight)
    state = torch.load(tmp_path / "line.pt", weights_only=True)
    assert (state["phase"], state["step"]) == (2, 1)
    assert torch.equal(average[0].weight, state["average"]["0.weight"])


def test_a_checkpoint_from_before_there_were_phases_is_taken_up(tmp_path):
    fit(line(), Course("line", 0.05, 4), tmp_path, HERE)
    old = torch.load(tmp_path / "line.pt", weights_only=True)
    for name in ("phase", "bad", "best", "micro"):
        del old[name]
    torch.save({**old, "dice": torch.Generator().get_state()}, tmp_path / "line.pt")
    task = line()
    fit(task, Course("line", 0.05, 0, seconds=0.0), tmp_path, HERE)
    assert torch.equal(task.network[0].weight, old["network"]["0.weight"])


def test_the_clock_ends_a_course(tmp_path):
    fit(line(), Course("line", 0.01, 10**9, seconds=0.2), tmp_path, HERE)
    state = torch.load(tmp_path / "line.pt", weights_only=True)
    assert state["spent"] >= 0.2
    assert state["step"] > 0


def test_losses_that_are_not_finite_are_left_out_and_stop_the_training_after_a_few(tmp_path):
    def once(network, rows):
        return off(network, rows) * (float("nan") if rows["bad"].any() else 1.0)

    def some_bad(step):
        return {**draw(step), "bad": torch.full((16,), step == 3)}

    task = line(draw=some_bad, loss=once)
    fit(task, Course("line", 0.01, 6), tmp_path / "once", HERE)
    assert all(values.isfinite().all() for values in task.network.state_dict().values())

    def always(network, rows):
        return network(rows["x"]).sum() * float("nan")

    with pytest.raises(Diverged, match="5 losses in a row"):
        fit(line(loss=always), Course("line", 0.01, 60), tmp_path / "always", HERE)


def small(most):
    """Return a loss that needs more memory than there is for more than `most` rows."""

    def loss(network, rows):
        if len(rows["x"]) > most:
            raise torch.OutOfMemoryError("out of memory")
        return off(network, rows)

    return loss


def test_when_memory_runs_out_fewer_rows_at_once_give_the_same_training(tmp_path):
    whole, parts = line(), line(loss=small(5))
    fit(whole, Course("line", 0.01, 5), tmp_path / "whole", HERE)
    fit(parts, Course("line", 0.01, 5), tmp_path / "parts", HERE)
    assert torch.load(tmp_path / "parts" / "line.pt", weights_only=True)["micro"] == 4
    torch.testing.assert_close(whole.network[0].weight, parts.network[0].weight)
    with pytest.raises(DoesNotFit, match="with 1 rows"):
        fit(line(loss=small(0)), Course("line", 0.01, 5), tmp_path / "none", HERE)


def test_foreign_and_damaged_checkpoints_are_told(tmp_path):
    fit(line(), Course("line", 0.01, 1), tmp_path, HERE)
    with pytest.raises(ModelUnavailable, match="another size"):
        fit(line(network=nn.Linear(3, 1)), Course("line", 0.01, 2), tmp_path, HERE)
    (tmp_path / "line.pt").write_bytes(b"half")
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        fit(line(), Course("line", 0.01, 2), tmp_path, HERE)
