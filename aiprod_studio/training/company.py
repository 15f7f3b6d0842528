"""Company: how large the first subject is, how many there are of it, and who else is seen."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from aiprod_studio.training.choreography import Path, choreograph, pair
from aiprod_studio.training.dust import NEVER, since_landing
from aiprod_studio.training.sounds import Events
from aiprod_studio.training.world import ABSENT, load_world

# By how many share a row: their size beside that of one alone, and how far apart they stand.
_SHRUNK = torch.tensor([1.0, 1.0, 0.7, 0.5, 0.4])
_APART = torch.tensor([0.0, 0.0, 0.44, 0.29, 0.22])
_TALLEST = 1.1  # shares of the frame's height that a subject larger than usual grows to
_IN_COMPANY = 0.75  # the power of a size's scale where there are several
_CALM = 0.6  # how far a row goes, where one alone goes 1
_STACKED = ("behind", "above")  # relations whose two sides do not stand in one row


@dataclass(frozen=True)
class Figure:
    """One of those who are seen, in every clip of a batch.

    `subject` `[B]` says who it is, `ABSENT` where it is not there; `alike` that it is the first
    subject, or one more of it. It is drawn `scale` `[B]` times as large as is usual, and `landed`
    `[B, T]` seconds ago, as `dust.since_landing` tells.
    """

    subject: Tensor
    alike: bool
    path: Path
    scale: Tensor
    landed: Tensor


@dataclass(frozen=True)
class _Play:
    """What happens once: a clock `[B, T]` in seconds, both subjects' paths, what makes a sound."""

    time: Tensor
    first: Path
    other: Path
    events: Events


@dataclass(frozen=True)
class _Row:
    """Where those of one side stand, each `[B, 1]`, in shares of the frame.

    `crowded` tells that there are more than one, or than a pair. Then they stand around `middle`,
    from `first` in steps of `step`, with their ground `depth` higher, drawn `shrink` as large.
    """

    crowded: Tensor
    middle: Tensor
    first: Tensor
    step: Tensor
    depth: Tensor
    shrink: Tensor


def gather(
    labels: dict[str, Tensor], time: Tensor, dice: torch.Generator
) -> tuple[list[Figure], Events]:
    """Return all who are seen, the first subject first, and the moments that make a sound.

    More of a kind do the same a little earlier or later, `time` being `[B, T]` in seconds. Where
    none are more than a pair, no more dice fall than for the choreography of two.
    """
    begin = dice.get_state()
    plays = [_play(labels, time, dice)]
    copies, third = int(labels["counts"].max()), bool((labels["thirds"] != ABSENT).any())
    late = max(copies, int(third))
    lags = torch.rand(late, len(time), 1, generator=dice) * 0.04 + 0.05
    lags[::2] *= -1
    end = dice.get_state()
    for lag in lags:
        dice.set_state(begin)  # the same dice fall the same way
        plays.append(_play(labels, time + lag, dice))
    dice.set_state(end)
    alike, others = _rows(labels, plays[0])
    figures = []
    for number, play in enumerate(plays[: copies + 1]):
        subject = torch.where(labels["counts"] >= number, labels["subjects"], ABSENT)
        path, scale = _resize(_place(play.first, alike, number), labels)
        path = _vary(path, dice) if number else path
        scale = scale * alike.shrink[:, 0]
        figures.append(Figure(subject, True, path, scale, _landed(labels, play)))
    never = torch.full_like(time, NEVER)
    for number, kind in enumerate(("others", "thirds")[: 1 + third]):
        path = _place(plays[number].other, others, number)
        figures.append(Figure(labels[kind], False, path, others.shrink[:, 0], never))
    return figures, plays[0].events


def _play(labels: dict[str, Tensor], time: Tensor, dice: torch.Generator) -> _Play:
    path, events = choreograph(labels, time, dice)
    return _Play(time, *pair(labels["relations"], path, dice), events)


