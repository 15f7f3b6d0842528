"""The worker: takes jobs, renders them, keeps their leases, and survives whatever they do."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aiprod_studio.errors import Cancelled, StudioError
from aiprod_studio.jobs.database import QueueUnavailable
from aiprod_studio.jobs.forecast import Stopwatch, expect
from aiprod_studio.jobs.job import ENDED, Job
from aiprod_studio.jobs.queue import LeaseLost, Queue
from aiprod_studio.sentences import Said
from aiprod_studio.types import Progress, Record, Request

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
BEATS_A_LEASE = 4
Result = TypeVar("Result")


@dataclass(frozen=True)
class Order:
    """One job as a renderer gets it.

    The file goes to `path`, whole or not at all; `folder` keeps what a killed render left and
    what the next one needs. `tell` must be called at every step: it raises `Cancelled` when the
    work shall stop. `show` takes an encoded picture of at most 256 pixels a side.
    """

    request: Request
    path: Path
    folder: Path
    tell: Callable[[Progress], None]
    show: Callable[[bytes], None]


Render = Callable[[Order], Record]


def work(
    queue: Queue,
    render: Render,
    folder: Path,
    *,
    stop: threading.Event | None = None,
    drain: bool = False,
) -> None:
    """Render the jobs of `queue` one after the other until `stop`, or with `drain` to the last.

    `folder` holds a folder per unfinished job. A failed job never ends the loop, and while the
    database is out of reach it waits.
    """
    stop = stop or threading.Event()
    name = f"{_machine()}{os.getpid()}"
    while not stop.is_set():
        try:
            queue.sweep()
            job = queue.take(name)
            if job is None and drain:
                return
        except QueueUnavailable as error:
            log.warning("%s", error)
            stop.wait(queue.lease / BEATS_A_LEASE)
            continue
        if job is None:
            stop.wait(POLL_SECONDS)
        else:
            _Shift(queue, render, folder / job.id, job, stop).run()


def let_go(queue: Queue) -> None:
    """Queue again what this machine's worker was rendering when it was ended on purpose.

    So it is no death that counts. Nothing is done while the database is out of reach.
    """
    with suppress(QueueUnavailable):
        for job in queue.jobs("running"):
            if job.worker and job.worker.startswith(_machine()):
                with suppress(LeaseLost):
                    queue.release(job)


def _machine() -> str:
    """Return how the names of this machine's workers begin."""
    return f"{platform.node()} "


def clear(queue: Queue, folder: Path) -> None:
    """Delete what killed workers left of jobs that have ended, and what forgotten jobs kept."""
    jobs = queue.jobs()
    for job in jobs:
        if job.state in ENDED:
            shutil.rmtree(job.hidden_path.parent, ignore_errors=True)
    kept = {job.id for job in jobs if job.state != "done"}
    for left in folder.iterdir() if folder.is_dir() else ():
        if left.name not in kept:
            shutil.rmtree(left, ignore_errors=True)


class _Shift:
    """One worker's time with one job, from its lease to its end."""

    def __init__(
        self, queue: Queue, render: Render, folder: Path, job: Job, stop: threading.Event
    ) -> None:
        self.queue, self.render, self.folder, self.job = queue, render, folder, job
        self.stop = stop
        self.lost = threading.Event()
        self.watch = Stopwatch({})

    def run(self) -> None:
        """Bring the job as far as it goes, and say in the queue what became of it."""
        hidden = self.job.hidden_path
        try:
            with self._heart():
                state = self._finish().state
        except LeaseLost:
            # The job is another worker's now; only what this one wrote may go.
            with suppress(OSError):
                hidden.unlink()
            log.warning("job %s was taken over", self.job.id)
        except QueueUnavailable as error:
            # Told to stop while the database is away: the lease runs out, and the next worker
            # goes on from what is in the folder.
            log.warning("job %s is left as it is: %s", self.job.id, error)
        else:
            log.info("job %s: %s", self.job.id, state)
            if state in ENDED:
                shutil.rmtree(hidden.parent, ignore_errors=True)
            if state == "done":
                shutil.rmtree(self.folder, ignore_errors=True)

    def _finish(self) -> Job:
        """Render and publish, or end the job in another way, and return it as it then is."""
        try:
            if not self._is_staged():
                record = self.render(self._order())
                timings = self.watch.stop()
                self.job = self._insist(lambda: self.queue.stage(self.job, record, timings))
            return self._insist(lambda: self.queue.publish(self.job))
        except (LeaseLost, QueueUnavailable):
            raise
        except Cancelled:
            return self._insist(lambda: self.queue.release(self.job))
        except StudioError as error:
            sentence = str(error)
        except Exception as error:  # the boundary: no job may end the worker
            log.exception("job %s failed", self.job.id)
            sentence = Said(
                "said.unforeseen",
                "This clip failed unexpectedly ({error}). Retry it; if it fails again, report it "
                "with the log.",
                error=f"{type(error).__name__}: {error}",
            )
        return self._insist(lambda: self.queue.fail(self.job, sentence))

    def _is_staged(self) -> bool:
        """Say whether an earlier worker finished the file and only the end is missing."""
        staged = self.job.staged_path
        return staged is not None and (staged.exists() or self.job.path.exists())

    def _order(self) -> Order:
        """Return the job as the renderer gets it, with the forecast of its phases ready."""
        own = self.job.plan or {}
        predicted, refined = own.get("seconds"), own.get("stage_seconds", {}).get("refine", 0.0)
        with suppress(QueueUnavailable):
            earlier = self.queue.recent(self.job.engine)
            self.watch = Stopwatch(expect(predicted, earlier, refined))
        return Order(self.job.request, self.job.hidden_path, self.folder, self._tell, self._show)

    def _tell(self, progress: Progress) -> None:
        """Write the progress; raise `Cancelled` when the job or the worker shall stop."""
        eta = self.watch.mark(progress)
        wish = self._beat(progress, eta)
        if wish is not None or self.stop.is_set():
            raise Cancelled("The job was stopped. Resume or retry it to go on.")

    def _show(self, picture: bytes) -> None:
        self._beat(preview=picture)

    def _beat(
        self,
        progress: Progress | None = None,
        eta: float | None = None,
        preview: bytes | None = None,
    ) -> str | None:
        """Prolong the lease; a database that is away for a while does not stop a render."""
        if self.lost.is_set():
            raise LeaseLost("Another worker goes on with this job. There is nothing to do.")
        try:
            return self.queue.beat(self.job, progress, eta, preview)
        except QueueUnavailable as error:
            log.warning("%s", error)
            return None

    @contextmanager
    def _heart(self) -> Iterator[None]:
        """Beat in the background, as a single phase may take longer than a lease."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self.queue.lease / BEATS_A_LEASE):
                try:
                    self._beat()
                except LeaseLost:
                    self.lost.set()
                    return

        thread = threading.Thread(target=beat, name="heart", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _insist(self, write: Callable[[], Result]) -> Result:
        """Return what `write` returns, tried again while the database is away."""
        while True:
            try:
                return write()
            except QueueUnavailable as error:
                log.warning("%s", error)
                if self.stop.wait(POLL_SECONDS):
                    raise
