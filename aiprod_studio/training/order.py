"""An order: what to train and how, as the options of `aiprod-studio train` say it."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiprod_studio.errors import BadRequest
from aiprod_studio.options import Parser
from aiprod_studio.settings import settings
from aiprod_studio.training.clips import ClipFolder, Shelf, find_videos
from aiprod_studio.training.curriculum import NETWORKS, Curriculum, Phase, find_curriculum
from aiprod_studio.training.loop import Course
from aiprod_studio.training.spread import Spread
from aiprod_studio.training.stage import SceneSize

DEMO_HOURS = 1 / 30
_ABOUT = "Train the networks of a family, phase by phase, on scenes or on videos of your own."


@dataclass(frozen=True)
class Order:
    """What to train: the phases `first` to `last`, within `hours` or each for its own steps.

    `only` is the one network to train; the others stay as their checkpoints are.
    `data` is a folder of captioned videos, or none for scenes; `workers` the processes that make
    scenes beside each that trains. Training stops when `asked` fills (see `loop.listening`).
    """

    curriculum: Curriculum
    folder: Path
    spread: Spread
    first: int = 1
    last: int = 5
    hours: float | None = None
    data: Path | None = None
    workers: int = 0
    only: str | None = None
    asked: Sequence[int] = ()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases to train."""
        return self.curriculum.phases[self.first - 1 : self.last]

    def trains(self, name: str, phase: Phase) -> bool:
        """Tell whether a network is trained in a phase."""
        return name in phase.exercises and self.only in (None, name)

    def course(self, name: str, phase: Phase) -> Course:
        """Return the course of a network in a phase; hours go to what is trained, by its share."""
        exercise = phase.exercises[name]
        seconds = None
        if self.hours is not None:
            shares = sum(
                each.share
                for one in self.phases
                for other, each in one.exercises.items()
                if self.trains(other, one)
            )
            seconds = self.hours * 3600 * exercise.share / shares
        return Course(
            name, exercise.rate, exercise.steps, seconds, phase.number, exercise.micro, exercise.ema
        )

    def open_clips(self, size: SceneSize) -> ClipFolder | None:
        """Return the real clips at one size, or none where scenes are shown."""
        if self.data is None:
            return None
        return ClipFolder(self.data, Shelf(self.folder / "cache"), size)

    def check(self) -> None:
        """Raise `BadRequest` for batches that cannot be divided, and for a folder of no videos."""
        for exercise in (e for phase in self.phases for e in phase.exercises.values()):
            self.spread.check_batch(exercise.batch)
            self.spread.check_batch(exercise.picture_batch)
        if self.data is not None:
            find_videos(self.data)


def open_parser() -> Parser:
    """Return the parser of `aiprod-studio train`."""
    parser = Parser("aiprod-studio train", description=_ABOUT, allow_abbrev=False)
    add = parser.add_argument
    add("model", nargs="?", choices=["starter", "base"], help="the family's size to train")
    add("--demo", action="store_true", help="two minutes with tiny networks, to see it work")
    add("--config", metavar="FILE", help="a curriculum of your own, as those in presets/training")
    add("--phase", type=int, metavar="N", help="train one phase only")
    add("--start-phase", type=int, metavar="A", help="the first phase (default: 1)")
    add("--end-phase", type=int, metavar="B", help="the last phase (default: 5)")
    add("--only", choices=NETWORKS, metavar="NETWORK", help=f"one of: {', '.join(NETWORKS)}")
    add("--resume", action="store_true", help="go on from the checkpoints in the folder")
    add("--hours", type=float, metavar="H", help="train by the clock (default: by steps)")
    add("--device", help="cpu, cuda, cuda:1, mps, … (default: the best one)")
    add("--data", default="scenes", metavar="DIR", help="a folder of captioned videos, or scenes")
    add("--folder", type=Path, metavar="DIR", help="where checkpoints and the page are kept")
    add("--workers", type=int, metavar="N", help="processes that make scenes beside the trainer")
    return parser


def read_order(options: argparse.Namespace, spread: Spread) -> Order:
    """Return what the options ask for; raises `BadRequest` for what cannot be."""
    name = options.config or ("demo" if options.demo else options.model)
    if name is None:
        raise BadRequest("Say what to train: starter or base, or --demo for a look.")
    curriculum = find_curriculum(name)
    first, last = _read_phases(options, len(curriculum.phases))
    hours = options.hours if options.hours is not None or not options.demo else DEMO_HOURS
    if hours is not None and not 0 < hours < 100_000:
        raise BadRequest(f"{hours} hours is no length of training. Give a number above 0.")
    folder = (options.folder or settings().training / Path(name).stem).expanduser().absolute()
    if options.demo and options.folder is None and spread.leads:
        shutil.rmtree(folder, ignore_errors=True)
    elif not options.resume and any(folder.glob("*.pt")):
        raise BadRequest(
            f"There are checkpoints in {folder}. Add --resume to go on from them, or choose "
            "another --folder."
        )
    workers = options.workers
    if workers is None:
        workers = 0 if spread.device.type == "cpu" else 4
    data = None if options.data == "scenes" else Path(options.data).expanduser()
    order = Order(
        curriculum, folder, spread, first, last, hours, data, max(0, workers), options.only
    )
    order.check()
    return order


def _read_phases(options: argparse.Namespace, count: int) -> tuple[int, int]:
    """Return the first and the last phase; raises `BadRequest` for phases that do not exist."""
    if options.phase is not None and (options.start_phase or options.end_phase):
        raise BadRequest("--phase is one phase. Leave it out, or --start-phase and --end-phase.")
    first = options.phase if options.phase is not None else options.start_phase
    last = options.phase if options.phase is not None else options.end_phase
    first, last = 1 if first is None else first, count if last is None else last
    if not 1 <= first <= last <= count:
        raise BadRequest(f"Phases go from 1 to {count}. Give such numbers, the first one first.")
    return first, last
