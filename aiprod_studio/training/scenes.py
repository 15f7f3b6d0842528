"""Scenes: procedural clips with labels and sound, composed on the fly in batched torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aiprod_studio.training.choreography import (
    Pose,
    View,
    choreograph,
    look,
    pair,
    stand,
)
from aiprod_studio.training.dust import since_landing, throw_up
from aiprod_studio.training.painting import HOUR_LIGHT, Backdrop, paint_ground, paint_sky
from aiprod_studio.training.sounds import synthesise
from aiprod_studio.training.weather import CLOUDS, fall, veil
from aiprod_studio.training.world import ABSENT, held_out_combinations, load_sprites, load_world

CELL = 16
_COMBINED = ("subjects", "places", "motions")
_TRIES = 99  # to draw a combination of the kind asked for
_MARGIN = 1.35  # a painted canvas is this much larger than the frame, for the camera to move


@dataclass(frozen=True)
class Scenes:
    """A batch of clips: `video` `[B, 3, T, H, W]` in -1…1, `audio` `[B, S]`, and what is seen.

    `subject` is the subject's coverage `[B, T, H, W]` in 0…1, `surface` `[B, 2, T, H/16, W/16]`
    the point of its artwork (-1…1 inside) at the middle of every cell of 16 × 16 pixels, and
    `labels` what is seen, as class numbers `[B]` by kind.
    """

    video: Tensor
    audio: Tensor
    subject: Tensor
    surface: Tensor
    labels: dict[str, Tensor]


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
    """What a course shows, by concept id; an empty kind shows everything.

    Styles, weathers and relations begin with what is usual: the first of each.
    """

    subjects: tuple[str, ...] = ()
    motions: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    styles: tuple[str, ...] = ("glossy",)
    weathers: tuple[str, ...] = ("clear",)
    relations: tuple[str, ...] = ("alone",)


EVERYTHING = Lesson(styles=(), weathers=(), relations=())


@dataclass(frozen=True)
class _Box:
    """A part of the frame, in shares of it, and the frame's height over its width."""

    left: float
    top: float
    right: float
    bottom: float
    aspect: float


def make_scenes(
    batch: int,
    size: SceneSize,
    dice: torch.Generator,
    lesson: Lesson | None = None,
    held_out: bool = False,
) -> Scenes:
    """Compose `batch` random scenes; the same state of `dice` gives the same scenes.

    `held_out` asks for combinations that training never shows, as `draw_labels` does.
    """
    labels = draw_labels(batch, dice, lesson, held_out)
    time = scene_time(batch, size, dice)
    path, events = choreograph(labels, time, dice)
    path, other = pair(labels["relations"], path, dice)
    view = look(labels["cameras"], path, time, dice)
    poses = [stand(p, view, size.height / size.width) for p in (path, other)]
    landed = [
        since_landing(load_world().motions[motion].id, events, time, row)
        for row, motion in enumerate(labels["motions"].tolist())
    ]
    video, subject = _compose(labels, poses, view, landed, size, dice)
    audio = synthesise(labels, events, size.samples, size.sample_rate, dice)
    return Scenes(video, audio, subject, _surface(poses[0], size), labels)


def draw_labels(
    batch: int, dice: torch.Generator, lesson: Lesson | None = None, held_out: bool = False
) -> dict[str, Tensor]:
    """Return random class numbers `[B]` of every kind of concept that the lesson teaches.

    `others` is the second subject, `ABSENT` where the first one is alone; where there is no sky
    the weather is clear. Combinations of subject, place and motion that are held out are never
    drawn, or alone; a lesson that has none of the kind asked for shows what it has.
    """
    lesson, world = lesson or Lesson(), load_world()

    def draw(kind: str) -> Tensor:
        taught = getattr(lesson, kind)
        table = world.kinds[kind]
        rows = [row for row, concept in enumerate(table) if not taught or concept.id in taught]
        return torch.tensor(rows)[torch.randint(len(rows), (batch,), generator=dice)]

    labels = {kind: draw(kind) for kind in world.kinds}
    for _ in range(_TRIES):
        drawn = tuple(labels[kind] for kind in _COMBINED)
        wrong = held_out_combinations()[drawn] != held_out
        if not wrong.any():
            break
        labels |= {kind: torch.where(wrong, draw(kind), labels[kind]) for kind in _COMBINED}
    labels["others"] = torch.where(labels["relations"] > 0, draw("subjects"), ABSENT)
    airless = [row for row, place in enumerate(world.places) if place.facts.get("airless")]
    labels["weathers"][torch.isin(labels["places"], torch.tensor(airless))] = 0
    return labels


