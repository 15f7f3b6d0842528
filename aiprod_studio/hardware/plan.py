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
from aiprod_studio.sentences import Said
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
        return "float32", Said("said.small", "float32, as the model is small")
    for precision in ("bfloat16", "float16"):
        if precision in hardware.dtypes:
            why = "{precision}, which {device} computes fast"
            return precision, Said("said.fast", why, precision=precision, device=hardware.name)
    why = "float32, as {device} has nothing shorter that is fast"
    return "float32", Said("said.slow", why, device=hardware.name)


def _check_room(hardware: Hardware, full: Request, card: ModelCard) -> None:
    """Raise `DoesNotFit` when the finished clip fits neither the RAM nor the disk."""
    finished = finished_bytes(full, card)
    if finished > ram_limit(hardware) and not card.memory.chunks:
        raise DoesNotFit(
            Said(
                "said.frames_ram",
                "The finished frames take {size:.1f} GB and {device} has {free:.1f} GB of RAM "
                "free. Ask for a smaller size or fewer seconds.",
                size=finished / 2**30,
                device=hardware.name,
                free=hardware.ram_free_bytes / 2**30,
            )
        )
    file = FILE_BYTES + finished // 20
    if hardware.disk_free_bytes < file:
        raise DoesNotFit(
            Said(
                "said.full_disk",
                "The disk for outputs has {free:,.0f} MB free and the clip may take {size:,.0f} "
                "MB. Free some space, or set AIPROD_OUTPUTS to a folder on another disk.",
                free=hardware.disk_free_bytes / 2**20,
                size=file / 2**20,
            )
        )


def _roomiest(basis: Basis) -> Plan:
    """Return the plan that saves no memory at all."""
    hardware, card, full = basis.hardware, basis.card, basis.request
    assert full.width is not None
    assert full.height is not None
    asked = full.width * full.height
    # The first of two stages has half the sides, and its canvas too is one that the model renders.
    step, least = card.size_step * full.stages, full.stages**2
    area = card.pixels * least
    if card.areas:
        area = min(max(asked, card.areas[0] * least), card.areas[-1])
    width, height = choose_canvas(full.width, full.height, area, step)
    precision, why = choose_precision(hardware, sum(card.part_bytes.values()))
    because = [hardware.because, why]
    if full.stages > 1:
        stages = "denoised at {size}, refined at twice the sides"
        because.append(Said("said.stages", stages, size=f"{width // 2}×{height // 2}"))
    if (width, height) != (full.width, full.height):
        sizes = {"canvas": f"{width}×{height}", "size": f"{full.width}×{full.height}"}
        done = Said("said.denoised", "denoised")
        if full.stages > 1:
            done = Said("said.refined", "refined")
        told = ("said.reduced", "{done} at {canvas}, reduced to {size}")
        if asked > width * height:
            told = ("said.enlarged", "{done} at {canvas}, enlarged to {size}")
        because.append(Said(*told, done=done, **sizes))
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
            size_step=step,
            stages=full.stages,
            placement=dict.fromkeys(STAGES[1:], "resident"),
            cache=full.cache or "",
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
            told = "{less} instead of {more} at once to save memory"
            yield Said("said.batch", told, less=batch // 2, more=batch)
            batch //= 2
    if plan.tile:
        kinds = {
            "content": Said("said.content", "tiles laid by content"),
            "uniform": Said("said.even", "even tiles"),
        }
        kind = kinds.get(plan.tiling, Said("said.tiles", "tiles"))
        told = "decoded in {kind} of {side} pixels to save memory"
        yield Said("said.tile", told, kind=kind, side=plan.tile)
    if plan.chunk:
        told = "decoded {count} frames at a time, handed on as they come, to save memory"
        yield Said("said.chunk", told, count=plan.chunk)


def _explain_large(plan: Plan, fitting: Sequence[Plan]) -> Iterator[str]:
    """Yield where the weights of a large model are and in which form, and how it is computed."""
    assert plan.basis is not None
    pool = plan.device != "cuda"
    ram, disk = (
        Said("said.whole_ram", "whole from RAM"),
        Said("said.whole_disk", "whole from the disk"),
    )
    words = {
        "model": disk if pool else ram,
        "group": Said("said.blocks_ram", "in blocks from RAM"),
        "disk": Said("said.blocks_disk", "in blocks from the disk"),
    }
    if "resident" in plan.placement.values():
        yield Said("said.resident", "all weights stay on the device, which is fastest")
    else:
        told = (
            "the text encoder comes {encode}, the denoiser {denoise}, the decoder {decode}, as "
            "all weights at once do not fit"
        )
        places = {stage: words[plan.placement[stage]] for stage in ("encode", "denoise", "decode")}
        yield Said("said.apart", told, **places)
    if plan.pinned:
        told = "the denoiser's RAM is pinned, which lets blocks arrive ahead of their use"
        yield Said("said.pinned", told)
    if plan.quantisation:
        bits = {"bits": plan.quantisation, "full": plan.precision}
        full = [one.seconds for one in fitting if not one.quantisation]
        if full:
            told = "weights in {bits}, as those in {full} would take {seconds:,.0f} s"
            yield Said("said.bits_slow", told, **bits, seconds=min(full))
        else:
            yield Said("said.bits", "weights in {bits}, as those in {full} do not fit", **bits)
    if plan.batch > 1:
        told = "{count} clips at once, as they share the weights that travel"
        yield Said("said.together", told, count=plan.batch)
    if plan.attention == "sliced":
        told = "attention of 1,024 queries at a time, as Apple's kernel keeps all scores"
        yield Said("said.sliced", told)
    if plan.compiled:
        yield Said("said.compiled", "compiled, which pays back within this job")
    if plan.cache:
        told = "step cache {name}, which changes the result; the time that it saves is not counted"
        yield Said("said.cache", told, name=plan.cache)
    else:
        yield Said("said.no_cache", "no step cache, as it would change the picture")
    if plan.device == "cuda":
        told = "{count} MB of free GPU memory left to the browser"
        yield Said("said.browser", told, count=BROWSER_BYTES // 2**20)
