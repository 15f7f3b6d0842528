"""Studio: the whole story of one clip on one page."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiprod_studio.engines.catalog import find_card, find_engine
from aiprod_studio.errors import StudioError
from aiprod_studio.hardware.plan import Hardware, choose_plan
from aiprod_studio.hardware.probe import probe
from aiprod_studio.library.provenance import save_clip
from aiprod_studio.media.clip import Clip
from aiprod_studio.types import ModelCard, Plan, Progress, Record, Request, complete

if TYPE_CHECKING:
    from aiprod_studio.engines.engine import Parts
    from aiprod_studio.graph.trail import Trail

log = logging.getLogger(__name__)

Job = tuple[Request, Path]
OnProgress = Callable[[int, Progress], None]
KEPT_RESULTS = 32


class Studio:
    """One machine's studio: plans requests, renders them, keeps what can be used again.

    With `hold`, the weights in use stay in memory between calls, until another model is needed
    or `close` is called.
    """

    def __init__(self, hold: bool = False) -> None:
        self._hardware: Hardware | None = None
        self._kept: dict[str, Any] = {}
        self._hold = hold
        self._memory = ExitStack()
        self._loaded: tuple[tuple[str, str, str], Parts] | None = None

    def close(self) -> None:
        """Let go of the weights that are held."""
        self._loaded = None
        self._memory.close()

    @property
    def hardware(self) -> Hardware:
        """This machine, probed when it is first asked for."""
        if self._hardware is None:
            self._hardware = probe()
        return self._hardware

    def card(self, engine: str) -> ModelCard:
        """Return what an engine can do; `BadRequest` names the known ones."""
        return find_card(engine)

    def plan(self, request: Request) -> tuple[Request, Plan]:
        """Return the request with the engine's defaults filled in, and how it will be run.

        Raises `BadRequest` and `DoesNotFit`; loads no weights.
        """
        card = self.card(request.engine)
        full = complete(request, card)
        return full, choose_plan(self.hardware, card, full)

    def render(self, prompt: str, path: Path | str, **wishes: Any) -> Record:
        """Render one prompt to a file; `wishes` are further fields of `Request`."""
        for _, outcome in self.render_all([(Request(prompt, **wishes), Path(path))]):
            if isinstance(outcome, StudioError):
                raise outcome
            return outcome
        raise AssertionError("one job has one outcome")

    def render_all(
        self,
        jobs: Sequence[Job],
        on_progress: OnProgress | None = None,
        trails: Mapping[int, Trail] | None = None,
    ) -> Iterator[tuple[int, Record | StudioError]]:
        """Render every job and yield its number with its record, or with the error that ended it.

        Jobs of one engine share one loaded model; a failed job does not stop the others. The jobs
        in `trails` leave there what they need to go on after a kill.
        """
        engines = dict.fromkeys(request.engine for request, _ in jobs)
        try:
            for engine in engines:
                numbers = [n for n, (request, _) in enumerate(jobs) if request.engine == engine]
                yield from self._render_engine(engine, jobs, numbers, on_progress, trails or {})
        finally:
            if not self._hold:
                self.close()

    def _load(self, engine: str, plan: Plan) -> Parts:
        """Return the loaded parts of an engine; those of another one leave the memory first."""
        wanted = (engine, plan.device, plan.precision)
        if self._loaded is None or self._loaded[0] != wanted:
            self.close()
            self._loaded = wanted, self._memory.enter_context(find_engine(engine).load(plan))
        return self._loaded[1]

    def _render_engine(
        self,
        engine: str,
        jobs: Sequence[Job],
        numbers: list[int],
        on_progress: OnProgress | None,
        trails: Mapping[int, Trail],
    ) -> Iterator[tuple[int, Record | StudioError]]:
        """Render the jobs of one engine with its model loaded once."""
        planned: dict[int, tuple[Request, Plan]] = {}
        for number in numbers:
            try:
                planned[number] = self.plan(jobs[number][0])
            except StudioError as error:
                yield number, error
        if not planned:
            return
        card = self.card(engine)
        try:
            if on_progress:
                on_progress(next(iter(planned)), Progress("load", 0, 1))
            parts = self._load(engine, next(iter(planned.values()))[1])
        except StudioError as error:
            for number in planned:
                yield number, error
            return
        for number, (request, plan) in planned.items():
            path, trail = jobs[number][1], trails.get(number)
            yield (
                number,
                self._render_one(number, request, plan, path, card, parts, on_progress, trail),
            )

    def _render_one(
        self,
        number: int,
        request: Request,
        plan: Plan,
        path: Path,
        card: ModelCard,
        parts: Parts,
        on_progress: OnProgress | None,
        trail: Trail | None,
    ) -> Record | StudioError:
        """Render one planned request to its file."""
        from aiprod_studio.engines.engine import run_fitting  # torch starts with the first job
        from aiprod_studio.graph.generate import build_graph

        def tell(progress: Progress) -> None:
            if on_progress:
                on_progress(number, progress)

        if request.seed is None:
            request = dataclasses.replace(request, seed=secrets.randbelow(2**31))
        begin = time.monotonic()

        def work(plan: Plan) -> Clip:
            clip: Clip = build_graph(request, card, plan, parts, tell, trail).run(self._kept)
            return clip

        try:
            plan, clip = run_fitting(plan, work)
            tell(Progress("save", 0, 1))
            save_clip(path, clip, request, plan)
        except StudioError as error:
            return error
        except Exception as error:  # a job's failure must not stop the jobs after it
            log.exception("job %d failed", number)
            return StudioError(
                f"This clip failed unexpectedly ({type(error).__name__}: {error}). Try it again; "
                "if it fails again, report it with the log."
            )
        tell(Progress("save", 1, 1))
        while len(self._kept) > KEPT_RESULTS:
            del self._kept[next(iter(self._kept))]
        return Record(path, request, plan, time.monotonic() - begin)
