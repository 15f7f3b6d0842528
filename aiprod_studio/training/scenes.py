"""Scenes: procedural clips with labels and sound, composed on the fly in batched torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aiprod_studio.training.choreography import Pose, View
from aiprod_studio.training.company import Figure
from aiprod_studio.training.dust import throw_up
from aiprod_studio.training.figures import cast_shadow, draw_figure, find_surface, middles
from aiprod_studio.training.painting import HOUR_LIGHT, Backdrop, paint_ground, paint_sky
from aiprod_studio.training.sounds import synthesise
from aiprod_studio.training.stage import SceneSize, set_stage, track
from aiprod_studio.training.weather import CLOUDS, fall, veil
from aiprod_studio.training.world import (
    ABSENT,
    SPRITE_PIXELS,
    held_out_combinations,
    load_sprites,
    load_world,
)

CELL = 16
_COMBINED = ("subjects", "places", "motions")
_RARE = ("sizes", "counts")
_TRIES = 99  # to draw a combination of the kind asked for
_MARGIN = 1.35  # a painted canvas is this much larger than the frame, for the camera to move


@dataclass(frozen=True)
class Scenes:
    """A batch of clips: `video` `[B, 3, T, H, W]` in -1…1, `audio` `[B, S]`, and what is seen.

    `subject` is the subjects' coverage `[B, T, H, W]` in 0…1, `surface` `[B, 2, T, H/16, W/16]` the
    point of the first one's artwork (-1…1 inside) amid every cell of 16 × 16 pixels, `tracks` where
    all are (`models.layout`), and `labels` what is seen, as class numbers `[B]` by kind.
    """

    video: Tensor
    audio: Tensor
    subject: Tensor
    surface: Tensor
    tracks: Tensor
    labels: dict[str, Tensor]


@dataclass(frozen=True)
class Lesson:
    """What a course shows, by concept id; an empty kind shows everything.

    Styles, weathers, relations, sizes and counts begin with what is usual: the first of each.
    `thirds` is the share of pairs that have a third subject, where their relation has room.
    """

    subjects: tuple[str, ...] = ()
    motions: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    styles: tuple[str, ...] = ("glossy",)
    weathers: tuple[str, ...] = ("clear",)
    relations: tuple[str, ...] = ("alone",)
    sizes: tuple[str, ...] = ("usual",)
    counts: tuple[str, ...] = ("one",)
    thirds: float = 0.0


EVERYTHING = Lesson(styles=(), weathers=(), relations=(), sizes=(), counts=(), thirds=0.3)


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
    stage = set_stage(labels, size, dice)
    figures, poses, view, events = stage.figures, stage.poses, stage.view, stage.events
    video, subject = _compose(labels, list(zip(figures, poses, strict=True)), view, size, dice)
    audio = synthesise(labels, events, size.samples, size.sample_rate, dice)
    alike = [pose for figure, pose in zip(figures, poses, strict=True) if figure.alike]
    surface = _surface(alike, labels["counts"], size)
    return Scenes(video, audio, subject, surface, track(stage, labels, size), labels)


def draw_labels(
    batch: int, dice: torch.Generator, lesson: Lesson | None = None, held_out: bool = False
) -> dict[str, Tensor]:
    """Return random class numbers `[B]` of every kind of concept that the lesson teaches.

    `others` is the second subject, `ABSENT` where the first one is alone, and `thirds` a third
    one beside the second; where there is no sky the weather is clear. Combinations of subject,
    place and motion that are held out are never drawn, or alone; a lesson that has none of the
    kind asked for shows what it has. Half of the sizes, and of the counts, are the first one that
    is taught.
    """
    lesson, world = lesson or Lesson(), load_world()

    def pick(rows: list[int]) -> Tensor:
        return torch.tensor(rows)[torch.randint(len(rows), (batch,), generator=dice)]

    def draw(kind: str) -> Tensor:
        return pick(_taught(lesson, kind))

    def draw_rarely(kind: str) -> Tensor:
        usual, *others = _taught(lesson, kind)
        if not others:  # no dice fall for what is always the same
            return torch.full((batch,), usual)
        return torch.where(torch.rand(batch, generator=dice) < 0.5, usual, pick(others))

    labels = {kind: draw(kind) for kind in world.kinds if kind not in _RARE}
    for _ in range(_TRIES):
        drawn = tuple(labels[kind] for kind in _COMBINED)
        wrong = held_out_combinations()[drawn] != held_out
        if not wrong.any():
            break
        labels |= {kind: torch.where(wrong, draw(kind), labels[kind]) for kind in _COMBINED}
    labels["others"] = torch.where(labels["relations"] > 0, draw("subjects"), ABSENT)
    airless = [row for row, place in enumerate(world.places) if place.facts.get("airless")]
    labels["weathers"][torch.isin(labels["places"], torch.tensor(airless))] = 0
    labels |= {kind: draw_rarely(kind) for kind in _RARE}
    labels["thirds"] = torch.full((batch,), ABSENT)
    if lesson.thirds:
        fitting = [row for row, each in enumerate(world.relations) if each.facts.get("third")]
        third = torch.isin(labels["relations"], torch.tensor(fitting)) & (labels["counts"] == 0)
        third &= torch.rand(batch, generator=dice) < lesson.thirds
        labels["thirds"] = torch.where(third, draw("subjects"), ABSENT)
    return labels


def _taught(lesson: Lesson, kind: str) -> list[int]:
    """Return the class numbers of a kind that a lesson shows."""
    ids = getattr(lesson, kind)
    return [row for row, each in enumerate(load_world().kinds[kind]) if not ids or each.id in ids]


def _surface(alike: list[Pose], counts: Tensor, size: SceneSize) -> Tensor:
    """Return the artwork's point amid every cell, of whichever of a kind is nearest to it."""
    grid = size.height // CELL, size.width // CELL, size.height / size.width
    surface = find_surface(alike[0], *grid)
    for number, pose in enumerate(alike[1:], 1):
        one = find_surface(pose, *grid)
        away = [points.abs().amax(dim=1, keepdim=True) for points in (one, surface)]
        nearer = (away[0] < away[1]) & (counts >= number).view(-1, 1, 1, 1, 1)
        surface = torch.where(nearer, one, surface)
    return surface


