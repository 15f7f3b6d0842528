"""The way down when memory runs out: one rung at a time, speed before quality."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

from aiprod_studio.hardware.budget import pin
from aiprod_studio.hardware.canvas import choose_canvas, first_stage
from aiprod_studio.hardware.duration import stage_seconds
from aiprod_studio.hardware.memory import (
    device_peaks,
    host_peaks,
    pinned_bytes,
    shares_memory,
    stages_of,
)
from aiprod_studio.types import Plan

SMALLEST_SIDE = 64
# Weights in fewer bits, the finest first; float8 and int8 take the same memory.
COARSER = ("float8", "int8", "int4")
# From here on the RAM may be what ran out, though the device says that it did.
TIGHT_RAM = 0.7


def cheaper(plan: Plan, stage: str = "") -> Plan | None:
    """Return the next plan down that needs less memory, with its reason, or None at the end.

    First what costs time: a smaller batch, smaller decoder tiles, fewer frames at once, weights
    that leave the device, that stream, that stay on the disk. Then what costs a little quality,
    weights in fewer bits, and only last a smaller canvas. Where it is known in which `stage` memory
    ran out, what lowers that one's peak goes before all that does not.
    """
    found = [below for rung in RUNGS if (below := rung(plan)) is not None]
    helping = [below for below in found if _helps(plan, below, stages_of(plan))]
    first = [below for below in helping if stage and _helps(plan, below, (stage,))]
    return next(iter(first or helping), None)


def predict(plan: Plan) -> Plan:
    """Return `plan` with its peaks and seconds; one that has no basis keeps what it says."""
    if plan.basis is None:
        return plan
    times = stage_seconds(plan)
    return dataclasses.replace(
        plan,
        peak_bytes=device_peaks(plan),
        ram_bytes=host_peaks(plan),
        stage_seconds=times,
        seconds=sum(times.values()),
    )


def smaller_tile(plan: Plan) -> Plan | None:
    """Return `plan` with decoder tiles of about half the side, or None when that helps no more."""
    longest = max(plan.width, plan.height)
    side = min(plan.tile or longest, longest)
    tile = math.ceil(side / 2 / plan.size_step) * plan.size_step
    if tile < max(SMALLEST_SIDE, 2 * _usual_overlap(plan)) or tile >= side:
        return None
    changed = dataclasses.replace(plan, tile=tile, overlap=choose_overlap(plan, tile))
    changed = dataclasses.replace(changed, tiling=choose_tiling(changed))
    return _lower(changed, f"decoded in tiles of {tile} pixels")


def shorter_chunk(plan: Plan) -> Plan | None:
    """Return `plan` with fewer frames decoded at once, or None where the model has no such way."""
    known = plan.basis.card.memory.chunks if plan.basis else ()
    chunk = max((one for one in known if one < (plan.chunk or plan.frames)), default=None)
    if chunk is None:
        return None
    changed = dataclasses.replace(plan, chunk=chunk, tiling="stream")
    return _lower(changed, f"decoded {chunk} frames at a time")


def choose_tiling(plan: Plan) -> str:
    """Return the way of decoding in the plan's tiles and chunks.

    Tiles are laid by content where their seams were measured, on the native family's decoder;
    large models get even ones.
    """
    if plan.chunk:
        return "stream"
    if not plan.tile:
        return "none"
    return "uniform" if plan.basis and plan.basis.card.parts else "content"


def choose_overlap(plan: Plan, tile: int) -> int:
    """Return the pixels that tiles share, so that no last tile is thinner than two latents.

    Some decoders mirror their edges, which a single latent does not allow.
    """
    step = plan.size_step
    first = _usual_overlap(plan)
    wider, narrower = range(first, tile // 2 + 1, step), range(first - step, 0, -step)
    for overlap in itertools.chain(wider, narrower):
        if all(_last_tile(side, tile, overlap) >= 2 * step for side in (plan.width, plan.height)):
            return overlap
    return first


def coarser_weights(plan: Plan) -> str | None:
    """Return the next quantisation that the device has kernels for and the model sizes, or None."""
    if plan.basis is None or not plan.basis.card.parts:
        return None
    start = COARSER.index(plan.quantisation) + 1 if plan.quantisation else 0
    for name in COARSER[start:]:
        if (plan.quantisation, name) != ("float8", "int8") and name in plan.basis.hardware.dtypes:
            return name
    return None


def _helps(plan: Plan, below: Plan, stages: tuple[str, ...]) -> bool:
    """Say whether a rung lowers a peak of `stages`; nobody knows it of a plan without a basis."""
    if plan.basis is None or pinned_bytes(below) < pinned_bytes(plan):
        return True
    return any(
        after.get(stage, 0) < before[stage]
        for before, after in (
            (plan.peak_bytes, below.peak_bytes),
            (plan.ram_bytes, below.ram_bytes),
        )
        for stage in stages
        if stage in before
    )


def _lower(changed: Plan, reason: str) -> Plan:
    """Return the changed plan, predicted anew, with its reason."""
    because = (*changed.because, f"{reason} to save memory")
    return predict(dataclasses.replace(changed, because=because))


def _usual_overlap(plan: Plan) -> int:
    """Return the pixels that tiles of this model share where nothing speaks against it."""
    return plan.basis.card.memory.overlap if plan.basis else 0


def _last_tile(side: int, tile: int, overlap: int) -> int:
    """Return the pixels of the last tile of a side, where each starts a stride after the other."""
    stride = tile - overlap
    return side - (math.ceil(side / stride) - 1) * stride if tile < side else side


def smaller_batch(plan: Plan) -> Plan | None:
    """Return `plan` with half the batch, or None when it is one clip."""
    if plan.batch <= 1:
        return None
    batch = plan.batch // 2
    changed = dataclasses.replace(plan, batch=batch)
    return _lower(changed, f"{batch} instead of {plan.batch} at once")


def _move(plan: Plan, origin: str, target: str, reason: str) -> Plan | None:
    """Return `plan` with the weights that were placed at `origin` at `target`, or None."""
    if origin not in plan.placement.values():
        return None
    moved = {
        stage: target if place == origin and (stage != "decode" or target == "model") else place
        for stage, place in plan.placement.items()
    }
    return _lower(pin(dataclasses.replace(plan, placement=moved)), reason)


def _offload(plan: Plan) -> Plan | None:
    """Return `plan` with only the weights of the running stage on the device."""
    if plan.basis is None or not plan.basis.card.parts:
        return None
    return _move(plan, "resident", "model", "only the weights of each stage on the device")


def _stream(plan: Plan) -> Plan | None:
    """Return `plan` with weights streaming in blocks, from the disk where the RAM is the device."""
    if shares_memory(plan):
        return _move(plan, "model", "disk", "weights streamed from the disk")
    return _move(plan, "model", "group", "weights streamed in blocks")


def _unpin(plan: Plan) -> Plan | None:
    """Return `plan` with weights that the system may move, where the RAM may be what ran out."""
    if not plan.pinned or not _tight(plan):
        return None
    return _lower(dataclasses.replace(plan, pinned=False), "streamed from RAM that is not pinned")


def _from_disk(plan: Plan) -> Plan | None:
    """Return `plan` with streaming weights left on the disk, where the RAM may be what ran out."""
    if "group" not in plan.placement.values() or not _tight(plan):
        return None
    return _move(plan, "group", "disk", "weights streamed from the disk")


def _tight(plan: Plan) -> bool:
    """Say whether the plan fills so much of the RAM that it may be what ran out."""
    assert plan.basis is not None
    return max(plan.ram_bytes.values()) > TIGHT_RAM * plan.basis.hardware.ram_free_bytes


def _fewer_bits(plan: Plan) -> Plan | None:
    """Return `plan` with weights in fewer bits, or None when there are no fewer."""
    name = coarser_weights(plan)
    if name is None:
        return None
    return _lower(dataclasses.replace(plan, quantisation=name), f"weights in {name}")


def _one_stage(plan: Plan) -> Plan | None:
    """Return `plan` without its second stage; what the first one made stays of use."""
    if plan.stages == 1:
        return None
    first = dataclasses.replace(first_stage(plan), size_step=plan.size_step // 2)
    return _lower(_with_tiles(first, plan), f"not refined at {plan.width}×{plan.height}")


def _smaller_canvas(plan: Plan) -> Plan | None:
    """Return `plan` with about half the canvas's area, or None when it would be too small."""
    if plan.stages > 1:
        return None
    pixels = plan.width * plan.height // 2
    width, height = choose_canvas(plan.width, plan.height, pixels, plan.size_step)
    if min(width, height) < SMALLEST_SIDE or width * height >= plan.width * plan.height:
        return None
    changed = _with_tiles(dataclasses.replace(plan, width=width, height=height), plan)
    return _lower(changed, f"denoised at {width}×{height} instead of {plan.width}×{plan.height}")


def _with_tiles(changed: Plan, plan: Plan) -> Plan:
    """Return a plan of a smaller canvas with the tiles of `plan`, as far as it fills them."""
    tile = plan.tile if 0 < plan.tile < max(changed.width, changed.height) else 0
    overlap = choose_overlap(changed, tile) if tile else 0
    changed = dataclasses.replace(changed, tile=tile, overlap=overlap)
    return dataclasses.replace(changed, tiling=choose_tiling(changed))


RUNGS: tuple[Callable[[Plan], Plan | None], ...] = (
    smaller_batch,
    smaller_tile,
    shorter_chunk,
    _offload,
    _stream,
    _unpin,
    _from_disk,
    _fewer_bits,
    _one_stage,
    _smaller_canvas,
)
