"""What a batch says while it runs and when it ends: progress, outcomes, the report."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from aiprod_studio.batch import Job
from aiprod_studio.types import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

PLAIN_PAUSE = 10.0


@dataclass(frozen=True)
class Outcome:
    """What became of a job: planned, done, failed, skipped or stopped; seconds it took, error."""

    job: Job
    status: str
    seconds: float | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as a plain dictionary."""
        return {
            "status": self.status,
            "line": self.job.source or None,
            "path": str(self.job.path),
            "request": self.job.request.to_json(),
            "plan": self.job.plan.to_json(),
            "seconds": self.seconds,
            "error": self.error,
        }

    def to_line(self) -> str:
        """Return the outcome as a line of the report."""
        took = f" in {clock(self.seconds)}" if self.seconds is not None else ""
        place = f"{self.job.source}: " if self.job.source else ""
        return f"{self.status + took:<18} {place}{self.error or self.job.path}"


def describe(job: Job) -> str:
    """Return what would be rendered, for people, in a few lines."""
    request, plan = job.request, job.plan
    stages = f" in {plan.stages} stages" if plan.stages > 1 else ""
    peak = max(plan.peak_bytes.values(), default=0) / 2**30
    lines = [
        f"{job.source + ': ' if job.source else ''}{shorten(request.prompt, 100)}",
        f"  file      {job.path}{' (exists already, is skipped)' if job.covered else ''}",
        f"  clip      {request.width}×{request.height}, {plan.frames} frames at {request.fps:g} "
        f"a second, {'with' if request.audio else 'without'} sound",
        f"  render    {request.engine}, {request.steps} steps{stages}, "
        f"guidance {request.guidance:g}, "
        f"seed {'random' if request.seed is None else request.seed}",
        f"  machine   {plan.device}, {plan.precision}, about {clock(plan.seconds)}, "
        f"up to {peak:.1f} GiB of memory",
    ]
    labels = {"reference": "reference", "last_image": "last", "image": "image", "extend": "extend"}
    for name, label in labels.items():
        if getattr(request, name):
            lines.insert(2, f"  {label:<9} {getattr(request, name)}")
    return "\n".join([*lines, *(f"  because   {reason}" for reason in plan.because)])