def _landed(labels: dict[str, Tensor], play: _Play) -> Tensor:
    """Return the seconds `[B, T]` since the first subject last landed."""
    motions = [load_world().motions[number].id for number in labels["motions"].tolist()]
    rows = enumerate(motions)
    return torch.stack([since_landing(name, play.events, play.time, row) for row, name in rows])


def _rows(labels: dict[str, Tensor], play: _Play) -> tuple[_Row, _Row]:
    """Return where the first subject and more of it stand, and where the others do."""
    relations = [concept.id for concept in load_world().relations]
    stacked = torch.isin(
        labels["relations"], torch.tensor([relations.index(name) for name in _STACKED])
    )
    alike = labels["counts"] + 1
    others = (labels["others"] != ABSENT).long() + (labels["thirds"] != ABSENT).long()
    abreast = torch.where(stacked, torch.maximum(alike, others), alike + others)
    before = torch.where(others > 0, 2, 1)  # for how many there is room already
    shrink = _SHRUNK[torch.maximum(abreast, before)] / _SHRUNK[before]
    here, there = play.first.x.mean(dim=1), play.other.x.mean(dim=1)
    step = _APART[abreast] * torch.where(here < there, -1.0, 1.0)
    middle = torch.where(others > 0, (here + there) / 2, 0.4 + 0.2 * here)
    crowded = (alike > 1) | (others > 1)
    behind = (labels["relations"] == relations.index("behind")) & crowded

    def row(own: Tensor, many: Tensor, place: Tensor, depth: Tensor) -> _Row:
        middles = torch.where(stacked, own, middle)
        length = torch.where(stacked, many, alike + others)
        first = step * ((length - 1) / 2 - torch.where(stacked, 0, place))
        values = (crowded, middles, first, step, depth, shrink)
        return _Row(*(value.view(-1, 1) for value in values))

    return (
        row(here, alike, torch.zeros_like(alike), 0.1 * behind),
        row(there, others, alike, torch.zeros_like(shrink)),
    )


def _place(path: Path, row: _Row, number: int) -> Path:
    """Return the path of who stands at a place of a row, counted from 0."""
    drift = path.x - path.x.mean(dim=1, keepdim=True)
    x = row.middle + _CALM * drift + row.first - number * row.step
    return dataclasses.replace(
        path,
        x=torch.where(row.crowded, x, path.x),
        size=path.size * row.shrink,
        depth=path.depth + row.depth,
    )


def _resize(path: Path, labels: dict[str, Tensor]) -> tuple[Path, Tensor]:
    """Return a first subject's path at the size that is asked for, and its scale `[B]`."""
    scale = torch.tensor([size.facts["scale"] for size in load_world().sizes])[labels["sizes"]]
    company = (labels["counts"] > 0) | (labels["others"] != ABSENT)
    scale = torch.where(company, scale**_IN_COMPANY, scale)
    s, close = scale.view(-1, 1), company.view(-1, 1)
    rolls = labels["motions"] == [motion.id for motion in load_world().motions].index("roll")
    size = path.size * s
    resized = dataclasses.replace(
        path,
        size=torch.where(s > 1, size.clamp(-_TALLEST, _TALLEST), size),
        # What is larger leaves the ground less, so that it stays in the frame.
        lift=path.lift / torch.where(close, s.sqrt(), s).clamp(min=1),
        turn=torch.where(rolls.view(-1, 1), path.turn / s, path.turn),
        depth=path.depth + 0.06 * (1 - s),
    )
    return resized, scale


def _vary(path: Path, dice: torch.Generator) -> Path:
    """Return a path a little aside, farther and of another size."""
    aside, away, larger = torch.rand(3, len(path.x), 1, generator=dice)
    return dataclasses.replace(
        path,
        x=path.x + 0.03 * (aside - 0.5),
        size=path.size * (0.94 + 0.12 * larger),
        depth=path.depth + 0.06 * away,
    )
