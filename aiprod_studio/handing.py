"""Handing over: jobs of the command line, rendered by the worker of a studio that is open.

Two processes that both load a model would fight over the device, so where a worker owns it the
jobs go through its queue, and this follows them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from aiprod_studio.errors import BadRequest, Cancelled, StudioError
from aiprod_studio.jobs.device import own_device
from aiprod_studio.jobs.job import ENDED, Job
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.settings import settings
from aiprod_studio.types import Plan, Progress, Record, Request

POLL_SECONDS = 0.25
# A worker that died is started again by its studio within that time.
PATIENCE_SECONDS = 90.0

Outcome = tuple[int, Record | StudioError]


def is_owned() -> bool:
    """Say whether a worker owns the device; raises `StudioError` as `own_device` does."""
    with own_device(settings().home / "worker.lock", threading.Event(), wait=False) as mine:
        return not mine


def hand_over(
    queue: Queue,
    jobs: Sequence[tuple[Request, Path, Plan]],
    on_progress: Callable[[int, Progress], None],
) -> Iterator[Outcome]:
    """Queue jobs and yield the number of each with its record or error, as they end.

    Whoever stops listening, by Ctrl-C too, cancels what has not ended. Raises `StudioError` when
    no worker has been there for a while, or the queue is out of reach.
    """
    handed: dict[int, Job] = {}
    try:
        for number, (request, path, plan) in enumerate(jobs):
            try:
                handed[number] = queue.add(request, path, plan)
            except BadRequest as error:
                yield number, error
        alive = time.monotonic()
        while handed:
            time.sleep(POLL_SECONDS)
            if is_owned():
                alive = time.monotonic()
            elif time.monotonic() - alive > PATIENCE_SECONDS:
                raise StudioError(
                    "The studio that should render these clips has ended. Run the command again "
                    "to render them here."
                )
            now = {job.id: job for job in queue.jobs()}
            for number, job in [(number, now.get(job.id)) for number, job in handed.items()]:
                if job is None or job.state in ENDED:
                    del handed[number]
                    yield number, _conclude(job)
                elif job.state == "running" and job.phase:
                    on_progress(number, Progress(job.phase, job.done, job.total))
    finally:
        for job in handed.values():
            with suppress(BadRequest):  # it has ended by itself meanwhile
                queue.cancel(job.id)


def _conclude(job: Job | None) -> Record | StudioError:
    """Return what became of a job that has ended, or that the studio knows no more."""
    if job is None:
        return Cancelled("This clip was put away in the studio. Run the command again for it.")
    if job.state == "cancelled":
        return Cancelled("This clip was cancelled in the studio. Run the command again for it.")
    if job.state == "failed" or job.plan is None or job.render_seconds is None:
        return StudioError(job.error or "This clip failed. Try it again.")
    plan = Plan(**{**job.plan, "because": tuple(job.plan["because"])})
    return Record(job.path, job.request, plan, job.render_seconds)
