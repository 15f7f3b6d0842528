"""Batches: rows drawn so that a step's batch depends on the seed and the step's number alone.

Nothing here keeps a state that a checkpoint would have to hold: scenes come in refills, each a
function of its number, and a pool holds the last few; a run that goes on makes them again.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aiprod_studio.training.scenes import Lesson, make_scenes
from aiprod_studio.training.stage import SceneSize

Rows = dict[str, Tensor]
"""A batch: named tensors that all begin with the axis of its rows."""

LABEL = "label/"


def seeded(*names: object) -> torch.Generator:
    """Return dice on the CPU that belong to these names alone."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def count(rows: Rows) -> int:
    """Return how many rows a batch has."""
    return len(next(iter(rows.values())))


def take(rows: Rows, begin: int, end: int) -> Rows:
    """Return the rows from `begin` up to `end`."""
    return {name: values[begin:end] for name, values in rows.items()}


def labels_of(rows: Rows) -> dict[str, Tensor]:
    """Return what scenes show, as class numbers `[B]` by kind."""
    return {name.removeprefix(LABEL): v for name, v in rows.items() if name.startswith(LABEL)}


@dataclass(frozen=True)
class SceneRefills(Dataset[Rows]):
    """Scenes in refills of `fresh`, all of one of the lessons; `stream` names their dice."""

    lessons: tuple[tuple[Lesson, float], ...]
    size: SceneSize
    fresh: int
    stream: tuple[object, ...]

    def __getitem__(self, number: int) -> Rows:
        """Return refill `number`: video, audio, subject, surface, tracks (`Scenes`) and labels."""
        dice = seeded(*self.stream, number)
        lesson = draw_lesson(self.lessons, dice)
        with torch.no_grad():
            scenes = make_scenes(self.fresh, self.size, dice, lesson)
        labels = {f"{LABEL}{kind}": values for kind, values in scenes.labels.items()}
        return {
            "video": scenes.video,
            "audio": scenes.audio,
            "subject": scenes.subject,
            "surface": scenes.surface,
            "tracks": scenes.tracks,
            **labels,
        }


def draw_lesson(lessons: tuple[tuple[Lesson, float], ...], dice: torch.Generator) -> Lesson:
    """Return one of the lessons, as often as its share says."""
    shares = torch.tensor([share for _, share in lessons])
    return lessons[int(torch.multinomial(shares, 1, generator=dice))][0]


class Pool:
    """The last `depth` refills, made by `workers` processes beside this one (0: by this one).

    `keep` turns a refill into the rows that are kept of it.
    """

    def __init__(
        self, refills: SceneRefills, keep: Callable[[Rows], Rows], depth: int, workers: int = 0
    ) -> None:
        self.refills, self.keep, self.depth, self.workers = refills, keep, depth, workers
        self.held: deque[Rows] = deque(maxlen=depth)
        self.coming: Iterator[Rows] = iter(())
        self.next = -1

    def draw(self, number: int, batch: int, dice: torch.Generator) -> Rows:
        """Return `batch` rows from refill `number` and those before it."""
        if self.next != number:
            self._begin(max(0, number + 1 - self.depth))
        while self.next <= number:
            self.held.append(self.keep(next(self.coming)))
            self.next += 1
        fresh = self.refills.fresh
        picks = torch.randint(len(self.held) * fresh, (batch,), generator=dice).tolist()
        places = [(self.held[pick // fresh], pick % fresh) for pick in picks]
        return {
            name: torch.stack([rows[name][row] for rows, row in places]) for name in self.held[0]
        }

    def _begin(self, number: int) -> None:
        """Hold nothing, and let refills come from `number` on."""
        self.held.clear()
        self.next = number
        if not self.workers:
            self.coming = map(self.refills.__getitem__, itertools.count(number))
            return
        loader = DataLoader(
            self.refills,
            batch_size=None,
            sampler=range(number, sys.maxsize),
            num_workers=self.workers,
            multiprocessing_context="spawn",  # a fork of a process that holds a GPU cannot live
        )
        self.coming = iter(loader)


def cut_windows(rows: Rows, side: int, dice: torch.Generator) -> Rows:
    """Return video and subject cut to windows of `side` pixels, or all there is where that is less.

    They lie near the subjects' middles, or anywhere where subjects are not known.
    """
    cuts = []
    for row in range(count(rows)):
        subject = rows["subject"][row] if "subject" in rows else None
        shape = rows["video"].shape[-2:]
        cuts.append([_window(subject, axis, shape[axis - 1], side, dice) for axis in (1, 2)])
    return {
        name: torch.stack([row[..., y, x] for row, (y, x) in zip(rows[name], cuts, strict=True)])
        for name in ("video", "subject")
        if name in rows
    }


def cut_latents(rows: Rows, side: int, dice: torch.Generator) -> Rows:
    """Return latents and surface cut to `side` cells about the subjects, and which `window` it is.

    That is `[B, 4]`: the corner (y, x) in the frame, and the frame's height and width.
    """
    height, width = rows["video"].shape[-2:]
    cut, windows = [], []
    for video, surface in zip(rows["video"], rows["surface"], strict=True):
        y = _window(surface[2], 1, height, side, dice)
        x = _window(surface[2], 2, width, side, dice)
        cut.append((video[..., y, x], surface[..., y, x]))
        windows.append([y.start, x.start, height, width])
    video, surface = (torch.stack(each) for each in zip(*cut, strict=True))
    return {**rows, "video": video, "surface": surface, "window": torch.tensor(windows)}


def _window(
    subject: Tensor | None, axis: int, length: int, side: int, dice: torch.Generator
) -> slice:
    """Return a part of one axis of a coverage `[T, H, W]`, about the subject's middle."""
    side = min(side, length)
    chance = torch.rand(1, generator=dice).item()
    start = chance * (length - side)
    if subject is not None:
        along = subject.sum(dim=(0, 3 - axis))
        middle = (along * (torch.arange(length) + 0.5)).sum() / along.sum().clamp(min=1e-3)
        start = middle.item() + (chance - 0.5) * side / 2 - side / 2
    start = round(min(max(start, 0), length - side))
    return slice(start, start + side)


@dataclass(frozen=True)
class Mix:
    """Which steps show pictures: a `share` of them, spread evenly.

    Both kinds are counted from the step's number, so that each pool gets refills 0, 1, 2, ….
    """

    share: float

    def is_picture(self, step: int) -> bool:
        """Return whether a step shows pictures."""
        return self._before(step + 1) > self._before(step)

    def number(self, step: int) -> int:
        """Return how many steps of the same kind came before this one."""
        before = self._before(step)
        return before if self.is_picture(step) else step - before

    def _before(self, step: int) -> int:
        return int(step * self.share + 1e-9)
