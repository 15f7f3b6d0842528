"""The stage: where all who are seen and the camera are, and how the tracks of a layout say it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from aiprod_studio.models import layout
from aiprod_studio.training.choreography import Pose, View, look, stand
from aiprod_studio.training.company import Figure, gather
from aiprod_studio.training.sounds import Events
from aiprod_studio.training.world import ABSENT, load_world

_LANDING = 0.05  # seconds beside a landing at which it counts 1/e


@dataclass(frozen=True)
class SceneSize:
    """Frames, height and width in pixels, frames a second, samples a second."""

    frames: int = 17
    height: int = 128
    width: int = 128
    fps: float = 8.0
    sample_rate: int = 16_000

    @property
    def samples(self) -> int:
        """The samples of sound that last as long as the frames."""
        return round(self.frames / self.fps * self.sample_rate)


@dataclass(frozen=True)
class Stage:
    """All who are seen, as themselves and as the camera sees them, the camera, and what sounds.

    `time` `[B, T]` are the seconds of the frames.
    """

    time: Tensor
    figures: list[Figure]
    poses: list[Pose]
    view: View
    events: Events


def set_stage(labels: dict[str, Tensor], size: SceneSize, dice: torch.Generator) -> Stage:
    """Return what happens in scenes of these labels."""
    time = scene_time(len(labels["subjects"]), size, dice)
    figures, events = gather(labels, time, dice)
    view = look(labels["cameras"], figures[0].path, time, dice)
    poses = [stand(figure.path, view, size.height / size.width) for figure in figures]
    return Stage(time, figures, poses, view, events)


def scene_time(batch: int, size: SceneSize, dice: torch.Generator) -> Tensor:
    """Return the seconds `[B, T]` of the frames; a picture is any moment of its clip."""
    if size.frames == 1:
        return torch.rand(batch, 1, generator=dice) * 2
    return (torch.arange(size.frames) / size.fps).expand(batch, size.frames)


def track(stage: Stage, labels: dict[str, Tensor], size: SceneSize) -> Tensor:
    """Return the tracks `[B, T, TRACKS]` of a stage, as `models.layout` reads them."""
    B, T = stage.time.shape
    aspect = size.height / size.width
    columns = torch.zeros(7, B, T, layout.SLOTS)
    slots = {True: itertools.count(), False: itertools.count(layout.ALIKE)}
    for figure, pose in zip(stage.figures, stage.poses, strict=True):
        there = (figure.subject != ABSENT).float().view(B, 1).expand(B, T)
        slim = pose.wide / (pose.tall * aspect)
        values = (there, pose.x, pose.y, pose.tall, slim, pose.turn, pose.side.expand(B, T))
        columns[..., next(slots[figure.alike])] = torch.stack(values)
    camera = torch.stack([stage.view.pan, stage.view.tilt, stage.view.zoom], dim=-1)
    half = stage.time + 0.5 / size.fps
    near = [_landings(labels, stage.events, time) for time in (stage.time, half)]
    return layout.write_tracks(
        layout.Figures(*columns.unbind(0)), camera.expand(B, T, 3), torch.stack(near, dim=-1)
    )


def _landings(labels: dict[str, Tensor], events: Events, time: Tensor) -> Tensor:
    """Return how near the next or last landing of the first subject is, 1 at it `[B, T]`."""
    world = load_world()
    motions = [world.motions[row].id for row in labels["motions"].tolist()]
    gaits = [world.subjects[row].facts["gait"] for row in labels["subjects"].tolist()]
    away = torch.full_like(time, 99.0)
    for row, (motion, gait) in enumerate(zip(motions, gaits, strict=True)):
        rate, phase = events.rate[row], events.phase[row]
        if motion == "bounce":
            away[row] = _from_beat(time[row] * rate + phase) / rate
        elif motion == "fall":
            away[row] = (time[row] - events.landing[row]).abs()
        elif motion in ("run", "walk") and gait == "walker":
            away[row] = _from_beat(time[row] * rate * 2 + phase / 2) / (2 * rate)
    return torch.exp(-((away / _LANDING) ** 2))


def _from_beat(turns: Tensor) -> Tensor:
    """Return how far turns are from a whole number."""
    return (turns - turns.round()).abs()
