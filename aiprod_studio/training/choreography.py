"""Choreography: where subjects and camera are at every moment of a scene."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from aiprod_studio.training.sounds import Events
from aiprod_studio.training.world import load_world

_MIDDLE = 1.0  # the second around which subjects and camera move


@dataclass(frozen=True)
class Path:
    """A subject over time, each `[B, T]`: centre, height above ground, size, turn, squash, depth.

    Lengths are shares of the frame; a negative size mirrors the artwork, which looks to the left.
    `depth` is how far up the frame its ground lies.
    """

    x: Tensor
    lift: Tensor
    size: Tensor
    turn: Tensor
    squash: Tensor
    depth: Tensor


@dataclass(frozen=True)
class View:
    """The camera over time, each `[B, T]`: pan and tilt in shares of the frame, and zoom."""

    pan: Tensor
    tilt: Tensor
    zoom: Tensor


@dataclass(frozen=True)
class Pose:
    """A subject as the camera sees it, each `[B, T]`.

    `x`, `y`, `wide`, `tall`, `ground` and `lift` are shares of the frame, `turn` radians, `side`
    -1 where the artwork is mirrored.
    """

    x: Tensor
    y: Tensor
    wide: Tensor
    tall: Tensor
    ground: Tensor
    lift: Tensor
    turn: Tensor
    side: Tensor


def choreograph(
    labels: dict[str, Tensor], time: Tensor, dice: torch.Generator
) -> tuple[Path, Events]:
    """Return the subjects' paths and the moments that make a sound; `time` `[B, T]` in seconds."""
    motion = labels["motions"]
    B, t = len(motion), time

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(B, 1, generator=dice) * (high - low) + low

    def doing(*names: str) -> Tensor:
        wanted = [row for row, m in enumerate(load_world().motions) if m.id in names]
        return torch.isin(motion, torch.tensor(wanted)).float().view(B, 1)

    side = (torch.rand(B, 1, generator=dice) < 0.5).float() * 2 - 1
    rate, phase = draw(1.2, 2.2), draw(0, 1)
    hop = ((t * rate + phase) % 1) * 2 - 1
    arc = 1 - hop**2
    wave = torch.sin(6.28 * (t * rate * 0.5 + phase))
    strides = torch.sin(6.28 * (t * rate * 2 + phase)).abs()
    since = t - _MIDDLE
    round_ = 6.28 * (t * draw(0.35, 0.55) + phase)

    speed = doing("run") * draw(0.10, 0.22) + doing("walk") * draw(0.05, 0.08)
    speed = speed + doing("roll") * draw(0.10, 0.18) + doing("fly") * 0.10
    x = 0.5 + draw(-0.14, 0.14) + side * since * speed
    x = x + doing("shake") * 0.025 * torch.sin(40 * t) + doing("orbit") * 0.2 * torch.cos(round_)
    size = draw(0.50, 0.66) * (1 + doing("grow") * (0.42 * since).clamp(-0.45, 0.5))
    size = size * (1 + doing("orbit") * 0.16 * torch.sin(round_))
    fall = (t * draw(0.8, 1.2)).clamp(0, 1) ** 2
    lift = doing("bounce") * draw(0.14, 0.24) * arc
    lift = lift + doing("run") * 0.025 * strides + doing("walk") * 0.012 * strides
    lift = lift + doing("fly") * (draw(0.16, 0.24) + 0.05 * wave)
    lift = lift + doing("fall") * 0.55 * (1 - fall) + doing("swing") * 0.06
    lift = lift + doing("orbit") * (0.10 - 0.08 * torch.sin(round_))
    turn = doing("spin") * side * 6.28 * (t * draw(0.35, 0.6))
    # What rolls turns by the way it goes over half its height.
    turn = turn - doing("roll") * side * since * speed / (size / 2)
    turn = turn + doing("shake") * 0.22 * torch.sin(6.28 * (t * rate * 1.5 + phase))
    turn = turn + doing("swing") * 0.4 * torch.sin(6.28 * (t * 0.6 + phase))
    turn = turn + doing("run", "walk") * 0.05 * wave - side * doing("fly") * 0.12
    landing = torch.exp(-(((1 - hop.abs()) / 0.18) ** 2))
    squash = 1 - doing("bounce") * 0.2 * landing - doing("fall") * 0.18 * _after(fall >= 1, t)
    events = Events(
        rate=rate.squeeze(1),
        phase=phase.squeeze(1),
        landing=_first_time(fall >= 1, t),
    )
    return Path(x, lift, size * -side, turn, squash, torch.zeros_like(x)), events


