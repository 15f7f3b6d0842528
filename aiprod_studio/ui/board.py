"""The board: the jobs as the page shows them, and what its buttons do to them."""

from __future__ import annotations

import dataclasses
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiprod_studio.batch import name_file
from aiprod_studio.engines.catalog import find_card
from aiprod_studio.engines.lora_sizes import with_loras
from aiprod_studio.errors import BadRequest, StudioError
from aiprod_studio.graph.extend import continued
from aiprod_studio.hardware.calibration import calibrated
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.jobs.job import ENDED, WAITING, Job
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.types import Plan, Request
from aiprod_studio.ui.drafts import final_of, group_of
from aiprod_studio.ui.visitors import FOLDER

if TYPE_CHECKING:
    from aiprod_studio.ui.bench import Bench

ENDED_SHOWN = 6
GROUPS_SHOWN = 2
ENDED_KEPT = 200


@dataclass(frozen=True)
class Shot:
    """A job as the board shows it: with its live preview, and the thumbnail of its file.

    `guest` says, on the owner's board, what of a visitor's it is: a "clip" or a "draft".
    """

    job: Job
    preview: bytes | None = None
    poster: Path | None = None
    guest: str = ""


@dataclass(frozen=True)
class Board:
    """All that the board shows: what runs, what waits, groups of drafts, and what has ended.

    What runs (one's own first) and what waits is of all owners that may be seen, as they share the
    device; the rest is one's own. `worker` says whether the process that renders is there.
    """

    running: list[Shot]
    waiting: list[Shot]
    groups: dict[str, list[Shot]]
    ended: list[Shot]
    worker: bool


def look(bench: Bench) -> Board:
    """Return what the board shows now."""
    outputs = bench.gallery.outputs
    jobs = bench.queue.jobs()
    named = [(job, group_of(job, outputs)) for job in jobs if bench.queue.owns(job)]
    names = sorted({name for _, name in named if name}, reverse=True)[:GROUPS_SHOWN]
    ended = [job for job, name in named if job.state in ENDED and name is None and not _gone(job)]
    ended.sort(key=lambda job: job.finished or 0.0, reverse=True)
    running = [_shot(bench, job) for job in jobs if job.state == "running"]
    return Board(
        running=sorted(running, key=lambda shot: bool(shot.guest)),
        waiting=[_shot(bench, job) for job in jobs if job.state in WAITING],
        groups={
            name: [_shot(bench, job) for job, group in named if group == name] for name in names
        },
        ended=[_shot(bench, job) for job in ended[:ENDED_SHOWN]],
        worker=bench.renderer.runs,
    )


def queue_clip(bench: Bench, request: Request) -> Job:
    """Queue a clip under a name of its own; raises `BadRequest` when no engine can render it."""
    if request.seed is None:
        request = dataclasses.replace(request, seed=secrets.randbelow(2**31))
    path = bench.gallery.outputs / name_file(request, set())
    return bench.queue.add(request, path, predict(bench, request))


def predict(bench: Bench, request: Request) -> Plan | None:
    """Return the plan of a request, None while the machine is not known or nothing fits.

    What does not fit now may fit once its turn comes: then the worker says so. Raises
    `BadRequest` for what the engine can never render.
    """
    card, hardware = find_card(request.engine), bench.machine.hardware
    if hardware is None:
        return None
    try:
        card = with_loras(card, request.loras)
        return choose_plan(*calibrated(hardware, card), continued(request))
    except BadRequest:
        raise
    except StudioError:
        return None


def act(bench: Bench, do: str, about: str) -> None:
    """Carry out what a button of the board asks for; raises `BadRequest` when it cannot be done."""
    queue = bench.queue
    steps = {
        "cancel": queue.cancel,
        "pause": queue.pause,
        "resume": queue.resume,
        "retry": queue.retry,
        "forget": queue.remove,
    }
    if do in steps:
        steps[do](about)
    elif do == "first":
        waiting = queue.jobs(*WAITING)
        queue.move(about, before=waiting[0].id if waiting else None)
    elif do == "again":
        queue_clip(bench, dataclasses.replace(queue.find(about).request, seed=None))
    elif do == "final":
        job = queue.find(about)
        queue_clip(bench, final_of(job.path, job.request.seed))
    elif do == "clear":
        _clear(bench, about)
    else:
        raise BadRequest("This button is from another version of the page. Reload the page.")


def prune(queue: Queue) -> None:
    """Forget all but the latest ended jobs; their clips stay, and the library has them."""
    ended = sorted(queue.jobs(*ENDED), key=lambda job: job.finished or 0.0)
    for job in ended[:-ENDED_KEPT]:
        queue.remove(job.id)


def _clear(bench: Bench, group: str) -> None:
    """Take a group of drafts off the board; one that runs is cancelled and goes later."""
    for job in bench.queue.jobs():
        if group_of(job, bench.gallery.outputs) != group:
            continue
        if job.state == "running":
            bench.queue.cancel(job.id)
        else:
            bench.queue.remove(job.id)


def _gone(job: Job) -> bool:
    """Say whether a finished clip was deleted or moved since."""
    return job.state == "done" and not job.path.exists()


def _shot(bench: Bench, job: Job) -> Shot:
    guest = "" if bench.queue.owns(job) else _kind(job, bench.gallery.outputs)
    if job.state == "running" and job.preview_time is not None:
        return Shot(job, preview=bench.queue.preview(job.id), guest=guest)
    if job.state == "done":
        return Shot(job, poster=bench.gallery.thumbnail(job.path))
    return Shot(job, guest=guest)


def _kind(job: Job, outputs: Path) -> str:
    """Say whether what a visitor queued is a "clip" or a "draft"."""
    return "draft" if group_of(job, outputs / FOLDER / job.owner) else "clip"
