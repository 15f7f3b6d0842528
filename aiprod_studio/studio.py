"""Studio: the whole story of one clip on one page."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiprod_studio.engines.catalog import find_card, find_engine
from aiprod_studio.engines.held import Held
from aiprod_studio.engines.lora_sizes import with_loras
from aiprod_studio.errors import StudioError
from aiprod_studio.graph.extend import continued
from aiprod_studio.hardware.calibration import calibrated
from aiprod_studio.hardware.ladder import predict
from aiprod_studio.hardware.plan import Hardware, choose_plan
from aiprod_studio.hardware.probe import probe, with_room
from aiprod_studio.library.provenance import save_clip
from aiprod_studio.types import ModelCard, Plan, Progress, Record, Request, complete

if TYPE_CHECKING:
    from aiprod_studio.graph.generate import Work
    from aiprod_studio.graph.trail import Trail

log = logging.getLogger(__name__)

Job = tuple[Request, Path]
Outcome = tuple[int, Record | StudioError]
OnProgress = Callable[[int, Progress], None]
KEPT_RESULTS = 32


@dataclass
class _Order:
    """One clip to make: its complete request and file, whom to tell of it, what it leaves.

    `seconds` were spent on it so far, and it is in `stage`; `ended` is what `on_progress` raised to
    stop it.
    """

    number: int
    request: Request
    path: Path
    trail: Trail | None
    on_progress: OnProgress | None
    seconds: float = 0.0
    stage: str = ""
    ended: StudioError | None = None

    def tell(self, progress: Progress) -> None:
        """Tell of a progress; once that has stopped the clip, it stays stopped."""
        if self.ended is not None:
            raise self.ended
        self.stage = progress.stage
        try:
            if self.on_progress:
                self.on_progress(self.number, progress)
        except StudioError as error:
            self.ended = error
            raise


class Studio:
    """One machine's studio: plans requests, renders them, keeps what can be used again.

    With `hold`, the weights in use stay in memory between calls, until another model is needed
    or `close` is called. With `batch`, so many clips of one shape go through the denoiser at once
    instead of as many as the planner finds best; those with a step cache always go alone.
    """

    def __init__(self, hold: bool = False, batch: int | None = None) -> None:
        self._hardware: Hardware | None = None
        self._kept: dict[str, Any] = {}
        self._bits = ""
        self._hold, self._batch = hold, batch
        self._held = Held(find_engine)

    def close(self) -> None:
        """Let go of the weights that are held."""
        self._held.close()

    @property
    def hardware(self) -> Hardware:
        """This machine, probed when it is first asked for."""
        if self._hardware is None:
            self._hardware = probe()
        return self._hardware

    def card(self, engine: str) -> ModelCard:
        """Return what an engine can do; `BadRequest` names the known ones."""
        return find_card(engine)

    def plan(self, request: Request, clips: int = 1) -> tuple[Request, Plan]:
        """Return the request with the engine's defaults filled in, and how it will be run.

        `clips` is how many of its shape the job has. Raises `BadRequest` and `DoesNotFit`; loads
        no weights.
        """
        card = self.card(request.engine)
        full = complete(continued(request), card)
        card = with_loras(card, full.loras)
        plan = choose_plan(*calibrated(with_room(self.hardware), card), full, clips)
        if self._batch and not full.cache:
            plan = _at_once(plan, min(self._batch, clips))
        return full, plan

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
    ) -> Iterator[Outcome]:
        """Render every job and yield its number with its record, or with the error that ended it.

        Jobs of one engine share one loaded model, and those of one shape its denoiser where that
        pays; a failed job does not stop the others. The jobs in `trails` leave there what they
        need to go on after a kill.
        """
        alike: dict[Request, list[_Order]] = {}
        for number, (request, path) in enumerate(jobs):
            try:
                full = complete(continued(request), self.card(request.engine))
            except StudioError as error:
                yield number, error
                continue
            if full.seed is None:
                full = dataclasses.replace(full, seed=secrets.randbelow(2**31))
            order = _Order(number, full, path, (trails or {}).get(number), on_progress)
            alike.setdefault(_shape(full), []).append(order)
        try:
            for engine in dict.fromkeys(shape.engine for shape in alike):
                for shape in alike:
                    if shape.engine == engine:
                        yield from self._render_alike(alike[shape])
        finally:
            if not self._hold:
                self.close()

    def _render_alike(self, orders: list[_Order]) -> Iterator[Outcome]:
        """Render clips of one shape, as many at once through the denoiser as memory allows."""
        try:
            plan = self.plan(orders[0].request, len(orders))[1]
        except StudioError as error:
            yield from ((order.number, error) for order in orders)
            return
        with suppress(StudioError):
            orders[0].tell(Progress("load", 0, 1))
        from aiprod_studio.engines.engine import forget_peak, grow, peak_bytes  # torch starts here

        if plan.quantisation != self._bits:
            # What weights in other bits have made is not what this plan promises.
            self._kept.clear()
        most = self._batch or len(orders)
        while orders:
            group, orders = orders[: plan.batch], orders[plan.batch :]
            forget_peak(plan.device)
            planned = plan.batch
            plan = self._denoise_together(group, plan)
            for order in group:
                outcome = self._render_one(order, _at_once(plan, min(plan.batch, len(group))))
                yield order.number, outcome
                if isinstance(outcome, Record):
                    # What ran out of memory once would do so again.
                    plan = _at_once(outcome.plan, plan.batch)
            if plan.batch < planned:
                most = plan.batch
            elif len(group) > 1:
                plan = grow(plan, peak_bytes(plan.device), most)
            self._bits = plan.quantisation
            self._forget()

    def _denoise_together(self, group: Sequence[_Order], plan: Plan) -> Plan:
        """Denoise clips into their trails and return the plan that did.

        What goes wrong is told by the clips when each is rendered alone.
        """
        from aiprod_studio.engines.engine import Batching, run_fitting
        from aiprod_studio.graph.together import denoise_together

        begin = time.monotonic()

        def work(plan: Plan) -> None:
            works = [self._work(order, plan) for order in group if order.ended is None]
            if len(works) > 1 and isinstance(works[0].parts, Batching):
                denoise_together(works, works[0].parts, self._kept)

        def stage() -> str:
            return next((order.stage for order in group if order.ended is None), "")

        try:
            plan, _ = run_fitting(plan, work, stage) if len(group) > 1 else (plan, None)
        except StudioError as error:
            log.warning("The clips are denoised one by one: %s", error)
        except Exception:
            log.exception("clips could not be denoised together")
        for order in group:
            order.seconds += (time.monotonic() - begin) / len(group)
        return plan

    def _render_one(self, order: _Order, plan: Plan) -> Record | StudioError:
        """Render one planned request to its file."""
        from aiprod_studio.engines.engine import run_fitting

        begin = time.monotonic()
        batch = plan.batch

        def work(plan: Plan) -> Plan:
            ran = _at_once(plan, batch)
            with self._work(order, plan).reel(self._kept) as reel:
                save_clip(order.path, reel, order.request, ran)
            return ran

        try:
            # Only the denoiser takes several clips at once, and this one has left it.
            _, plan = run_fitting(_at_once(plan, 1), work, lambda: order.stage)
            order.tell(Progress("save", 1, 1))
        except StudioError as error:
            return error
        except Exception as error:  # a job's failure must not stop the jobs after it
            log.exception("job %d failed", order.number)
            return StudioError(
                f"This clip failed unexpectedly ({type(error).__name__}: {error}). Try it again; "
                "if it fails again, report it with the log."
            )
        return Record(order.path, order.request, plan, order.seconds + time.monotonic() - begin)

    def _work(self, order: _Order, plan: Plan) -> Work:
        """Return the work of one clip, on weights that are loaded as planned."""
        from aiprod_studio.graph.generate import Work
        from aiprod_studio.graph.trail import Trail

        engine = order.request.engine
        order.trail = order.trail or Trail()
        parts = self._held.load(engine, plan)
        return Work(order.request, self.card(engine), plan, parts, order.tell, order.trail)

    def _forget(self) -> None:
        """Let go of all but the latest results."""
        while len(self._kept) > KEPT_RESULTS:
            del self._kept[next(iter(self._kept))]


def _shape(full: Request) -> Request:
    """Return what of a complete request must be equal for clips to be denoised together."""
    first = None if full.image is None and full.extend is None else "any"
    last = None if full.last_image is None else "any"
    return dataclasses.replace(
        full, prompt="any", seed=0, image=first, extend=None, last_image=last
    )


def _at_once(plan: Plan, batch: int) -> Plan:
    """Return `plan`, predicted, with another number of clips at once through the denoiser."""
    return plan if batch == plan.batch else predict(dataclasses.replace(plan, batch=batch))