def pair(relations: Tensor, path: Path, dice: torch.Generator) -> tuple[Path, Path]:
    """Return the subject's path, made room on, and that of another in a relation to it."""
    B = len(relations)
    names = [concept.id for concept in load_world().relations]

    def when(name: str) -> Tensor:
        return (relations == names.index(name)).float().view(B, 1)

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(B, 1, generator=dice) * (high - low) + low

    both = 1 - when("alone")
    side = (torch.rand(B, 1, generator=dice) < 0.5).float() * 2 - 1
    facing = path.size.sign()
    # Who chases runs towards where it looks, behind who flees; artwork looks to the left.
    side = torch.where(when("chasing") > 0, facing, side)
    gap = (when("beside") + when("chasing")) * draw(0.2, 0.24) + when("behind") * draw(0.1, 0.14)
    drift = path.x - path.x.mean(dim=1, keepdim=True)
    centre = 0.5 + draw(-0.04, 0.04)
    apart = torch.where(both > 0, centre + drift + side * gap, path.x)
    shrink = 1 - 0.3 * both - 0.12 * when("behind")
    mine = dataclasses.replace(
        path,
        x=apart,
        size=path.size * shrink,
        lift=path.lift + when("above") * 0.36 + when("behind") * 0.09,
    )
    sign = torch.where(when("chasing") > 0, facing, -facing)
    other = dataclasses.replace(
        path,
        x=centre + drift * when("chasing") - side * gap,
        size=path.size.abs() * sign * (1 - 0.3 * both),
        lift=path.lift * when("chasing"),
        turn=path.turn * when("chasing"),
        squash=torch.ones_like(path.squash),
    )
    return mine, other


def look(cameras: Tensor, path: Path, time: Tensor, dice: torch.Generator) -> View:
    """Return where cameras `[B]` look over time; one that follows keeps the subject in place."""
    B = len(cameras)
    names = [c.id for c in load_world().cameras]

    def when(name: str) -> Tensor:
        return (cameras == names.index(name)).float().view(B, 1)

    side = (torch.rand(B, 1, generator=dice) < 0.5).float() * 2 - 1
    t = time - _MIDDLE
    pan = when("pan") * side * 0.22 * t + when("orbit") * side * 0.28 * torch.sin(1.4 * t)
    pan = pan + when("follow") * 2 * (path.x - path.x.mean(dim=1, keepdim=True))
    tilt = when("tilt") * -0.12 * t
    zoom = when("zoom") * 0.25 * t + when("orbit") * 0.18 * torch.cos(1.4 * t)
    return View(pan.clamp(-0.3, 0.3), tilt.clamp(-0.14, 0.14), zoom.clamp(-0.28, 0.3))


def stand(path: Path, view: View, aspect: float) -> Pose:
    """Return a subject as the camera sees it; `aspect` is the frame's height over its width."""
    ground = 0.88 - view.tilt * 0.5 - path.depth
    nearer = 1 + view.zoom * 0.6
    height = path.size.abs() * nearer
    tall = height * path.squash
    return Pose(
        x=(path.x - view.pan * 0.5 - 0.5) * nearer + 0.5,
        y=ground - path.lift - tall / 2,
        wide=height * aspect * (2 - path.squash),
        tall=tall,
        ground=ground,
        lift=path.lift,
        turn=path.turn,
        side=path.size.sign(),
    )


def _after(reached: Tensor, t: Tensor) -> Tensor:
    """Return a short pulse right after the first moment that `reached` holds."""
    since = t - _first_time(reached, t).unsqueeze(1)
    return torch.where(since >= 0, torch.exp(-since.clamp(min=0) * 9), torch.zeros_like(since))


def _first_time(reached: Tensor, t: Tensor) -> Tensor:
    """Return the time `[B]` in seconds at which `reached` `[B, T]` first holds (99: never)."""
    never = torch.full_like(t, 99.0)
    return torch.where(reached, t, never).amin(dim=1)
