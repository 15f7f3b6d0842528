"""Scenes: procedural clips with labels and sound, composed on the fly in batched torch."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aiprod_studio.training.captions import write_caption
from aiprod_studio.training.painting import HOUR_LIGHT, paint_ground, paint_sky
from aiprod_studio.training.sounds import Events, synthesise
from aiprod_studio.training.world import load_sprites, load_world

HORIZON = 0.58
_MARGIN = 1.35  # a painted canvas is this much larger than the frame, for the camera to move


@dataclass(frozen=True)
class Scenes:
    """A batch of clips: `video` `[B, 3, T, H, W]` in -1…1, `audio` `[B, S]`, and their words.

    `subject` is the subject's coverage `[B, T, H, W]` in 0…1; `labels` hold what is seen and
    `said` what the caption names (-1: not named), as class numbers by kind.
    """

    video: Tensor
    audio: Tensor
    subject: Tensor
    captions: list[str]
    labels: dict[str, Tensor]
    said: dict[str, Tensor]


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
class Lesson:
    """What a course shows, by concept id; an empty kind shows everything."""

    subjects: tuple[str, ...] = ()
    motions: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Path:
    """A subject over time, each `[B, T]`: centre, height above ground, size, turn, squash."""

    x: Tensor
    lift: Tensor
    size: Tensor
    turn: Tensor
    squash: Tensor


def make_scenes(
    batch: int, size: SceneSize, dice: torch.Generator, lesson: Lesson | None = None
) -> Scenes:
    """Compose `batch` random scenes; the same state of `dice` gives the same scenes."""
    labels = draw_labels(batch, dice, lesson)
    chance = random.Random(int(torch.randint(2**31, (1,), generator=dice)))
    lines = [
        write_caption({kind: int(v[i]) for kind, v in labels.items()}, chance) for i in range(batch)
    ]
    said = {kind: torch.tensor([line[1][kind] for line in lines]) for kind in labels}
    time = scene_time(batch, size, dice)
    path, events = choreograph(labels, time, dice)
    video, subject = _compose(labels, path, time, size, dice)
    audio = synthesise(labels, events, size.samples, size.sample_rate, dice)
    return Scenes(video * 2 - 1, audio, subject, [line[0] for line in lines], labels, said)


def draw_labels(
    batch: int, dice: torch.Generator, lesson: Lesson | None = None
) -> dict[str, Tensor]:
    """Return random class numbers `[B]` of every kind of concept that the lesson teaches."""
    labels = {}
    for kind, table in load_world().kinds.items():
        taught = getattr(lesson, kind, ())
        rows = [row for row, concept in enumerate(table) if not taught or concept.id in taught]
        labels[kind] = torch.tensor(rows)[torch.randint(len(rows), (batch,), generator=dice)]
    return labels


def scene_time(batch: int, size: SceneSize, dice: torch.Generator) -> Tensor:
    """Return the seconds `[B, T]` of the frames; a picture is any moment of its clip."""
    if size.frames == 1:
        return torch.rand(batch, 1, generator=dice) * 2
    return (torch.arange(size.frames) / size.fps).expand(batch, size.frames)


def choreograph(
    labels: dict[str, Tensor], time: Tensor, dice: torch.Generator
) -> tuple[_Path, Events]:
    """Return the subjects' paths and the moments that make a sound."""
    motion = labels["motions"]
    B, t = len(motion), time

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(B, 1, generator=dice) * (high - low) + low

    def doing(name: str) -> Tensor:
        index = [m.id for m in load_world().motions].index(name)
        return (motion == index).float().view(B, 1)

    side = (torch.rand(B, 1, generator=dice) < 0.5).float() * 2 - 1
    rate, phase = draw(1.2, 2.2), draw(0, 1)
    hop = ((t * rate + phase) % 1) * 2 - 1
    arc = 1 - hop**2
    wave = torch.sin(6.28 * (t * rate * 0.5 + phase))

    x = 0.5 + draw(-0.14, 0.14) + side * doing("run") * (t - 1.0) * draw(0.16, 0.3)
    size = draw(0.50, 0.66) * (1 + doing("grow") * (0.42 * (t - 1.0)).clamp(-0.45, 0.5))
    fall = (t * draw(0.8, 1.2)).clamp(0, 1) ** 2
    lift = doing("bounce") * draw(0.14, 0.24) * arc
    lift = lift + doing("run") * 0.025 * torch.sin(6.28 * (t * rate * 2 + phase)).abs()
    lift = lift + doing("fly") * (draw(0.16, 0.24) + 0.05 * wave)
    lift = lift + doing("fall") * 0.55 * (1 - fall)
    x = x + doing("fly") * side * 0.10 * (t - 1.0) + doing("shake") * 0.025 * torch.sin(40 * t)
    turn = doing("spin") * side * 6.28 * (t * draw(0.35, 0.6))
    turn = turn + doing("shake") * 0.22 * torch.sin(6.28 * (t * rate * 1.5 + phase))
    turn = turn + doing("run") * 0.05 * wave - side * doing("fly") * 0.12
    landing = torch.exp(-(((1 - hop.abs()) / 0.18) ** 2))
    squash = 1 - doing("bounce") * 0.2 * landing - doing("fall") * 0.18 * _after(fall >= 1, t)
    facing = -side  # the artwork looks to the left; a negative size mirrors it
    events = Events(
        rate=rate.squeeze(1),
        phase=phase.squeeze(1),
        landing=_first_time(fall >= 1, t),
    )
    return _Path(x, lift, size * facing, turn, squash), events


