"""What to ask for instead where no plan fits: the nearest request that one does."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from aiprod_studio.errors import DoesNotFit
from aiprod_studio.hardware.budget import device_limit, ram_limit
from aiprod_studio.hardware.canvas import choose_canvas
from aiprod_studio.hardware.memory import basis_of
from aiprod_studio.sentences import Said
from aiprod_studio.types import Plan, Request


class AsksTooMuch(DoesNotFit):
    """No plan fits; `nearest` is the closest request that one fits, or None where there is none."""

    def __init__(self, message: str, nearest: Request | None = None) -> None:
        super().__init__(message)
        self.nearest = nearest


def refusal(lean: Plan, possible: Callable[[Request], bool]) -> AsksTooMuch:
    """Return what to say of a request whose leanest plan does not fit.

    `possible` says whether some plan fits a request.
    """
    basis = basis_of(lean)
    need, limit = max(lean.peak_bytes.values()), device_limit(basis.hardware)
    what = Said("said.memory", "memory")
    if need <= limit:
        need, limit = max(lean.ram_bytes.values()), ram_limit(basis.hardware)
        what = Said("said.ram", "RAM")
    nearest = find_nearest(lean, possible)
    if nearest is None:
        advice = Said("said.give_room", "Close other programs or choose a smaller engine.")
    else:
        told = "Ask for {less}, close other programs or choose a smaller engine."
        advice = Said("said.ask_less", told, less=_difference(nearest, basis.request))
    message = Said(
        "said.too_large",
        "{engine} needs {need} of {what} for {frames} frames at {canvas} at the least, and "
        "{device} can give {limit}. {advice}",
        engine=basis.card.name,
        need=_size(need),
        what=what,
        frames=lean.frames,
        canvas=f"{lean.width}×{lean.height}",
        device=basis.hardware.name,
        limit=_size(limit),
        advice=advice,
    )
    return AsksTooMuch(message, nearest)


def find_nearest(lean: Plan, possible: Callable[[Request], bool]) -> Request | None:
    """Return the closest request that is possible: shorter or smaller, whichever loses less."""
    full = basis_of(lean).request
    shorter, smaller = _longest(lean, possible), _largest(lean, possible)
    if shorter is None or smaller is None:
        return shorter or smaller
    assert full.seconds is not None
    assert shorter.seconds is not None
    return shorter if shorter.seconds / full.seconds >= _area(smaller) / _area(full) else smaller


def _area(request: Request) -> int:
    """Return the pixels of a complete request's frame."""
    assert request.width is not None
    assert request.height is not None
    return request.width * request.height


def _longest(lean: Plan, possible: Callable[[Request], bool]) -> Request | None:
    """Return the request of the most frames that is possible, or None."""
    basis = basis_of(lean)
    step, fps = basis.card.frame_step, basis.request.fps
    assert fps is not None

    def of_groups(count: int) -> Request:
        # Down, so that the length as it is shown never means a frame more.
        seconds = int((count * step + 1) / fps * 100) / 100
        return dataclasses.replace(basis.request, seconds=max(0.01, seconds))

    return _most(0, (lean.frames - 1) // step - 1, of_groups, possible)


def _largest(lean: Plan, possible: Callable[[Request], bool]) -> Request | None:
    """Return the request of the largest canvas that is possible, or None."""
    basis = basis_of(lean)
    if not basis.card.areas:
        return None
    area = lean.width * lean.height

    def of_share(percent: int) -> Request:
        pixels = area * percent // 100
        width, height = choose_canvas(lean.width, lean.height, pixels, lean.size_step)
        return dataclasses.replace(basis.request, width=width, height=height)

    least = basis.card.areas[0] * basis.request.stages**2
    return _most(math.ceil(least * 100 / area), 99, of_share, possible)


def _most(
    low: int, high: int, of: Callable[[int], Request], possible: Callable[[Request], bool]
) -> Request | None:
    """Return the possible request of the highest number from `low` to `high`, or None."""
    best: Request | None = None
    while low <= high:
        middle = (low + high) // 2
        request = of(middle)
        if possible(request):
            best, low = request, middle + 1
        else:
            high = middle - 1
    return best


def _difference(nearest: Request, full: Request) -> str:
    """Return how a request differs, in words."""
    if nearest.seconds != full.seconds:
        return Said("said.seconds", "{count:g} seconds", count=nearest.seconds)
    return f"{nearest.width}×{nearest.height}"


def _size(count: int) -> str:
    """Return bytes as people read them."""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"
