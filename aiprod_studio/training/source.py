"""Where a network's rows come from in a phase: pools of scenes, or a folder of real clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from aiprod_studio.training.clips import ClipFolder, Piece
from aiprod_studio.training.curriculum import Curriculum, Exercise, Phase
from aiprod_studio.training.data import Mix, Pool, Rows, SceneRefills, seeded
from aiprod_studio.training.scenes import EVERYTHING, Lesson
from aiprod_studio.training.stage import SceneSize

HELD_OUT_ROWS = 24
_HELD_OUT_REFILL = 4


@dataclass(frozen=True)
class Ground:
    """What a network's task in a phase stands on; `clips` are shown in place of scenes."""

    curriculum: Curriculum
    phase: Phase
    network: str
    samples: Path
    clips: ClipFolder | None = None
    workers: int = 0

    @property
    def exercise(self) -> Exercise:
        """How this network learns in this phase."""
        return self.phase.exercises[self.network]

    @property
    def size(self) -> SceneSize:
        """The size of this network's scenes."""
        frames = self.exercise.frames or self.phase.size.frames
        return dataclasses.replace(self.phase.size, frames=frames)

    @property
    def lessons(self) -> tuple[tuple[Lesson, float], ...]:
        """What the scenes show, each lesson with its share."""
        whole = self.exercise.whole_world
        taught = self.curriculum.lessons(self.phase.number)
        return (*((lesson, share * (1 - whole)) for lesson, share in taught), (EVERYTHING, whole))

    @property
    def real(self) -> ClipFolder:
        """The real clips; only for what is called where there are some."""
        assert self.clips is not None
        return self.clips

    def dice(self, *names: object) -> torch.Generator:
        """Return dice of this network in this phase that belong to these names."""
        return seeded(self.curriculum.seed, self.network, self.phase.number, *names)

    def refills(self, size: SceneSize, fresh: int, kind: str) -> SceneRefills:
        """Return refills of `fresh` scenes whose dice belong to `kind`."""
        stream = (self.curriculum.seed, self.network, self.phase.number, kind)
        return SceneRefills(self.lessons, size, fresh, stream)


class Source:
    """Rows by the step, and rows that no step draws; some steps show pictures, most show clips.

    `keep` makes rows of scenes (`SceneRefills`), `load` one row, without the axis, of a piece.
    """

    def __init__(
        self,
        ground: Ground,
        keep: Callable[[Rows], Rows],
        load: Callable[[Piece], Rows] | None = None,
        size: SceneSize | None = None,
    ) -> None:
        self.ground, self.keep, self.load = ground, keep, load
        self.mix = Mix(ground.exercise.pictures)
        self.sizes = {False: size or ground.size}
        self.sizes[True] = dataclasses.replace(self.sizes[False], frames=1)
        self.pools = {picture: self._pool(picture) for picture in (False, True)}

    def draw(self, step: int) -> tuple[Rows, torch.Generator]:
        """Return the rows of a step, and the dice for what else it draws."""
        dice = self.ground.dice("step", step)
        picture = self.mix.is_picture(step)
        batch = self._batch(picture)
        if self.ground.clips is not None and self.load is not None:
            rows = self.ground.clips.draw(batch, dice, self.load)
            return (_first_frames(rows) if picture else rows), dice
        return self.pools[picture].draw(self.mix.number(step), batch, dice), dice

    def held_out(self) -> Iterator[tuple[Rows, torch.Generator]]:
        """Yield rows that no step draws: of pictures, of clips, or of both as the steps are."""
        for picture in (True, False):
            if self.mix.share == (0.0 if picture else 1.0):
                continue
            dice = self.ground.dice("held out", picture)
            if self.ground.clips is not None and self.load is not None:
                if self.ground.clips.has_held_out:
                    rows = self.ground.clips.draw(self._batch(picture), dice, self.load, True)
                    yield (_first_frames(rows) if picture else rows), dice
                continue
            refills = self.ground.refills(
                self.sizes[picture], _HELD_OUT_REFILL, f"held out {picture}"
            )
            kept = [self.keep(refills[n]) for n in range(HELD_OUT_ROWS // _HELD_OUT_REFILL)]
            yield {name: torch.cat([rows[name] for rows in kept]) for name in kept[0]}, dice

    def _batch(self, picture: bool) -> int:
        return self.ground.exercise.picture_batch if picture else self.ground.exercise.batch

    def _pool(self, picture: bool) -> Pool:
        exercise = self.ground.exercise
        fresh = max(1, round(self._batch(picture) / exercise.reuse))
        refills = self.ground.refills(self.sizes[picture], fresh, "picture" if picture else "clip")
        return Pool(refills, self.keep, -(-exercise.room // fresh), self.ground.workers)


def _first_frames(rows: Rows) -> Rows:
    """Return rows of clips as rows of pictures; the first latent is the first frame's own."""
    cut = ("video", "pixels")
    return {name: v[:, :, :1] if name in cut else v for name, v in rows.items() if name != "audio"}
