"""The queue: a table of jobs whose every change is one conditional update in a transaction.

    queued ─► running ─► done | failed | cancelled
      ▲ ▼        │
    paused ◄─────┘          a running job whose worker died goes back to queued

A worker takes a job on a lease and must beat before it runs out. Each take raises the job's token,
and every write of a worker names its token: one that was thought dead finds its token stale, gets
`LeaseLost` and changes nothing.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from aiprod_studio.errors import BadRequest, Cancelled
from aiprod_studio.jobs.database import Database
from aiprod_studio.jobs.forecast import Earlier
from aiprod_studio.jobs.job import ENDED, LOCAL, WAITING, Job
from aiprod_studio.jobs.table import JOBS, READ, read_job
from aiprod_studio.media.files import explain
from aiprod_studio.sentences import Said, write_sentence
from aiprod_studio.types import Plan, Progress, Record, Request

LEASE_SECONDS = 20.0
RECENT = 5
CRASH_LIMIT = 3
_CRASHED = Said(
    "said.crashed",
    "The worker died {count} times on this clip, most likely for want of memory. "
    "Ask for a smaller or shorter clip, or retry it.",
    count=CRASH_LIMIT,
)
_C = JOBS.c
_FREED: dict[str, Any] = {"worker": None, "lease_until": None, "wish": None, "eta": None}
_OBEYED = case((_C.wish == "cancel", "cancelled"), (_C.wish == "pause", "paused"), else_="queued")


class LeaseLost(Cancelled):
    """Another worker holds the job now; whoever is told so stops and writes nothing."""


@dataclass(frozen=True)
class Quota:
    """What one owner may queue: `jobs` at most that wait or run, each passed by `check`.

    `check` raises `BadRequest` for a request that the owner may not make.
    """

    jobs: int
    check: Callable[[Request], None]


class Queue:
    """The jobs of one database as all owners, or only `owner`, may see and steer them.

    `place` is an SQLAlchemy URL or the path of an SQLite file, `lease` the seconds that a worker
    may be silent, `quota` what the owner may add (None: anything). Every method raises
    `QueueUnavailable` when the database fails; those that steer a job raise `BadRequest` when there
    is no such job or its state or the quota does not allow it.
    """

    def __init__(
        self,
        place: str | Database,
        owner: str | None = None,
        *,
        lease: float = LEASE_SECONDS,
        quota: Quota | None = None,
    ) -> None:
        self.database = Database(place) if isinstance(place, str) else place
        self.owner = owner
        self.lease = lease
        self.quota = quota

    def seen_by(self, owner: str, quota: Quota | None = None) -> Queue:
        """Return the same queue with nothing but the jobs of one owner in it."""
        return Queue(self.database, owner, lease=self.lease, quota=quota)

    # --- for people ------------------------------------------------------------------------------

    def add(self, request: Request, path: Path, plan: Plan | None = None) -> Job:
        """Queue a clip that shall become the file `path`, and return its job.

        A request without a seed gets one here, so that a job that starts over makes the same clip.
        `plan` is the prediction, for the job's estimates until it is done. Raises `BadRequest` for
        what the quota does not allow.
        """
        if not path.suffix or "%" in path.name:
            raise BadRequest(f"{path.name} is not one file. Give a name such as clip.mp4.")
        if request.seed is None:
            request = dataclasses.replace(request, seed=secrets.randbelow(2**31))
        if self.quota is not None:
            self.quota.check(request)
        values = {
            "id": secrets.token_hex(8),
            "owner": self.owner or LOCAL,
            "state": "queued",
            "position": _last_position(),
            "engine": request.engine,
            "asked": json.dumps(request.to_json()),
            "path": str(path.absolute()),
            "plan": json.dumps(plan.to_json()) if plan else None,
            "created": time.time(),
        }
        with self.database.writing() as connection:
            self._check_room(connection)
            row = connection.execute(insert(JOBS).values(values).returning(*READ)).one()
        return read_job(row)

    def find(self, job_id: str) -> Job:
        """Return one job."""
        with self.database.reading() as connection:
            row = connection.execute(select(*READ).where(*self._mine(job_id))).first()
        if row is None:
            raise BadRequest("There is no such job in the queue. Reload the list.")
        return read_job(row)

    def jobs(self, *states: str) -> list[Job]:
        """Return the jobs in any of `states` (all of them if none is named), in their order."""
        query = select(*READ).where(*self._mine()).order_by(_C.position, _C.created, _C.id)
        if states:
            query = query.where(_C.state.in_(states))
        with self.database.reading() as connection:
            return [read_job(row) for row in connection.execute(query)]

    def owns(self, job: Job) -> bool:
        """Say whether a job is of the queue's own owner, and not of another one who is seen too."""
        return job.owner == (self.owner or LOCAL)

    def preview(self, job_id: str) -> bytes | None:
        """Return the latest small picture of a job, an encoded image, or None."""
        with self.database.reading() as connection:
            found: bytes | None = connection.scalar(select(_C.preview).where(*self._mine(job_id)))
        return found

    def cancel(self, job_id: str) -> Job:
        """End a job: at once if it waits, within one step if it runs."""
        runs = _C.state == "running"
        return self._steer(
            job_id,
            "cancelled",
            _C.state.in_(("running", *WAITING)),
            state=case((runs, "running"), else_="cancelled"),
            wish=case((runs, "cancel"), else_=None),
            finished=case((runs, None), else_=time.time()),
        )

    def pause(self, job_id: str) -> Job:
        """Hold a job back; one that runs stops within one step and goes on from there later."""
        runs = _C.state == "running"
        return self._steer(
            job_id,
            "paused",
            or_(_C.state == "queued", and_(runs, func.coalesce(_C.wish, "") != "cancel")),
            state=case((runs, "running"), else_="paused"),
            wish=case((runs, "pause"), else_=None),
        )

    def resume(self, job_id: str) -> Job:
        """Let a paused job go on in its old place."""
        runs = and_(_C.state == "running", _C.wish == "pause")
        return self._steer(
            job_id,
            "resumed",
            or_(_C.state == "paused", runs),
            state=case((runs, "running"), else_="queued"),
            wish=None,
        )

    def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again, at the end; what it left behind is used."""
        with self.database.reading() as connection:
            self._check_room(connection)
        return self._steer(
            job_id,
            "retried",
            and_(_C.state.in_(("failed", "cancelled")), self._room()),
            state="queued",
            position=_last_position(),
            attempts=0,
            error=None,
            staged=None,
            finished=None,
        )

    def move(self, job_id: str, before: str | None = None) -> Job:
        """Put a waiting job in front of another one, or at the end."""
        with self.database.writing() as connection:
            target = None
            if before is not None:
                query = select(_C.position).where(*self._mine(before))
                target = connection.scalar(query)
            if before is not None and target is None:
                raise BadRequest("The job to go in front of is gone. Reload the list.")
            if target is not None:
                behind = update(JOBS).where(_C.position >= target)
                connection.execute(behind.values(position=_C.position + 1))
            place = _last_position() if target is None else target
            change = update(JOBS).where(*self._mine(job_id), _C.state.in_(WAITING))
            row = connection.execute(change.values(position=place).returning(*READ)).first()
            if row is None:
                raise BadRequest("Only a job that waits can be moved. Reload the list.")
        return read_job(row)

    def remove(self, job_id: str) -> None:
        """Forget a job that does not run; its finished file stays."""
        with self.database.writing() as connection:
            gone = delete(JOBS).where(*self._mine(job_id), _C.state != "running")
            if not connection.execute(gone).rowcount:
                raise BadRequest("Only a job that does not run can be removed. Cancel it first.")

    # --- for workers -----------------------------------------------------------------------------

    def take(self, worker: str) -> Job | None:
        """Give the first queued job to `worker` for the time of a lease; None if there is none."""
        now = time.time()
        order = (_C.position, _C.created, _C.id)
        waiting = select(_C.id).where(*self._mine(), _C.state == "queued").order_by(*order)
        # Databases with locks per row need the last word; SQLite has locked the whole table.
        first = waiting.limit(1).with_for_update(skip_locked=True).scalar_subquery()
        return self._change(
            [_C.id == first, _C.state == "queued"],
            state="running",
            token=_C.token + 1,
            worker=worker,
            lease_until=now + self.lease,
            wish=None,
            phase=None,
            done=0,
            total=0,
            eta=None,
            started=func.coalesce(_C.started, now),
        )

    def beat(
        self,
        job: Job,
        progress: Progress | None = None,
        eta: float | None = None,
        preview: bytes | None = None,
    ) -> str | None:
        """Prolong the lease, write what is given, and return the wish: "cancel", "pause" or None.

        Raises `LeaseLost`.
        """
        now = time.time()
        values: dict[str, Any] = {"lease_until": now + self.lease}
        if progress is not None:
            steps = {"phase": progress.stage, "done": progress.done, "total": progress.total}
            values.update(steps, eta=eta)
        if preview is not None:
            values.update(preview=preview, preview_time=now)
        return self._write(job, **values).wish

    def stage(self, job: Job, record: Record, timings: Mapping[str, float]) -> Job:
        """Note that the file is whole at `record.path`, and choose the name that it will get.

        That is `job.path`, numbered if a file is in the way. Raises `LeaseLost`.
        """
        with self.database.writing() as connection:
            others = and_(_C.staged.is_not(None), _C.id != job.id, _C.state.not_in(ENDED))
            taken = set(connection.scalars(select(_C.path).where(others)))
            path = next(path for path in _names(job.path) if str(path) not in taken)
            change = (
                update(JOBS)
                .where(*_held(job))
                .values(
                    path=str(path),
                    staged=record.path.name,
                    asked=json.dumps(record.request.to_json()),
                    plan=json.dumps(record.plan.to_json()),
                    render_seconds=record.render_seconds,
                    timings=json.dumps(dict(timings)),
                )
            )
            row = connection.execute(change.returning(*READ)).first()
        if row is None:
            raise _lost()
        return read_job(row)

    def publish(self, job: Job) -> Job:
        """Give the staged file its name and end the job, both or neither.

        The rename happens while the row is locked and the token valid. Raises `LeaseLost`,
        `Cancelled` if that was asked in the meantime, and `MediaError` as `media.files` does.
        """
        staged = job.staged_path
        assert staged is not None
        with self.database.writing() as connection:
            ended = {**_FREED, "state": "done", "finished": time.time(), "error": None}
            held = [*_held(job), func.coalesce(_C.wish, "") != "cancel"]
            change = update(JOBS).where(*held).values(ended).returning(*READ)
            finished = connection.execute(change).first()
            if finished is None and connection.scalar(select(_C.id).where(*_held(job))):
                raise Cancelled("The job was cancelled. Retry it if you want it after all.")
            if finished is None:
                raise _lost()
            # A worker that was killed right here has renamed it and not said so.
            if staged.exists() or not job.path.exists():
                try:
                    staged.replace(job.path)
                except OSError as error:
                    raise explain(error, job.path) from error
        return read_job(finished)

    def fail(self, job: Job, error: str) -> Job:
        """End a job with the sentence that tells why. Raises `LeaseLost`."""
        ended = {**_FREED, "state": "failed", "finished": time.time()}
        return self._write(job, error=write_sentence(error), staged=None, **ended)

    def release(self, job: Job) -> Job:
        """Let go of a job: cancelled or paused if that was asked, else queued in its old place.

        Raises `LeaseLost`.
        """
        ended = case((_C.wish == "cancel", time.time()), else_=None)
        return self._write(job, **{**_FREED, "state": _OBEYED, "finished": ended})

    def sweep(self) -> int:
        """Let go of every job whose worker fell silent, and return how many those were.

        A job on which workers died `CRASH_LIMIT` times has failed, so that it cannot go round
        for ever.
        """
        now = time.time()
        crashed = and_(_C.wish.is_(None), _C.attempts + 1 >= CRASH_LIMIT)
        over = or_(crashed, _C.wish == "cancel")
        silent = update(JOBS).where(_C.state == "running", _C.lease_until < now)
        with self.database.writing() as connection:
            return connection.execute(
                silent.values(
                    **_FREED,
                    state=case((crashed, "failed"), else_=_OBEYED),
                    error=case((crashed, write_sentence(_CRASHED)), else_=None),
                    attempts=_C.attempts + 1,
                    finished=case((over, now), else_=None),
                )
            ).rowcount

    def recent(self, engine: str) -> list[Earlier]:
        """Return what an engine's latest finished jobs took, the last one first."""
        query = select(_C.timings, _C.plan).where(
            _C.engine == engine, _C.state == "done", _C.timings.is_not(None)
        )
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(_C.finished.desc()).limit(RECENT)).all()
        return [
            Earlier(json.loads(row.timings), json.loads(row.plan).get("seconds")) for row in rows
        ]

    # ---------------------------------------------------------------------------------------------

    def _mine(self, job_id: str | None = None) -> list[ColumnElement[bool]]:
        """Return the conditions of the jobs that may be seen, or of one of them."""
        owned = [] if self.owner is None else [_C.owner == self.owner]
        return owned if job_id is None else [*owned, _C.id == job_id]

    def _room(self) -> ColumnElement[bool]:
        """Return the condition that the owner may have one more job; in a write it holds exactly.

        On SQLite, that is, where one transaction writes at a time.
        """
        if self.quota is None:
            return true()
        other = JOBS.alias()
        busy = and_(other.c.owner == self.owner, other.c.state.in_(("running", *WAITING)))
        count = select(func.count()).select_from(other).where(busy).scalar_subquery()
        return count < self.quota.jobs

    def _check_room(self, connection: Connection) -> None:
        if self.quota is not None and not connection.scalar(select(self._room())):
            raise BadRequest(
                Said(
                    "said.full_queue",
                    "You have {count} clips in the queue, and no more may wait. Try again when one "
                    "is done, or cancel one.",
                    count=self.quota.jobs,
                )
            )

    def _change(self, where: Iterable[ColumnElement[bool]], **values: Any) -> Job | None:
        """Update the one job that meets `where` and return it, or None if there is none."""
        with self.database.writing() as connection:
            change = update(JOBS).where(*where).values(values).returning(*READ)
            row = connection.execute(change).first()
        return None if row is None else read_job(row)

    def _steer(self, job_id: str, done: str, allowed: ColumnElement[bool], **values: Any) -> Job:
        """Change a job whose state allows it."""
        changed = self._change([*self._mine(job_id), allowed], **values)
        if changed is None:
            state = self.find(job_id).state
            raise BadRequest(f"This job is {state} and cannot be {done} now. Reload the list.")
        return changed

    def _write(self, job: Job, **values: Any) -> Job:
        """Change a job that a worker holds; `LeaseLost` if it holds it no more."""
        changed = self._change(_held(job), **values)
        if changed is None:
            raise _lost()
        return changed


def _held(job: Job) -> list[ColumnElement[bool]]:
    """Return the conditions under which a worker still holds a job."""
    return [_C.id == job.id, _C.token == job.token, _C.state == "running"]


def _lost() -> LeaseLost:
    return LeaseLost("Another worker goes on with this job. There is nothing to do.")


def _last_position() -> ColumnElement[int]:
    """Return the position behind all jobs."""
    return select(func.coalesce(func.max(_C.position), 0) + 1).scalar_subquery()


def _names(path: Path) -> Iterator[Path]:
    """Yield `path` and numbered names after it that no file has."""
    number = 1
    while True:
        name = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        if not name.exists():
            yield name
        number += 1
