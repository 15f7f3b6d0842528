"""How long a plan takes per stage, in seconds for one clip; what is assumed is marked so."""

from __future__ import annotations

import math

from aiprod_studio.hardware.memory import (
    basis_of,
    count_passes,
    count_tokens,
    part_size,
    shares_memory,
    stage_sizes,
    stages_of,
)
from aiprod_studio.types import SHARED_FRAMES, Plan

# Assumption for cards whose 16-bit rate nobody knows: a GeForce of the RTX 40 series multiplies
# 16-bit matrices at twice its 32-bit rate, clocks at 5/3 of what `probe` assumes, and reaches 0.7
# of that: Wan's makers report 4 minutes for 832×480×81 by the 1.3B model on an RTX 4090.
HALF_RATIO = 2 * 5 / 3 * 0.7
# Reported for Wan 14B on an H100, a step: 4.6 s, 3.77 s compiled, 4.92 s offloaded.
COMPILED = 3766 / 4602
STREAMED = 4918 / 4602
# Assumption: tiny models took 37 to 99 s on one slow core; real blocks are larger, cores faster.
COMPILE_SECONDS = 90.0
# Assumption: what unpacking weights costs on top of the arithmetic.
QUANTISED = {"": 1.0, "float8": 1.05, "int8": 1.1, "int4": 1.2}
# Assumption: what quantising adds to loading, in bytes a second of the files.
QUANTISE_RATE = 2e9
# Two products of queries and keys, and scores and values, at two operations each.
ATTENTION_FLOPS = 4
# Measured on the starter: what content-aware tiles decode twice, as a share of what even ones do.
CONTENT_SHARE = 0.75


def stage_seconds(plan: Plan) -> dict[str, float]:
    """Return the predicted seconds of one clip per stage."""
    steps = basis_of(plan).request.steps
    assert steps is not None
    work = steps * step_seconds(plan, count_tokens(plan, plan.stages))
    found = {
        "load": _load_seconds(plan),
        "encode": _encode_seconds(plan),
        "denoise": _denoise_seconds(plan, work, steps, plan.batch),
        "decode": _decode_seconds(plan),
    }
    if plan.stages > 1:
        found["refine"] = _refine_seconds(plan)
    return {stage: found[stage] for stage in stages_of(plan)}


def tile_work(plan: Plan) -> float:
    """Return the area of all tiles with their overlaps, as a multiple of the canvas."""
    even = _cover(plan.width, plan) * _cover(plan.height, plan)
    return 1 + (even - 1) * (CONTENT_SHARE if plan.tiling == "content" else 1.0)


def _cover(length: int, plan: Plan) -> float:
    """Return how often one side of the canvas is decoded, overlaps being decoded twice."""
    if not 0 < plan.tile < length:
        return 1.0
    tiles = math.ceil((length - plan.overlap) / (plan.tile - plan.overlap))
    return 1 + (tiles - 1) * plan.overlap / length


def arithmetic_rate(plan: Plan) -> float:
    """Return the operations a second that the plan's precision reaches on the device."""
    hardware = basis_of(plan).hardware
    if plan.precision == "float32":
        return hardware.flops
    return hardware.half_flops or hardware.flops * (HALF_RATIO if plan.device == "cuda" else 1.0)


def _load_seconds(plan: Plan) -> float:
    """Return how long the weights take from the disk, and into fewer bits."""
    card, disk_rate = basis_of(plan).card, basis_of(plan).hardware.disk_rate
    stored = sum(part.stored for part in card.parts.values()) or sum(card.part_bytes.values())
    return stored / disk_rate + (stored / QUANTISE_RATE if plan.quantisation else 0.0)


def transfer_seconds(plan: Plan, stage: str) -> float:
    """Return the seconds that bringing the weights of a stage to the device takes, once."""
    return _copy_seconds(plan, stage, sum(stage_sizes(plan, stage).values()))


def _copy_seconds(plan: Plan, stage: str, size: float) -> float:
    """Return the seconds that `size` bytes of weights take from where the plan keeps them."""
    placement, hardware = plan.placement.get(stage, "resident"), basis_of(plan).hardware
    if placement == "resident":
        return 0.0
    if placement == "disk" or shares_memory(plan):
        return size / hardware.disk_rate
    pinned = plan.pinned and stage == "denoise"
    return size / (hardware.pinned_rate if pinned else hardware.pageable_rate)


def _encode_seconds(plan: Plan) -> float:
    """Return the time of the text encoder, which reads each of its weights once."""
    basis = basis_of(plan)
    parts = [basis.card.parts[name] for name in stage_sizes(plan, "encode")]
    weights = sum(part.sizes["bfloat16"] / 2 for part in parts)
    tokens = basis.card.memory.prompt_tokens * count_passes(basis.request)
    work = 2 * weights * tokens / arithmetic_rate(plan) * QUANTISED[plan.quantisation]
    return max(work, transfer_seconds(plan, "encode"))


def step_seconds(plan: Plan, tokens: int) -> float:
    """Return the time of one step's arithmetic, weights being where they are needed."""
    basis = basis_of(plan)
    card = basis.card
    blocks = max((card.parts[name].blocks for name in stage_sizes(plan, "denoise")), default=0)
    attention = ATTENTION_FLOPS * tokens**2 * card.memory.width * blocks
    work = (tokens * card.flops_per_token + attention) / arithmetic_rate(plan)
    factor = QUANTISED[plan.quantisation] * (COMPILED if plan.compiled else 1.0)
    return work * count_passes(basis.request) * factor


def _refine_seconds(plan: Plan) -> float:
    """Return the time of the second stage: the network that doubles latents is read, then steps."""
    card = basis_of(plan).card
    work = card.refine_steps * step_seconds(plan, count_tokens(plan))
    steps = _denoise_seconds(plan, work, card.refine_steps, 1)
    return steps + card.memory.upscaler / basis_of(plan).hardware.disk_rate


def _denoise_seconds(plan: Plan, work: float, steps: int, batch: int) -> float:
    """Return the time of steps whose arithmetic takes `work` seconds in all.

    Blocks stream from RAM while the ones before them compute; files are read in between.
    """
    basis = basis_of(plan)
    placement = plan.placement.get("denoise", "resident")
    if placement == "model":
        work += transfer_seconds(plan, "denoise") / batch
    elif placement != "resident":
        copies = steps * count_passes(basis.request) * _stream_seconds(plan) / batch
        work = max(work * STREAMED, copies) if placement == "group" else work + copies
    return work + (COMPILE_SECONDS / basis.clips if plan.compiled else 0.0)


def _stream_seconds(plan: Plan) -> float:
    """Return the seconds that the blocks of one evaluation take to the device."""
    parts = basis_of(plan).card.parts
    largest = max(stage_sizes(plan, "denoise"), key=lambda name: part_size(plan, name))
    return _copy_seconds(plan, "denoise", part_size(plan, largest) * (1 - parts[largest].outside))


def _decode_seconds(plan: Plan) -> float:
    """Return the time of decoding every pixel, more often where tiles and chunks overlap."""
    pixels = plan.width * plan.height * plan.frames * tile_work(plan)
    if 0 < plan.chunk < plan.frames:
        pixels *= plan.chunk / max(1, plan.chunk - SHARED_FRAMES)
    work = pixels * basis_of(plan).card.memory.pixel_flops / arithmetic_rate(plan)
    return work + transfer_seconds(plan, "decode")
