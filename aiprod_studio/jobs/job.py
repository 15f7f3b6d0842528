"""One clip in the queue: what is asked, how far it is, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiprod_studio.types import Request

WAITING = ("queued", "paused")
ENDED = ("done", "failed", "cancelled")
LOCAL = "local"
"""The owner of the jobs of whoever owns the machine."""


@dataclass(frozen=True)
class Job:
    """One row of the queue as it was when it was read; times are seconds since 1970.

    `asked` is the request as JSON, `path` the file that is (to be) made and `plan` the
    prediction until the job is done, then the plan that really ran. `wish` is "cancel" or "pause"
    while a running job has yet to obey. `token` counts how often the job was taken: only the
    worker that holds the latest one may write. `attempts` counts the workers that died on it.
    `staged` names the finished file once it only waits to be renamed.
    `phase`, `done` of `total` steps and `eta` in seconds tell how far it is.
    """

    id: str
    owner: str
    state: str
    position: int
    engine: str
    asked: dict[str, Any]
    path: Path
    plan: dict[str, Any] | None
    wish: str | None
    token: int
    worker: str | None
    lease_until: float | None
    attempts: int
    phase: str | None
    done: int
    total: int
    eta: float | None
    preview_time: float | None
    error: str | None
    staged: str | None
    render_seconds: float | None
    timings: dict[str, float] | None
    created: float
    started: float | None
    finished: float | None

    @property
    def request(self) -> Request:
        """The request; `BadRequest` when another version wrote one that this one cannot read."""
        return Request.from_json(self.asked)

    @property
    def hidden_path(self) -> Path:
        """Where the worker that holds this token leaves the finished file before it is renamed."""
        return self._hidden_folder / f"{self.token}{self.path.suffix}"

    @property
    def staged_path(self) -> Path | None:
        """Where the finished file waits to be renamed, or None."""
        return None if self.staged is None else self._hidden_folder / self.staged

    @property
    def _hidden_folder(self) -> Path:
        # Beside the clip, as a rename is only atomic on one disk.
        return self.path.parent / f".{self.id}"
