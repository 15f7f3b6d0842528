"""The training loop: one network, one loss, a length in steps or seconds, and a safe way back.

A course in steps goes on, after a stop at any step, to exactly the weights it would have reached
without: batches depend on the step's number alone, and the checkpoint holds all the rest. The
schedule of a course in seconds follows the clock, which nothing can repeat.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from aiprod_studio.errors import Cancelled, DoesNotFit, ModelUnavailable, StudioError
from aiprod_studio.training.checkpoints import read_state, write_state
from aiprod_studio.training.data import Rows, count, take
from aiprod_studio.training.pace import follow, group_weights, schedule
from aiprod_studio.training.page import write_page
from aiprod_studio.training.spread import Spread, without_sync

log = logging.getLogger(__name__)

CLIP = 1.0
BAD_LOSSES = 5
LOOKS = 20
LOOK_SHARE = 0.1
SAVE_SECONDS = 60.0
NOTE_STEPS = 20
NOTE_SECONDS = 20.0


class Diverged(StudioError):
    """Several losses in a row were not finite."""


class Stopped(Cancelled):
    """The process was asked to end, and the checkpoint is written."""


@dataclass(frozen=True)
class Course:
    """One exercise: whose checkpoint, which phase, how long, how fast.

    It lasts `steps`, or `seconds` of training where they are given. A batch is computed `micro`
    rows at a time (0: all of a process's part at once).
    """

    name: str
    rate: float
    steps: int
    seconds: float | None = None
    phase: int = 1
    micro: int = 0
    ema: float = 0.998

    def share(self, step: int, spent: float) -> float:
        """Return the part of the course that is done after `step` steps and `spent` seconds."""
        if self.seconds is None:
            return step / self.steps
        return spent / self.seconds if self.seconds > 0 else 1.0


@dataclass(frozen=True)
class Task:
    """What a network learns from, and how it is looked at.

    `draw` returns the whole batch of a step, on the CPU, the same in every process; `loss` is a
    mean over rows. `held_out` returns batches that are never drawn. `show` writes samples of a
    network under a name's stem and returns what the metrics say of them.
    """

    network: nn.Module
    draw: Callable[[int], Rows]
    loss: Callable[[Any, Rows], Tensor]
    held_out: Callable[[], Sequence[Rows]] = tuple
    show: Callable[[Any, str], list[dict[str, str]]] | None = None


def fit(
    task: Task, course: Course, folder: Path, spread: Spread, asked: Sequence[int] = ()
) -> nn.Module:
    """Train `task.network` in place until the course is over; return its moving average.

    The checkpoint of an earlier phase in `folder` is where it begins, one of this phase is taken
    up again, one of a later phase is left as it is. Metrics go to `<name>.jsonl`, a line every few
    steps; the average with the least held-out loss to `<name>.best.pt`.
    Raises `Stopped` after the step in which `asked` fills (see `listening`), `Diverged` when
    several losses in a row are not finite, and `DoesNotFit` when memory runs out with one row.
    """
    run = _Run(task, course, folder, spread)
    if run.past:
        return run.average
    while run.share < 1 and not run.stopped:
        run.advance(asked)
    run.save()
    spread.wait()  # the next to read the checkpoint may be another process
    if run.stopped:
        raise Stopped(
            f"Stopped after step {run.step} of {course.name}, phase {course.phase}; all is saved. "
            "The same command with --resume goes on."
        )
    return run.average


class _Run:
    """A course under way: all that its checkpoint holds, and what can be made again."""

    def __init__(self, task: Task, course: Course, folder: Path, spread: Spread) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.task, self.course, self.folder, self.spread = task, course, folder, spread
        self.network = task.network.to(spread.device).train()
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        groups = group_weights(self.network, course.rate)
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        self.step, self.spent, self.bad, self.micro = 0, 0.0, 0, course.micro
        self.best = math.inf
        self.past = self.stopped = False
        self._take_up()
        self.graded = spread.wrap(_Graded(self.network, task.loss))
        self.held_out: Sequence[Rows] | None = None
        self.seen: list[float] = []
        self.rows, self.looked = 0, 0.0
        self.mark = self.saved = self.noted = time.monotonic()

    @property
    def share(self) -> float:
        """The part of the course that is done."""
        return self.course.share(self.step, self.spent)

    def advance(self, asked: Sequence[int]) -> None:
        """Take one step, then note, look and save where it is time to."""
        before = self.share
        rate = schedule(before)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        rows = self.task.draw(self.step)
        value = self._learn(self.spread.part(rows))
        now = time.monotonic()
        # All processes must agree on what happens next.
        told = [value, float(len(asked) > 0), now - self.mark]
        value, stop, seconds = self.spread.mean(told)
        self.spent, self.mark = self.spent + seconds, now
        norm = self._move(value)
        self.stopped = stop > 0
        self.step += 1
        if self.spread.leads:
            self.rows += count(rows)
            self.seen.append(value)
            over = self.share >= 1
            crossed = int(self.share * LOOKS) > int(before * LOOKS)
            self._note(norm, rate, over or (crossed and self.looked <= LOOK_SHARE * self.spent))

    def _learn(self, rows: Rows) -> float:
        """Add up the gradients of this process's rows; halve what is computed at once on need."""
        while True:
            try:
                return self._accumulate(rows)
            except (MemoryError, RuntimeError) as error:
                if not ran_out(error):
                    raise
                at_once = min(self.micro or count(rows), count(rows))
                if at_once == 1 or self.spread.ranks > 1:
                    raise DoesNotFit(
                        f"Memory ran out with {at_once} rows at once. Give {self.course.name} a "
                        "smaller micro, or its phase smaller scenes."
                    ) from error
                self.micro = -(-at_once // 2)
            self.optimiser.zero_grad(set_to_none=True)
            if self.spread.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning("%s: memory ran out; %d rows at once", self.course.name, self.micro)

    def _accumulate(self, rows: Rows) -> float:
        """Return the mean loss of the rows, computed `micro` at a time, and its gradients."""
        total, micro = count(rows), self.micro or count(rows)
        self.optimiser.zero_grad(set_to_none=True)
        mean = torch.zeros((), device=self.spread.device)
        for begin in range(0, total, micro):
            part = self._send(take(rows, begin, begin + micro))
            with without_sync(self.graded, begin + micro < total):
                value = self.graded(part) * (count(part) / total)
                value.backward()
            mean += value.detach()
        return mean.item()

    def _send(self, rows: Rows) -> Rows:
        return {name: values.to(self.spread.device) for name, values in rows.items()}

    def _move(self, value: float) -> float:
        """Move the weights if loss and gradient are finite; return the gradient's norm."""
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), CLIP).item()
        if math.isfinite(norm) and math.isfinite(value):
            self.optimiser.step()
            decay = min(self.course.ema, (1 + self.step) / (10 + self.step))
            follow(self.average, self.network, decay)
            self.bad = 0
            return norm
        self.bad += 1
        log.warning("%s: step %d is not finite and is left out", self.course.name, self.step)
        if self.bad >= BAD_LOSSES:
            raise Diverged(
                f"{self.course.name}: {self.bad} losses in a row are not finite, so training "
                "stopped; the last checkpoint is good. Lower the rate of this phase and resume."
            )
        return norm

    def _note(self, norm: float, rate: float, looks: bool) -> None:
        """Write a line of metrics when it is time, with a look at the network when it is."""
        now = time.monotonic()
        if looks or self.step % NOTE_STEPS == 0 or now - self.noted > NOTE_SECONDS:
            finite = [value for value in self.seen if math.isfinite(value)]
            share = min(1.0, self.share)
            note: dict[str, Any] = {
                "phase": self.course.phase,
                "step": self.step,
                "spent": round(self.spent, 1),
                "share": round(share, 4),
                "loss": sum(finite) / len(finite) if finite else None,
                "norm": norm if math.isfinite(norm) else None,
                "rate": self.course.rate * rate,
                "rows_a_second": round(self.rows / max(now - self.noted, 1e-6), 2),
                "memory_bytes": _memory(self.spread.device),
                "seconds_left": round(self.spent * (1 / share - 1), 1),
            }
            if looks:
                note |= self._look()
                self.looked += time.monotonic() - now
            self.seen, self.rows, self.noted = [], 0, time.monotonic()
            with (self.folder / f"{self.course.name}.jsonl").open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(note) + "\n")
            log.info("%s %s", self.course.name, {k: v for k, v in note.items() if k != "samples"})
        if looks or now - self.saved > SAVE_SECONDS:
            write_page(self.folder)
        if now - self.saved > SAVE_SECONDS:
            self.save()

    def _look(self) -> dict[str, Any]:
        """Judge the average on what it never saw, keep it if it is the best, and show it."""
        found: dict[str, Any] = {}
        if self.held_out is None:
            self.held_out = self.task.held_out()
        losses = []
        with torch.no_grad():
            for rows in self.held_out:
                size = self.micro or count(rows)
                for begin in range(0, count(rows), size):
                    part = self._send(take(rows, begin, begin + size))
                    losses.append((self.task.loss(self.average, part).item(), count(part)))
            if self.task.show is not None:
                stem = f"{self.course.name}-{self.course.phase}-{self.step:07d}"
                found["samples"] = self.task.show(self.average, stem)
        if losses:
            judged = sum(v * rows for v, rows in losses) / sum(rows for _, rows in losses)
            found["held_out"] = judged if math.isfinite(judged) else None
            if judged < self.best:
                self.best = judged
                state = {"average": self.average.state_dict(), "held_out": judged}
                best = self.folder / f"{self.course.name}.best.pt"
                write_state(best, state | {"step": self.step, "phase": self.course.phase})
        return found

    def _take_up(self) -> None:
        """Go on from the checkpoint, if there is one; one without a phase is of this one."""
        path = self.folder / f"{self.course.name}.pt"
        if not path.exists():
            return
        state = read_state(path, self.spread.device)
        phase = state.get("phase", self.course.phase)
        try:
            self.average.load_state_dict(state["average"])
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise ModelUnavailable(
                f"{path} holds a network of another size. Use another --folder."
            ) from error
        self.past = phase > self.course.phase
        if phase != self.course.phase:
            return
        peaks = [group["peak"] for group in self.optimiser.param_groups]
        self.optimiser.load_state_dict(state["optimiser"])
        for group, peak in zip(self.optimiser.param_groups, peaks, strict=True):
            group["peak"] = peak
        self.step, self.spent = state["step"], state["spent"]
        self.bad, self.best = state.get("bad", 0), state.get("best", math.inf)
        self.micro = state.get("micro", self.course.micro)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        if not self.spread.leads:
            return
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "phase": self.course.phase,
            "step": self.step,
            "spent": self.spent,
            "bad": self.bad,
            "best": self.best,
            "micro": self.micro,
        }
        write_state(self.folder / f"{self.course.name}.pt", state)
        self.saved = time.monotonic()


class _Graded(nn.Module):
    """A network with its loss as one module, as DDP wants it."""

    def __init__(self, network: nn.Module, loss: Callable[[Any, Rows], Tensor]) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, rows: Rows) -> Tensor:
        """Return the loss of a batch."""
        return self.loss(self.network, rows)


def ran_out(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or in RAM."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "allocate memory" in str(error) or "out of memory" in str(error)


@contextmanager
def listening() -> Iterator[list[int]]:
    """Yield a list that fills with the signals that ask this process to end.

    Without it they would end the process in the middle of a step.
    """
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _memory(device: torch.device) -> int:
    """Return the bytes in use: the most so far on a GPU, now in RAM elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)