def summarise(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Return the report of a batch that took `seconds`: a line per clip, then the counts."""
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    total = ", ".join(f"{count} {status}" for status, count in counts.items())
    noun = "clip" if len(outcomes) == 1 else "clips"
    return "\n".join(
        [
            *(one.to_line() for one in outcomes),
            f"{len(outcomes)} {noun}: {total}, in {clock(seconds)}.",
        ]
    )


def clock(seconds: float) -> str:
    """Return a length of time as a person says it: 4.2 s, 3 min 5 s, 2 h 10 min, 16 d 21 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def shorten(text: str, length: int) -> str:
    """Return `text` on one line of at most `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


@dataclass
class Pace:
    """How much of a batch is done and how long the rest takes, from `predicted` seconds a clip.

    `refining` is the second stage's share of the denoiser's time, for clips that have one.
    """

    predicted: Sequence[float]
    refining: dict[int, float] = field(default_factory=dict)
    shares: dict[int, float] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)

    def advance(self, index: int, progress: Progress) -> None:
        """Note a step of a clip; denoising counts for nine tenths of it."""
        part = progress.done / max(1, progress.total)
        before, second = self.shares.get(index, 0.0), self.refining.get(index, 0.0)
        if progress.stage == "denoise":
            now = 0.9 * part * (1 - second)
        elif progress.stage == "refine":
            now = 0.9 * (1 - second + part * second)
        else:
            now = 0.9 + 0.1 * part if before >= 0.9 else 0.0
        self.shares[index] = max(before, min(now, 0.99))

    def finish(self, index: int, failed: bool) -> None:
        """Note that a clip is done; a failed one leaves the count, its time says nothing."""
        self.shares[index] = 1.0
        if failed:
            self.dropped.add(index)

    def left(self, elapsed: float) -> float:
        """Return the seconds still to come after `elapsed`: prediction first, then measurement."""
        kept = [
            0.0 if index in self.dropped else max(seconds, 0.01)
            for index, seconds in enumerate(self.predicted)
        ]
        total = sum(kept)
        done = sum(seconds * self.shares.get(i, 0.0) for i, seconds in enumerate(kept))
        if not 0 < done < total:
            return total - done
        measured = elapsed * (total - done) / done
        trust = min(1.0, 4 * done / total)
        return trust * measured + (1 - trust) * (total - done)


def _pace(jobs: Sequence[Job]) -> Pace:
    """Return the pace of jobs before any of them has begun."""
    refining = {}
    for index, job in enumerate(jobs):
        first, second = (job.plan.stage_seconds.get(name, 0.0) for name in ("denoise", "refine"))
        if second:
            refining[index] = second / (first + second)
    return Pace([job.plan.seconds for job in jobs], refining)


class Board(Protocol):
    """Shows how far a batch is, on stderr, while it is held by `with`."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def update(self, index: int, progress: Progress) -> None:
        """Show a step of the clip `index`."""

    def finish(self, index: int, outcome: Outcome) -> None:
        """Show that the clip `index` is done or has failed."""

    def emit(self, text: str) -> None:
        """Write a line to stdout without harming what stands on the screen."""


class PlainBoard:
    """Sparse lines for logs and pipes: each clip's start and end, and a step every ten seconds."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.pace = _pace(jobs)
        self.started = self.spoken = time.monotonic()

    def __enter__(self) -> Self:
        total = clock(self.pace.left(0))
        noun = "clip" if len(self.jobs) == 1 else "clips"
        if self.jobs:
            self._say(f"Rendering {len(self.jobs)} {noun}, about {total}.")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to clear: lines stay."""

    def update(self, index: int, progress: Progress) -> None:
        """Say the clip's step if nothing was said for ten seconds or the clip is new."""
        new = index not in self.pace.shares
        self.pace.advance(index, progress)
        if new or time.monotonic() - self.spoken >= PLAIN_PAUSE:
            left = clock(self.pace.left(time.monotonic() - self.started))
            place = f"[{index + 1}/{len(self.jobs)}]"
            step = f"{progress.stage} {progress.done}/{progress.total}"
            prompt = f"{shorten(self.jobs[index].request.prompt, 60)}: " if new else ""
            self._say(f"{place} {prompt}{step}, about {left} left in all")

    def finish(self, index: int, outcome: Outcome) -> None:
        """Say the clip's end; why a lone clip failed is for the caller to say."""
        self.pace.finish(index, outcome.status != "done")
        if outcome.status == "done" or len(self.jobs) > 1:
            self._say(f"[{index + 1}/{len(self.jobs)}] {outcome.to_line()}")

    def emit(self, text: str) -> None:
        """Write a line to stdout."""
        write_line(text)

    def _say(self, text: str) -> None:
        self.spoken = time.monotonic()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class BarBoard:
    """Three bars on a terminal: the step, the clip, and the whole batch with the time left."""

    def __init__(self, jobs: Sequence[Job], bars: Bars) -> None:
        self.jobs = jobs
        self.bars = bars
        self.pace = _pace(jobs)
        self.started = time.monotonic()
        self.step = bars.add_task("starting", total=None, note="")
        self.clip = bars.add_task(f"clip 1 of {len(jobs)}", total=1.0, note="")
        self.all = bars.add_task("all", total=float(len(jobs)), note=self._left())

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was, whatever ended the batch."""
        self.bars.stop()

    def update(self, index: int, progress: Progress) -> None:
        """Move the bars to a step of the clip `index`."""
        self.pace.advance(index, progress)
        job = self.jobs[index]
        self.bars.update(
            self.step,
            description=progress.stage,
            completed=progress.done,
            total=progress.total,
            note=f"{progress.done}/{progress.total}",
        )
        self.bars.update(
            self.clip,
            description=f"clip {index + 1} of {len(self.jobs)}",
            completed=self.pace.shares[index],
            note=shorten(job.request.prompt, 30),
        )
        self._show_all()

    def finish(self, index: int, outcome: Outcome) -> None:
        """Fill the clip's bar and leave a line above the bars."""
        self.pace.finish(index, outcome.status != "done")
        self.bars.update(self.clip, completed=1.0)
        self._show_all()
        if outcome.status != "done" and len(self.jobs) > 1:
            self._print(outcome.to_line())

    def emit(self, text: str) -> None:
        """Write a line to stdout, above the bars where both are one terminal."""
        if sys.stdout.isatty():
            self._print(text)
        else:
            write_line(text)

    def _print(self, text: str) -> None:
        self.bars.console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)

    def _show_all(self) -> None:
        self.bars.update(self.all, completed=sum(self.pace.shares.values()), note=self._left())

    def _left(self) -> str:
        return f"about {clock(self.pace.left(time.monotonic() - self.started))} left"


def open_board(jobs: Sequence[Job]) -> Board:
    """Return bars for a terminal, sparse lines for anything else."""
    if not (jobs and sys.stderr.isatty()):
        return PlainBoard(jobs)
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description:<12}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    )
    return BarBoard(jobs, bars)


def write_line(text: str) -> None:
    """Write a line to stdout at once, so that a pipe sees it when it is true."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def to_line(outcome: Outcome) -> str:
    """Return an outcome as one line of JSON."""
    return json.dumps(outcome.to_json(), ensure_ascii=False)