def scene_time(batch: int, size: SceneSize, dice: torch.Generator) -> Tensor:
    """Return the seconds `[B, T]` of the frames; a picture is any moment of its clip."""
    if size.frames == 1:
        return torch.rand(batch, 1, generator=dice) * 2
    return (torch.arange(size.frames) / size.fps).expand(batch, size.frames)


def _locate(pose: Pose, box: _Box) -> Tensor:
    """Return the affine maps `[B, T, 2, 3]` from a box of the frame to the artwork.

    Both reach from -1 to 1, as `affine_grid` and `grid_sample` want them.
    """
    cos, sin = torch.cos(pose.turn), torch.sin(pose.turn)
    across, down = 2 * pose.side / pose.wide, 2 / pose.tall
    # A turn mixes both axes, which count in pixels.
    rows = [
        torch.stack([cos * across, sin * across * box.aspect], dim=-1),
        torch.stack([-sin * down / box.aspect, cos * down], dim=-1),
    ]
    turned = torch.stack(rows, dim=-2)
    x = (box.left + box.right) / 2 - pose.x
    y = (box.top + box.bottom) / 2 - pose.y
    shift = turned @ torch.stack([x, y], dim=-1).unsqueeze(-1)
    half = torch.tensor([box.right - box.left, box.bottom - box.top]) / 2
    return torch.cat([turned * half, shift], dim=-1)