def _after(reached: Tensor, t: Tensor) -> Tensor:
    """Return a short pulse right after the first moment that `reached` holds."""
    since = t - _first_time(reached, t).unsqueeze(1)
    return torch.where(since >= 0, torch.exp(-since * 9), torch.zeros_like(since))


def _first_time(reached: Tensor, t: Tensor) -> Tensor:
    """Return the time `[B]` in seconds at which `reached` `[B, T]` first holds (99: never)."""
    never = torch.full_like(t, 99.0)
    return torch.where(reached, t, never).amin(dim=1)


def _compose(
    labels: dict[str, Tensor], path: _Path, time: Tensor, size: SceneSize, dice: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw background, shadow and subject; return video in 0…1 and the subject's coverage."""
    place, hour = labels["places"], labels["times"]
    B, T, H, W = len(place), size.frames, size.height, size.width
    canvas = (round(H * _MARGIN), round(W * _MARGIN))
    sky = paint_sky(place, hour, canvas, HORIZON, dice)
    ground = paint_ground(place, hour, canvas, HORIZON, dice)
    pan, tilt, zoom = _camera(labels["cameras"], time, dice)
    far = _view(sky, pan * 0.4, tilt, zoom * 0.5, size)
    near = _view(ground, pan, tilt, zoom, size)
    video = far * (1 - near[:, 3:]) + near[:, :3]

    base = 0.88 - tilt * 0.5
    centre_x = (path.x - pan * 0.5 - 0.5) * (1 + zoom * 0.6) + 0.5
    height = path.size.abs() * (1 + zoom * 0.6)
    tall = height * path.squash
    wide = height * H / W * (2 - path.squash)
    centre_y = base - path.lift - tall / 2
    rows = torch.linspace(0.5 / H, 1 - 0.5 / H, H).view(1, 1, H, 1)
    columns = torch.linspace(0.5 / W, 1 - 0.5 / W, W).view(1, 1, 1, W)

    def at(value: Tensor) -> Tensor:
        return value.expand(B, T).reshape(B, T, 1, 1)

    reach = at(wide) * 0.36 * (1 + at(path.lift))
    shadow = ((columns - at(centre_x)) / reach) ** 2 + ((rows - at(base)) / 0.035) ** 2
    shade = 0.45 * torch.exp(-shadow) / (1 + 5 * at(path.lift))
    video = video * (1 - shade.unsqueeze(1))

    dx, dy = (columns - at(centre_x)) * W / H, rows - at(centre_y)
    cos, sin = at(torch.cos(path.turn)), at(torch.sin(path.turn))
    u = (cos * dx + sin * dy) / (at(wide) * W / H / 2) * at(path.size.sign())
    v = (-sin * dx + cos * dy) / (at(tall) / 2)
    sprites = load_sprites(round(0.6 * H))[labels["subjects"]]
    grid = torch.stack([u.expand(B, T, H, W), v.expand(B, T, H, W)], dim=-1).view(B, T * H, W, 2)
    drawn = F.grid_sample(sprites, grid, align_corners=False).view(B, 4, T, H, W)
    lit = drawn[:, :3] * (0.25 + 0.75 * HOUR_LIGHT[hour]).view(B, 3, 1, 1, 1)
    video = video * (1 - drawn[:, 3:]) + lit
    return video.clamp(0, 1), drawn[:, 3]


def _camera(cameras: Tensor, time: Tensor, dice: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return pan, tilt (shares of the frame) and zoom over time, each `[B, T]`."""
    B = len(cameras)
    names = [c.id for c in load_world().cameras]
    side = (torch.rand(B, 1, generator=dice) < 0.5).float() * 2 - 1
    t = time - 1.0
    pan = (cameras == names.index("pan")).float().view(B, 1) * side * 0.22 * t
    tilt = (cameras == names.index("tilt")).float().view(B, 1) * -0.12 * t
    zoom = (cameras == names.index("zoom")).float().view(B, 1) * 0.25 * t
    return pan.clamp(-0.3, 0.3), tilt.clamp(-0.14, 0.14), zoom.clamp(-0.28, 0.3)


def _view(canvas: Tensor, pan: Tensor, tilt: Tensor, zoom: Tensor, size: SceneSize) -> Tensor:
    """Look at a painted canvas `[B, C, h, w]` through a moving frame: `[B, C, T, H, W]`."""
    B, C = canvas.shape[:2]
    T, H, W = size.frames, size.height, size.width
    scale = (1 / _MARGIN) / (1 + zoom * 0.6).view(B, T, 1, 1)
    y = torch.linspace(-1 + 1 / H, 1 - 1 / H, H).view(1, 1, H, 1)
    x = torch.linspace(-1 + 1 / W, 1 - 1 / W, W).view(1, 1, 1, W)
    u = x * scale + (pan / _MARGIN).view(B, T, 1, 1)
    v = y * scale + (tilt / _MARGIN).view(B, T, 1, 1)
    grid = torch.stack([u.expand(B, T, H, W), v.expand(B, T, H, W)], dim=-1).view(B, T * H, W, 2)
    seen = F.grid_sample(canvas, grid, padding_mode="border", align_corners=False)
    return seen.view(B, C, T, H, W)
