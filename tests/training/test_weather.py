import pytest
import torch

from aiprod_studio.training.weather import fall, veil


def test_clear_weather_changes_nothing():
    frames = torch.rand(3, 3, 16, 16)
    before = frames.clone()
    veil(frames, "clear", 0)
    fall(frames, "clear", 0, 8.0, torch.Generator())
    assert torch.equal(frames, before)


@pytest.mark.parametrize("weather", ["rain", "snowfall", "fog"])
def test_weather_is_seen_and_stays_within_range(weather):
    frames = torch.full((3, 3, 64, 64), 0.4)
    veil(frames, weather, 0)
    fall(frames, weather, 0, 8.0, torch.Generator().manual_seed(1))
    assert (frames - 0.4).abs().max() > 0.05
    assert frames.min() >= 0
    assert frames.max() <= 1


def test_rain_falls():
    frames = torch.zeros(2, 3, 64, 64)
    fall(frames, "rain", 0, 8.0, torch.Generator().manual_seed(1))
    shift = (int(1.7 * 64 / 8), int(0.12 * 64 / 8))
    assert torch.equal(frames[1], frames[0].roll(shift, (1, 2)))
    assert frames.any()
