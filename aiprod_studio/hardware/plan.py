"""What fits on this machine: a plan with its predicted memory and time, and why.

`hardware.memory` predicts bytes and `hardware.duration` seconds; of all `options` whose bytes are
free the fastest is chosen. Quality is not traded for speed: the canvas never shrinks here, and
weights lose bits only where full ones fit nowhere or would have to travel for longer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from aiprod_studio.errors import DoesNotFit
from aiprod_studio.hardware.budget import BROWSER_BYTES, fits, ram_limit
from aiprod_studio.hardware.canvas import choose_canvas as choose_canvas
from aiprod_studio.hardware.ladder import cheaper as cheaper
from aiprod_studio.hardware.ladder import predict
from aiprod_studio.hardware.memory import STAGES, finished_bytes
from aiprod_studio.hardware.nearest import refusal
from aiprod_studio.hardware.options import batches, leanest, options
from aiprod_studio.types import Basis, ModelCard, Plan, Request, complete, frame_count
from aiprod_studio.types import Hardware as Hardware

# Weights below this cost little in full precision, in which every device computes alike.
FULL_PRECISION_BYTES = 512 * 2**20
FILE_BYTES = 16 * 2**20


def choose_plan(hardware: Hardware, card: ModelCard, request: Request, clips: int = 1) -> Plan:
    """Return the fastest plan that fits `hardware`, for a job of up to `clips` such clips.

    Raises `BadRequest` when the model cannot make the clip at all, and `DoesNotFit` when even the
    leanest plan needs more memory or disk than is free, with the nearest request that one fits.
    """
    full = complete(request, card)
    _check_room(hardware, full, card)
    first = _roomiest(Basis(hardware, card, full, max(1, clips)))
    fitting = [plan for plan in options(first) if fits(plan)]
    if not fitting:

        def possible(other: Request) -> bool:
            return fits(leanest(_roomiest(Basis(hardware, card, other))))

        raise refusal(leanest(first), possible)
    best = min(fitting, key=lambda plan: plan.seconds)
    return dataclasses.replace(best, because=(*best.because, *_explain(best, fitting)))


def choose_precision(hardware: Hardware, weight_bytes: int) -> tuple[str, str]:
    """Return the precision for weights of `weight_bytes` on disk, and why."""
    if weight_bytes <= FULL_PRECISION_BYTES:
        return "float32", "float32, as the model is small"
    for precision in ("bfloat16", "float16"):
        if precision in hardware.dtypes:
            return precision, f"{precision}, which {hardware.name} computes fast"
    return "float32", f"float32, as {hardware.name} has nothing shorter that is fast"


def _check_room(hardware: Hardware, full: Request, card: ModelCard) -> None:
    """Raise `DoesNotFit` when the finished clip fits neither the RAM nor the disk."""
    finished = finished_bytes(full, card)
    if finished > ram_limit(hardware):
        raise DoesNotFit(
            f"The finished frames take {finished / 2**30:.1f} GB and {hardware.name} has "
            f"{hardware.ram_free_bytes / 2**30:.1f} GB of RAM free. "
            "Ask for a smaller size or fewer seconds."
        )
    file = FILE_BYTES + finished // 20
    if hardware.disk_free_bytes < file:
        raise DoesNotFit(
            f"The disk for outputs has {hardware.disk_free_bytes / 2**20:,.0f} MB free and the "
            f"clip may take {file / 2**20:,.0f} MB. "
            "Free some space, or set AIPROD_OUTPUTS to a folder on another disk."
        )


def _roomiest(basis: Basis) -> Plan:
    """Return the plan that saves no memory at all."""
    hardware, card, full = basis.hardware, basis.card, basis.request
    assert full.width is not None
    assert full.height is not None
    asked = full.width * full.height
    area = min(max(asked, card.areas[0]), card.areas[-1]) if card.areas else card.pixels
    width, height = choose_canvas(full.width, full.height, area, card.size_step)
    precision, why = choose_precision(hardware, sum(card.part_bytes.values()))
    because = [hardware.because, why]
    if (width, height) != (full.width, full.height):
        verb = "enlarged" if asked > width * height else "reduced"
        because.append(f"denoised at {width}×{height}, {verb} to {full.width}×{full.height}")
    return predict(
        Plan(
            device=hardware.device,
            precision=precision,
            width=width,
            height=height,
            frames=frame_count(full, card),
            batch=batches(basis)[0],
            tile=0,
            peak_bytes={},
            seconds=0.0,
            because=tuple(because),
            size_step=card.size_step,
            placement=dict.fromkeys(STAGES[1:], "resident"),
            # Apple's kernel keeps the scores of all queries at once, in 32 bits.
            attention="sliced" if hardware.device == "mps" and card.memory.heads else "native",
            basis=basis,
        )
    )


def _explain(plan: Plan, fitting: Sequence[Plan]) -> Iterator[str]:
    """Yield why a plan is as it is, as far as it is not the roomiest one."""
    assert plan.basis is not None
    basis = plan.basis
    if basis.card.parts:
        yield from _explain_large(plan, fitting)
    else:
        batch = batches(basis)[0]
        while batch > plan.batch:
            yield f"{batch // 2} instead of {batch} at once to save memory"
            batch //= 2
    if plan.tile:
        kinds = {"content": "tiles laid by content", "uniform": "even tiles"}
        kind = kinds.get(plan.tiling, "tiles")
        yield f"decoded in {kind} of {plan.tile} pixels to save memory"
    if plan.chunk:
        yield f"decoded {plan.chunk} frames at a time, handed on as they come, to save memory"


def _explain_large(plan: Plan, fitting: Sequence[Plan]) -> Iterator[str]:
    """Yield where the weights of a large model are and in which form, and how it is computed."""
    assert plan.basis is not None
    pool = plan.device != "cuda"
    words = {
        "model": "comes whole from the disk" if pool else "comes whole from RAM",
        "group": "streams in blocks from RAM",
        "disk": "streams in blocks from the disk",
    }
    if "resident" in plan.placement.values():
        yield "all weights stay on the device, which is fastest"
    else:
        parts = (("text encoder", "encode"), ("denoiser", "denoise"), ("decoder", "decode"))
        places = [f"the {name} {words[plan.placement[stage]]}" for name, stage in parts]
        yield f"{', '.join(places)}, as all weights at once do not fit"
    if plan.pinned:
        yield "the denoiser's RAM is pinned, which lets blocks arrive ahead of their use"
    if plan.quantisation:
        full = [one.seconds for one in fitting if not one.quantisation]
        reason = f"would take {min(full):,.0f} s" if full else "do not fit"
        yield f"weights in {plan.quantisation}, as those in {plan.precision} {reason}"
    if plan.batch > 1:
        yield f"{plan.batch} clips at once, as they share the weights that travel"
    if plan.attention == "sliced":
        yield "attention of 1,024 queries at a time, as Apple's kernel keeps all scores"
    if plan.compiled:
        yield "compiled, which pays back within this job"
    yield "no step cache, as it would change the picture"
    if plan.device == "cuda":
        yield f"{BROWSER_BYTES // 2**20} MB of free GPU memory left to the browser"
