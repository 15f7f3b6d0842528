import pytest
import torch

from aiprod_studio.sampling.guidance import guided
from aiprod_studio.sampling.schedules import shifted
from aiprod_studio.sampling.solvers import Point, sample_euler, sample_multistep


def gaussian(x: torch.Tensor, t: float) -> torch.Tensor:
    """The exact clean prediction when the clean samples are Gaussian around 2, deviation 0.5."""
    variance = (1 - t) ** 2 * 0.25 + t**2
    return 2 + (1 - t) * 0.25 / variance * (x - (1 - t) * 2)


@pytest.mark.parametrize("sample", [sample_euler, sample_multistep])
def test_a_known_flow_ends_where_it_must(sample):
    noise = torch.tensor([-1.0, 0.0, 1.5])
    end = sample(gaussian, noise, shifted(200))
    torch.testing.assert_close(end, 2 + 0.5 * noise, atol=0.02, rtol=0)


def test_the_second_order_solver_is_nearer_in_few_steps():
    noise = torch.tensor([-1.0, 0.7, 1.5])
    exact = 2 + 0.5 * noise
    off = [(s(gaussian, noise, shifted(8)) - exact).abs().max() for s in
           (sample_euler, sample_multistep)]  # fmt: skip
    assert off[1] < off[0] / 2


def test_every_step_is_told():
    told: list[int] = []
    sample_multistep(gaussian, torch.zeros(1), shifted(5), lambda point: told.append(point.done))
    assert told == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("sample", [sample_euler, sample_multistep])
def test_a_run_that_goes_on_from_any_point_ends_exactly_where_the_whole_run_does(sample):
    points: list[Point] = []
    end = sample(gaussian, torch.tensor([-1.0, 0.7, 1.5]), shifted(6), points.append)
    for point in points:
        assert torch.equal(sample(gaussian, torch.zeros(3), shifted(6), start=point), end)


def test_schedules_fall_from_noise_to_clean_and_shift_towards_noise():
    plain, late = shifted(10), shifted(10, 3.0)
    assert plain[0] == late[0] == 1
    assert plain[-1] == late[-1] == 0
    assert (late[1:-1] > plain[1:-1]).all()
    assert (late.diff() < 0).all()


def test_guidance_pushes_away_from_the_empty_prompt_and_is_free_at_one():
    calls: list[bool] = []

    def model(x: torch.Tensor, t: float, told: bool) -> torch.Tensor:
        calls.append(told)
        return torch.ones(1) * (3.0 if told else 1.0)

    assert guided(model, 2.0)(torch.zeros(1), 0.5) == 5
    assert guided(model, 1.0)(torch.zeros(1), 0.5) == 3
    assert calls == [True, False, True]
