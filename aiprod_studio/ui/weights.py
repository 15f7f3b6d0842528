"""The weights that come, are checked or go beside the page, in threads that a reload finds again.

Nothing here outlives the process, and nothing has to: what has arrived lies on the disk, where the
next look finds it and the next download goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from aiprod_studio.engines.hub import licences
from aiprod_studio.engines.hub.copies import Verdict, drop_damaged, remove, verify
from aiprod_studio.engines.hub.download import download
from aiprod_studio.engines.hub.errors import NotDownloaded
from aiprod_studio.engines.hub.pace import DownloadProgress, ShouldStop
from aiprod_studio.engines.hub.source import find_source
from aiprod_studio.engines.hub.survey import Survey, local_survey, refuse, survey, this_hub
from aiprod_studio.errors import Cancelled, ModelUnavailable, StudioError

log = logging.getLogger(__name__)

LONGEST_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Ware:
    """One variant of an engine, as the buttons name it: "engine/variant"."""

    engine: str
    variant: str

    @classmethod
    def parse(cls, text: str) -> Ware:
        """Return the ware of a button's name; raises `BadRequest` where there is none."""
        engine, _, variant = text.partition("/")
        return cls(engine, find_source(engine).variant(variant).name)

    def __str__(self) -> str:
        return f"{self.engine}/{self.variant}"

    def survey(self) -> Survey | None:
        """Return what is on this disk, or None when nothing is known of it."""
        source = find_source(self.engine)
        return local_survey(source, source.variant(self.variant), this_hub())


@dataclass(frozen=True)
class Task:
    """What happens to a ware, or how it ended.

    `phase` is ask (the Hub is asked what there is), ready (`found` waits for a yes), get, check,
    told (`verdict` says what checking found) or failed, with the `error` of what it `did`.
    """

    phase: str
    found: Survey | None = None
    progress: DownloadProgress | None = None
    verdict: Verdict | None = None
    error: Exception | None = None
    did: str = ""

    @property
    def runs(self) -> bool:
        """Whether a thread works on it now."""
        return self.phase in ("ask", "get", "check")


class Weights:
    """The tasks of this process, at most one for each ware; `version` grows with every change."""

    def __init__(self) -> None:
        self.version = 0
        self._lock = threading.RLock()
        self._tasks: dict[Ware, Task] = {}
        self._threads: dict[Ware, tuple[threading.Thread, threading.Event]] = {}

    def task(self, ware: Ware) -> Task | None:
        """Return what happens to a ware, or None."""
        return self._tasks.get(ware)

    def changed(self) -> None:
        """Note that what lies on the disk must be looked at anew."""
        with self._lock:
            self.version += 1

    @property
    def busy(self) -> bool:
        """Whether anything comes or is checked now."""
        return any(task.runs for task in list(self._tasks.values()))

    def ask(self, ware: Ware) -> None:
        """Find out what downloading a ware would be; no byte of it comes yet."""

        def work(stop: ShouldStop) -> Task:
            return Task("ready", _ask_hub(ware, stop))

        self._begin(ware, Task("ask"), work)

    def get(self, ware: Ware, accepted: bool = False) -> None:
        """Download a ware or go on with it; `accepted` notes that its licence is."""
        if accepted:
            licences.accept(find_source(ware.engine))

        def work(stop: ShouldStop) -> None:
            found = _ask_hub(ware, stop)
            refuse(found)
            download(found, on_progress=lambda now: self._tell(ware, now), should_stop=stop)

        self._begin(ware, Task("get"), work)

    def check(self, ware: Ware) -> None:
        """Compare every file of a ware with its checksum."""

        def work(stop: ShouldStop) -> Task:
            found = _here(ware)
            told = verify(found, lambda now: self._tell(ware, now), stop)
            return Task("told", found, verdict=told)

        self._begin(ware, Task("check"), work)

    def repair(self, ware: Ware) -> None:
        """Download again what the last check found damaged or missing."""
        task = self.task(ware)
        if task and task.found and task.verdict and not task.runs:
            drop_damaged(task.found, task.verdict)
        self.get(ware)

    def stop(self, ware: Ware) -> None:
        """Stop what runs, and put away how it ended; what has arrived stays.

        Returns when the thread has ended; raises `ModelUnavailable` if it does not for long.
        """
        thread, event = self._threads.get(ware, (None, None))
        if thread and event:
            event.set()
            thread.join(LONGEST_STOP_SECONDS)
            if thread.is_alive():
                raise ModelUnavailable("The download does not stop. Try again in a minute.")
        self._set(ware, None)

    def remove(self, ware: Ware) -> int:
        """Stop what runs, remove all files of a ware and return the bytes freed."""
        self.stop(ware)
        found = ware.survey()
        return remove(found) if found and (found.present_bytes or found.part_bytes) else 0

    def _begin(self, ware: Ware, task: Task, work: Callable[[ShouldStop], Task | None]) -> None:
        """Let `work` run in a thread; a ware that is worked on already is left alone."""
        with self._lock:
            now = self.task(ware)
            if now and now.runs:
                return
            stop = threading.Event()
            # Nothing is lost when the process ends in the middle, so it need not wait.
            about = (ware, task.phase, work, stop)
            thread = threading.Thread(target=self._run, args=about, daemon=True)
            self._threads[ware] = thread, stop
            self._set(ware, task)
            thread.start()

    def _run(
        self,
        ware: Ware,
        does: str,
        work: Callable[[ShouldStop], Task | None],
        stop: threading.Event,
    ) -> None:
        try:
            ended = work(stop.is_set)
        except Cancelled:
            ended = None
        except Exception as error:
            if not isinstance(error, StudioError):
                log.error("the weights of %s failed", ware, exc_info=error)
            ended = Task("failed", error=error, did=does)
        self._set(ware, ended)

    def _tell(self, ware: Ware, now: DownloadProgress) -> None:
        task = self.task(ware)
        if task:
            self._set(ware, replace(task, progress=now))

    def _set(self, ware: Ware, task: Task | None) -> None:
        with self._lock:
            self.changed()
            if task is None:
                self._tasks.pop(ware, None)
            else:
                self._tasks[ware] = task


def _ask_hub(ware: Ware, stop: ShouldStop) -> Survey:
    source = find_source(ware.engine)
    return survey(source, source.variant(ware.variant), this_hub(), should_stop=stop)


def _here(ware: Ware) -> Survey:
    """Return what is on this disk; raises `NotDownloaded` if nothing is known of it."""
    found = ware.survey()
    if found is None:
        raise NotDownloaded(f"{ware} is not on this disk. Download it first.")
    return found
