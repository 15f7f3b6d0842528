"""Where the shipped starter's planner puts figures, beside where scenes have them."""

import pytest
import torch

from aiprod_studio.engines.bundle import load_bundle
from aiprod_studio.models.layout import TRACKS, read_tracks
from aiprod_studio.sampling.schedules import shifted
from aiprod_studio.sampling.solvers import sample_multistep
from aiprod_studio.settings import settings
from aiprod_studio.training.concepts import write_registers
from aiprod_studio.training.data import seeded
from aiprod_studio.training.scenes import Lesson, draw_labels
from aiprod_studio.training.stage import SceneSize, set_stage, track

SCENES = 192


@pytest.fixture(scope="module")
def planner():
    return load_bundle(settings().assets / "starter" / "starter.safetensors").layout


@pytest.fixture(scope="module", params=["still", "run", "bounce", "fall"])
def both(request, planner):
    """The first figures of scenes with one motion and a camera at rest, and as planned."""
    config = planner.config
    size = SceneSize(frames=config.frames, height=128, width=128, fps=config.fps)
    dice = seeded("planning", request.param)
    labels = draw_labels(SCENES, dice, Lesson(motions=(request.param,), cameras=("still",)))
    staged = track(set_stage(labels, size, dice), labels, size)
    said = write_registers(labels, config.registers, config.text_width)
    noise = torch.randn(SCENES, config.frames, TRACKS, generator=dice)

    def predict(waves, t):
        return planner(waves, torch.full((SCENES, 1), t), said)

    with torch.no_grad():
        planned = planner.from_waves(sample_multistep(predict, noise, shifted(24)))
    return [read_tracks(tracks)[0] for tracks in (staged, planned)]


def test_figures_come_down_to_the_ground(both):
    staged, planned = ((each.y + each.tall / 2)[..., 0].amax(dim=1) for each in both)
    assert abs(planned.mean() - staged.mean()) < 0.015
    assert (planned - staged.mean()).abs().quantile(0.9) < 0.04


def test_figures_are_as_tall_as_in_scenes(both):
    staged, planned = (each.tall[..., 0].mean(dim=1) for each in both)
    assert abs(planned.mean() / staged.mean() - 1) < 0.04


def test_figures_stand_anywhere_not_all_amid_the_frame(both):
    staged, planned = (each.x[..., 0].mean(dim=1) for each in both)
    assert abs(planned.mean() - 0.5) < 0.03
    assert 0.6 < planned.std() / staged.std() < 1.4