def _compose(
    labels: dict[str, Tensor],
    cast: list[tuple[Figure, Pose]],
    view: View,
    size: SceneSize,
    dice: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw backdrop, weather, shadows, subjects and dust; return video and the subjects' coverage.

    Clip by clip, so that the frames in work stay in the processor's cache.
    """
    B, T, H, W = len(view.pan), size.frames, size.height, size.width
    world = load_world()
    video, subject = torch.empty(B, 3, T, H, W), torch.zeros(B, T, H, W)
    for row in range(B):
        seen = {kind: int(values[row]) for kind, values in labels.items()}
        weather = world.weathers[seen["weathers"]].id
        backdrop = _backdrop(seen, weather, size, dice)
        frames = _background(backdrop, View(*_of(view, row)), size, dice)
        veil(frames, weather, backdrop.hour)
        light = torch.cat([0.25 + 0.75 * HOUR_LIGHT[backdrop.hour], torch.ones(1)])
        here = [
            (figure, Pose(*_of(pose, row)), figure.scale[row].item())
            for figure, pose in cast
            if figure.subject[row] != ABSENT
        ]
        # Who stands behind, or flees ahead, is drawn first; of a kind, who is farther away.
        behind = world.relations[seen["relations"]].id == "behind"
        here.sort(key=lambda one: (one[0].alike != behind, one[1].ground[0, 0].item()))
        for _, pose, scale in here:
            cast_shadow(frames, pose, scale)
        for figure, pose, scale in here:
            sprite = _sprite(seen["styles"], int(figure.subject[row]), H, scale)
            draw_figure(frames, subject[row], sprite * light[:, None, None], pose)
        for figure, pose, scale in here:
            throw_up(frames, pose, figure.landed[row], backdrop, scale)
        fall(frames, weather, backdrop.hour, size.fps, dice)
        torch.sub(frames.mul_(2).transpose(0, 1), 1, out=video[row])
    return video, subject


def _sprite(style: int, number: int, height: int, scale: float) -> Tensor:
    """Return artwork `[4, p, p]` of about the pixels that it covers in a frame of some height."""
    pixels = round(0.6 * height)
    if scale == 1:
        return load_sprites(pixels)[style, number]
    pixels = min(SPRITE_PIXELS, round(pixels * scale))
    return F.interpolate(load_sprites(SPRITE_PIXELS)[style, number, None], pixels, mode="area")[0]


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
    grid[..., 0] = ((middles(size.width) * 2 - 1) * scale + pan / _MARGIN).unsqueeze(1)
    grid[..., 1] = ((middles(size.height) * 2 - 1) * scale + tilt / _MARGIN).unsqueeze(2)
    picture = canvas.expand(len(moves), -1, -1, -1)
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)
