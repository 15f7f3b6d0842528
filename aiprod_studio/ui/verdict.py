"""The verdict: whether what the form asks for fits this machine, how long it takes, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiprod_studio.engines.catalog import find_card
from aiprod_studio.engines.lora_sizes import with_loras
from aiprod_studio.errors import BadRequest, DoesNotFit, StudioError
from aiprod_studio.graph.extend import continued
from aiprod_studio.hardware.calibration import calibrated
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.jobs.forecast import expect
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.types import Hardware, ModelCard, Plan, Request, complete

# What the planner says of a plan that is slower because memory is short.
_SHORT = ("to save memory", "do not fit")


@dataclass(frozen=True)
class Verdict:
    """What the plan card says.

    `kind` is "fits", "slower", "no" (does not fit), "wrong" (cannot be rendered as asked) or
    "unknown"; `seconds` is for all clips; `reasons` tell why.
    """

    kind: str
    plan: Plan | None = None
    peak_bytes: int = 0
    total_bytes: int = 0
    seconds: float = 0.0
    reasons: tuple[str, ...] = ()


def judge(request: Request, hardware: Hardware | None, queue: Queue) -> Verdict:
    """Return the verdict on a request; no error is raised for what cannot be rendered."""
    try:
        card = find_card(request.engine)
    except StudioError as error:  # weights of the Hub may be gone, too
        return Verdict("wrong", reasons=(str(error),))
    return weigh(request, card, hardware, queue)


def weigh(request: Request, card: ModelCard, hardware: Hardware | None, queue: Queue) -> Verdict:
    """Return the verdict on a request to the model of `card`, whether or not it renders yet."""
    try:
        full = complete(continued(request), card)
        if hardware is None:
            return Verdict("unknown")
        plan = choose_plan(*calibrated(hardware, with_loras(card, full.loras)), full)
    except BadRequest as error:
        return Verdict("wrong", reasons=(str(error),))
    except DoesNotFit as error:
        return Verdict("no", reasons=(str(error),))
    lowered = any(short in reason for reason in plan.because for short in _SHORT)
    return Verdict(
        "slower" if lowered else "fits",
        plan,
        max(plan.peak_bytes.values()),
        hardware.total_bytes,
        seconds_of(plan, request.engine, queue),
        plan.because,
    )


def recall(settings: dict[str, Any], hardware: Hardware | None, queue: Queue) -> tuple[str, ...]:
    """Return why a clip was planned as its `settings` say, translatable as far as it is known how.

    Files hold English alone. What this machine says of the same request are the same sentences
    most of the time, and these can be translated; the others stay as they are.
    """
    because = map(str, settings.get("plan", {}).get("because", ()))
    try:
        verdict = judge(Request.from_json(settings["request"]), hardware, queue)
    except (StudioError, TypeError, KeyError):  # another version made it
        return tuple(because)
    known = {reason: reason for reason in verdict.reasons}
    return tuple(known.get(reason, reason) for reason in because)


def seconds_of(plan: Plan, engine: str, queue: Queue) -> float:
    """Return the seconds of a plan, corrected by how long the engine's last clips took."""
    refined = plan.stage_seconds.get("refine", 0.0)
    expected = expect(plan.seconds, queue.recent(engine), refined)
    return sum(expected.values()) or plan.seconds
