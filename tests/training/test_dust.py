"""Dust: where something lands, the picture brightens for a moment, and nowhere else."""

import torch

from aiprod_studio.training.choreography import Pose
from aiprod_studio.training.dust import NEVER, since_landing, throw_up
from aiprod_studio.training.painting import Backdrop
from aiprod_studio.training.scenes import Lesson, make_scenes
from aiprod_studio.training.sounds import Events
from aiprod_studio.training.stage import SceneSize
from aiprod_studio.training.world import load_world


def test_a_bounce_lands_once_a_beat_and_a_walk_never():
    events = Events(torch.tensor([2.0]), torch.tensor([0.25]), torch.tensor([NEVER]))
    time = torch.tensor([[0.0, 0.25, 0.375, 0.5]])
    assert torch.allclose(
        since_landing("bounce", events, time, 0), torch.tensor([0.125, 0.375, 0.0, 0.125])
    )
    assert (since_landing("walk", events, time, 0) == NEVER).all()
    fallen = Events(events.rate, events.phase, torch.tensor([0.25]))
    assert since_landing("fall", fallen, time, 0).tolist() == [NEVER, 0.0, 0.125, 0.25]


def test_what_is_small_throws_up_little():
    place = next(place for place in load_world().places if place.id == "desert")
    backdrop = Backdrop(place, hour=0, clouds=0.0, flat=False, height=64, width=64)
    values = (0.5, 0.6, 0.2, 0.2, 0.8, 0.0, 0.0, 1.0)
    pose = Pose(*(torch.tensor([[value]]) for value in values))
    changed = []
    for scale in (0.3, 1.0):
        frames = torch.zeros(1, 3, 64, 64)
        throw_up(frames, pose, torch.tensor([0.1]), backdrop, scale)
        changed.append(frames.sum().item())
    assert 0 < 2 * changed[0] < changed[1]


def test_water_flies_up_where_a_ball_falls_into_the_sea():
    lesson = Lesson(("ball",), ("fall",), ("still",), ("sea",), ("day",))
    scenes = make_scenes(1, SceneSize(), torch.Generator().manual_seed(1), lesson)
    low = scenes.video[0, :, :, 100:116].mean(dim=(0, 2, 3))
    landing = scenes.subject[0].sum(dim=2).argmax(dim=1).float().diff().abs()
    assert low.max() > low[0] + 0.02
    assert landing.max() > 0