def _surface(pose: Pose, size: SceneSize) -> Tensor:
    """Return the point of the artwork amid every cell: `[B, 2, T, H/16, W/16]`."""
    whole = _Box(0, 0, 1, 1, size.height / size.width)
    maps = _locate(pose, whole)
    shape = [maps.shape[0] * size.frames, 1, size.height // CELL, size.width // CELL]
    points = F.affine_grid(maps.flatten(0, 1), shape, align_corners=False)
    return points.view(*maps.shape[:2], *points.shape[1:]).permute(0, 4, 1, 2, 3)


def _compose(
    labels: dict[str, Tensor],
    poses: list[Pose],
    view: View,
    landed: list[Tensor],
    size: SceneSize,
    dice: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw backdrop, weather, shadows, subjects and dust; return video and the first's coverage.

    Clip by clip, so that the frames in work stay in the processor's cache.
    """
    B, T, H, W = len(view.pan), size.frames, size.height, size.width
    world, sprites = load_world(), load_sprites(round(0.6 * H))
    video, subject = torch.empty(B, 3, T, H, W), torch.zeros(B, T, H, W)
    for row in range(B):
        seen = {kind: int(values[row]) for kind, values in labels.items()}
        weather = world.weathers[seen["weathers"]].id
        backdrop = _backdrop(seen, weather, size, dice)
        frames = _background(backdrop, View(*_of(view, row)), size, dice)
        veil(frames, weather, backdrop.hour)
        light = torch.cat([0.25 + 0.75 * HOUR_LIGHT[backdrop.hour], torch.ones(1)])
        first = Pose(*_of(poses[0], row))
        cast = [(seen["subjects"], first, subject[row])]
        if seen["others"] != ABSENT:
            other = seen["others"], Pose(*_of(poses[1], row)), torch.empty(T, H, W)
            # Who stands behind, or flees ahead, is drawn first.
            cast.insert(world.relations[seen["relations"]].id == "behind", other)
        for _, pose, _ in cast:
            _cast_shadow(frames, pose)
        for number, pose, cover in cast:
            sprite = sprites[seen["styles"], number] * light[:, None, None]
            _draw_subject(frames, cover, sprite, pose)
        throw_up(frames, first, landed[row], backdrop)
        fall(frames, weather, backdrop.hour, size.fps, dice)
        torch.sub(frames.mul_(2).transpose(0, 1), 1, out=video[row])
    return video, subject


def _backdrop(
    seen: dict[str, int], weather: str, size: SceneSize, dice: torch.Generator
) -> Backdrop:
    """Return what is painted behind a scene, larger than the frame."""
    least, most = CLOUDS[weather]
    clouds = least + (most - least) * torch.rand(1, generator=dice).item()
    return Backdrop(
        place=load_world().places[seen["places"]],
        hour=seen["times"],
        clouds=clouds,
        flat=load_world().styles[seen["styles"]].id == "flat",
        height=round(size.height * _MARGIN),
        width=round(size.width * _MARGIN),
    )


def _of(batch: View | Pose, row: int) -> list[Tensor]:
    """Return one clip's part `[1, T]` of everything in a batch."""
    return [getattr(batch, field.name)[row : row + 1] for field in dataclasses.fields(batch)]


def _background(backdrop: Backdrop, view: View, size: SceneSize, dice: torch.Generator) -> Tensor:
    """Return what the camera sees of a painted backdrop: frames `[T, 3, H, W]`."""
    sky, ground = paint_sky(backdrop, dice), paint_ground(backdrop, dice)
    near = _behold(ground, view, size)
    far = _behold(sky, View(view.pan * 0.4, view.tilt, view.zoom * 0.5), size)
    video = torch.addcmul(near[:, :3], far, 1 - near[:, 3:])
    if len(video) < size.frames:
        video = video.expand(size.frames, -1, -1, -1).contiguous()
    return video


def _behold(canvas: Tensor, view: View, size: SceneSize) -> Tensor:
    """Look at a canvas `[C, h, w]` through a moving frame `[T, C, H, W]`, a resting one once."""
    moves = torch.stack([view.pan, view.tilt, view.zoom], dim=-1)[0]
    if not moves.any():
        moves = moves[:1]
    pan, tilt, zoom = moves.T.unsqueeze(-1)
    scale = 1 / _MARGIN / (1 + zoom * 0.6)
    # A camera that does not roll sees columns and rows apart, which is cheaper than a matrix.
    grid = torch.empty(len(moves), size.height, size.width, 2)
    grid[..., 0] = ((_middles(size.width) * 2 - 1) * scale + pan / _MARGIN).unsqueeze(1)
    grid[..., 1] = ((_middles(size.height) * 2 - 1) * scale + tilt / _MARGIN).unsqueeze(2)
    picture = canvas.expand(len(moves), -1, -1, -1)
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)


def _cast_shadow(frames: Tensor, pose: Pose) -> None:
    """Darken the ground under a subject, in place; its shadow ends within a tenth of a frame."""
    H, W = frames.shape[-2:]
    first = int((pose.ground.min().item() - 0.1) * H)
    rows, columns = _middles(H)[first:, None], _middles(W)
    pose = Pose(*(value.view(-1, 1, 1) for value in _of(pose, 0)))
    across = (columns - pose.x) / (pose.wide * 0.36 * (1 + pose.lift))
    down = (rows - pose.ground) / 0.035
    shade = torch.exp(-(across**2)) * (0.45 / (1 + 5 * pose.lift) * torch.exp(-(down**2)))
    frames[..., first:, :] *= (1 - shade).unsqueeze(1)


def _draw_subject(frames: Tensor, cover: Tensor, sprite: Tensor, pose: Pose) -> None:
    """Draw artwork `[4, h, w]` into frames `[T, 3, H, W]` and its cover `[T, H, W]`, in place."""
    T, _, H, W = frames.shape
    reach = torch.hypot(pose.wide * W, pose.tall * H) / 2
    left = max(0, int((pose.x * W - reach).min().item()))
    right = min(W, int((pose.x * W + reach).max().item()) + 1)
    top = max(0, int((pose.y * H - reach).min().item()))
    bottom = min(H, int((pose.y * H + reach).max().item()) + 1)
    if left >= right or top >= bottom:
        return
    maps = _locate(pose, _Box(left / W, top / H, right / W, bottom / H, H / W))[0]
    grid = F.affine_grid(maps, [T, 4, bottom - top, right - left], align_corners=False)
    drawn = F.grid_sample(sprite.expand(T, -1, -1, -1), grid, align_corners=False)
    inside = frames[..., top:bottom, left:right]
    inside.mul_(1 - drawn[:, 3:]).add_(drawn[:, :3])
    cover[:, top:bottom, left:right] = drawn[:, 3]


def _middles(count: int) -> Tensor:
    """Return the middles of `count` equal parts of 0…1."""
    return (torch.arange(count) + 0.5) / count
