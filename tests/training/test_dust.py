"""Dust: where something lands, the picture brightens for a moment, and nowhere else."""

import torch

from aiprod_studio.training.dust import NEVER, since_landing
from aiprod_studio.training.scenes import Lesson, SceneSize, make_scenes
from aiprod_studio.training.sounds import Events


def test_a_bounce_lands_once_a_beat_and_a_walk_never():
    events = Events(torch.tensor([2.0]), torch.tensor([0.25]), torch.tensor([NEVER]))
    time = torch.tensor([[0.0, 0.25, 0.375, 0.5]])
    assert torch.allclose(
        since_landing("bounce", events, time, 0), torch.tensor([0.125, 0.375, 0.0, 0.125])
    )
    assert (since_landing("walk", events, time, 0) == NEVER).all()
    fallen = Events(events.rate, events.phase, torch.tensor([0.25]))
    assert since_landing("fall", fallen, time, 0).tolist() == [NEVER, 0.0, 0.125, 0.25]


def test_water_flies_up_where_a_ball_falls_into_the_sea():
    lesson = Lesson(("ball",), ("fall",), ("still",), ("sea",), ("day",))
    scenes = make_scenes(1, SceneSize(), torch.Generator().manual_seed(1), lesson)
    low = scenes.video[0, :, :, 100:116].mean(dim=(0, 2, 3))
    landing = scenes.subject[0].sum(dim=2).argmax(dim=1).float().diff().abs()
    assert low.max() > low[0] + 0.02
    assert landing.max() > 0
