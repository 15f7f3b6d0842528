"""How much memory a plan takes on the device and in RAM, per stage, by named terms.

On the device a stage holds `weights + slack × work + reserve`, with this work:

    load     none, but that of a model without parts a file stands beside its weights (load)
    encode   text: prompt tokens × values alive per token, or the connectors;
             one picture, encoded at the cost of a decoded frame, or a reference:
             encode × pixels × frames
    denoise  tokens × batch × width × denoise, twice where guidance doubles the batch (cfg_batch);
             blocks do not add up, as nothing is kept for a backward pass; LoRAs are weights
             beside those of the denoiser at work, in the precision of the arithmetic;
             sliced attention: queries × tokens × heads × 4 bytes; torch's fused kernel: nothing;
             a step cache: tokens × width × what it keeps of a run, for each run of a step
    refine   a second stage: as denoise, of one clip on the whole canvas, but at least the network
             that doubles latents (upscaler); the first stage then has half the sides
    decode   out = 3 colours × pixels × frames; whole: decode × pixels × frames
             + decode_pixel × pixels of a frame + decode_whole × out; in tiles the same of one tile
             + decode_part × out, but at least decode_least × out; plus a second of sound each;
             out is a chunk's frames where these are handed on as they come

Only the denoiser takes several clips at once; they are encoded and decoded one by one.
The coefficients are a card's `memory`, fitted to traces of the real configurations; those of the
AIPROD v2 family are its defaults: a transformer keeps about twelve widths a token alive, which is
close to half the square root of a token's arithmetic, and its decoder 64 values a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache

from aiprod_studio.types import (
    Basis,
    ModelCard,
    Part,
    Plan,
    Request,
    frame_count,
    read_cache,
)

STAGES = ("load", "encode", "denoise", "decode")
"""The stages of every clip; those of one plan are `stages_of`."""

VALUE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# The parts that a stage needs; what is not named here is the denoiser's.
PARTS = {
    "encode": ("text_encoder", "connectors"),
    "decode": ("vae", "audio_vae", "vocoder"),
}
# Group offload keeps the running block and the one ahead of it.
STREAMED_BLOCKS = 2
SLICED_QUERIES = 1024
SCORE_BYTES = 4
# What a step cache keeps from step to step, in tensors of all tokens: a block's result, what it
# changed and what all the others did; what came in and what was changed.
CACHED = {"first-block": 3, "mag": 2}
# Assumption: Python, torch, the driver's share and the web page.
PROCESS_BYTES = 2 * 10**9
# Mapped files cost nothing; the largest tensor of the catalogue, UMT5's table of 256,384 words of
# 4,096 values in 32 bits, stands beside its 16-bit copy while it is loaded.
LOADING_BYTES = 256_384 * 4096 * 6


def basis_of(plan: Plan) -> Basis:
    """Return what a plan was made from; only plans of `choose_plan` have it."""
    assert plan.basis is not None
    return plan.basis


def stages_of(plan: Plan) -> tuple[str, ...]:
    """Return the stages of a plan, in order: with "refine" where it has a second one."""
    return STAGES if plan.stages == 1 else (*STAGES[:-1], "refine", STAGES[-1])


def shares_memory(plan: Plan) -> bool:
    """Say whether the device and the RAM are one pool, as on a CPU and on Apple's chips."""
    return plan.device != "cuda"


def count_tokens(plan: Plan, shrunk: int = 1) -> int:
    """Return the denoiser's tokens of one clip, on a canvas whose sides are `shrunk` times less.

    Its reference, which may be shorter or smaller, is counted as another clip.
    """
    basis = basis_of(plan)
    step = basis.card.size_step * shrunk
    cells = (plan.width // step) * (plan.height // step)
    clips = 1 if basis.request.reference is None else 2
    return clips * cells * ((plan.frames - 1) // basis.card.frame_step + 1)


def count_passes(request: Request) -> int:
    """Return the denoiser's evaluations a step: two when guided, one when not."""
    return 1 if request.guidance in (0.0, 1.0) else 2


@cache
def stage_of(part: str) -> str:
    """Return the stage that a part works in."""
    return next((stage for stage, names in PARTS.items() if part in names), "denoise")


def part_size(plan: Plan, name: str) -> int:
    """Return the bytes of a part's weights as planned; decoders are never quantised."""
    part = basis_of(plan).card.parts[name]
    if plan.quantisation and stage_of(name) != "decode":
        return part.sizes[plan.quantisation]
    return part.sizes[plan.precision]


def stage_sizes(plan: Plan, stage: str) -> dict[str, int]:
    """Return the bytes of each part that works in a stage, as planned."""
    parts = basis_of(plan).card.parts
    return {name: part_size(plan, name) for name in parts if stage_of(name) == stage}


def lora_bytes(plan: Plan, stage: str) -> int:
    """Return the bytes of the LoRAs of the denoiser at work, one at a time, 0 in other stages."""
    parts = basis_of(plan).card.parts
    names = parts if stage in ("denoise", "refine") else ()
    return max((_lora_size(plan, parts[name]) for name in names), default=0)


def _lora_size(plan: Plan, part: Part) -> int:
    """Return the bytes that LoRAs add to a part; they are never quantised."""
    return part.loras * VALUE_BYTES[plan.precision]


def streamed_share(part: Part) -> float:
    """Return the share of a part that is on the device while it streams; 1 without blocks."""
    if not part.blocks:
        return 1.0
    return min(1.0, part.outside + STREAMED_BLOCKS * (1 - part.outside) / part.blocks)


def device_peaks(plan: Plan) -> dict[str, int]:
    """Return the predicted peak on the device per stage, in bytes."""
    memory = basis_of(plan).card.memory
    work = {
        "load": 0.0,
        "encode": _encode_bytes(plan),
        "denoise": plan.batch * _denoise_bytes(plan, count_tokens(plan, plan.stages)),
        "decode": _decode_bytes(plan),
    }
    if plan.stages > 1:
        work["refine"] = max(_denoise_bytes(plan, count_tokens(plan)), memory.upscaler)
    return {
        stage: math.ceil(device_weights(plan, stage) + memory.slack * work[stage] + memory.reserve)
        for stage in stages_of(plan)
    }


def host_peaks(plan: Plan) -> dict[str, int]:
    """Return the predicted peak in RAM per stage, in bytes.

    Where device and RAM are one pool, it is the device's peak with the finished frames.
    """
    basis = basis_of(plan)
    finished = waiting_bytes(plan)
    if shares_memory(plan):
        peaks = device_peaks(plan)
        return {**peaks, "decode": peaks["decode"] + finished}
    kept = PROCESS_BYTES + kept_bytes(plan)
    loading = min(LOADING_BYTES, max((p.stored for p in basis.card.parts.values()), default=0))
    more = {"load": loading, "decode": finished}
    if plan.placement.get("denoise", "resident") != "resident":
        # However the weights travel, LoRAs do so from RAM.
        for stage in ("denoise", "refine"):
            more[stage] = lora_bytes(plan, stage)
    return {stage: kept + more.get(stage, 0) for stage in stages_of(plan)}


def kept_bytes(plan: Plan) -> int:
    """Return the bytes of weights that stay in RAM because the device does not keep them."""
    return sum(
        sum(stage_sizes(plan, stage).values())
        for stage, placement in plan.placement.items()
        if placement in ("model", "group")
    )


def pinned_bytes(plan: Plan) -> int:
    """Return the bytes of the denoiser's weights in RAM that the system may not move."""
    if not plan.pinned:
        return 0
    return sum(stage_sizes(plan, "denoise").values()) + lora_bytes(plan, "denoise")


def finished_bytes(request: Request, card: ModelCard) -> int:
    """Return the bytes of the finished frames, once as they are and once being enlarged."""
    assert request.width is not None
    assert request.height is not None
    return request.width * request.height * frame_count(request, card) * 3 * 2


def waiting_bytes(plan: Plan) -> int:
    """Return the bytes of finished frames that are in RAM at once.

    They are written as they come: of chunks one is written, one waits, and one is being enlarged.
    """
    basis = basis_of(plan)
    whole = finished_bytes(basis.request, basis.card)
    return min(whole, whole * 3 * plan.chunk // (2 * plan.frames)) if plan.chunk else whole


def device_weights(plan: Plan, stage: str) -> int:
    """Return the bytes of weights on the device in a stage."""
    card = basis_of(plan).card
    if not card.parts:
        kept = sum(card.part_bytes.values()) * VALUE_BYTES[plan.precision] // 2
        return kept + (round(card.memory.load) if stage == "load" else 0)
    if "resident" in plan.placement.values():
        return sum(part_size(plan, name) for name in card.parts) + lora_bytes(plan, stage)
    if stage == "load":
        return 0
    return max(_shown(plan, stage), default=0)


def _shown(plan: Plan, stage: str) -> Iterable[int]:
    """Yield what each part of a stage has on the device while it works; decoders work together."""
    # Both stages of a clip are the denoiser's.
    stage = "denoise" if stage == "refine" else stage
    sizes = stage_sizes(plan, stage)
    if stage == "decode":
        yield sum(sizes.values())
        return
    streams = plan.placement[stage] in ("group", "disk")
    for name, size in sizes.items():
        part = basis_of(plan).card.parts[name]
        share = streamed_share(part) if streams else 1.0
        # In one pool LoRAs are whole where blocks bring their share of them.
        beside = _lora_size(plan, part) * (1.0 if shares_memory(plan) else share)
        yield math.ceil(size * share + beside)


def _token_bytes(plan: Plan) -> float:
    """Return the bytes that one token keeps alive in the denoiser."""
    return basis_of(plan).card.memory.denoise * _width_bytes(plan)


def _width_bytes(plan: Plan) -> float:
    """Return the bytes of one token between two blocks."""
    card = basis_of(plan).card
    width = card.memory.width or math.sqrt(card.flops_per_token)
    return width * VALUE_BYTES[plan.precision]


def _cached_bytes(plan: Plan, tokens: int) -> float:
    """Return the bytes that a step cache keeps of one clip; the few of its sound are left out."""
    if not plan.cache:
        return 0.0
    name, _ = read_cache(plan.cache)
    return CACHED[name] * count_passes(basis_of(plan).request) * tokens * _width_bytes(plan)


def _encode_bytes(plan: Plan) -> float:
    """Return the working memory of encoding a prompt, and a picture or a reference."""
    basis = basis_of(plan)
    memory = basis.card.memory
    prompt = memory.prompt_tokens * _token_bytes(plan)
    pixel, size = 0.0, VALUE_BYTES[plan.precision] / 2
    if basis.request.reference is not None:
        pixel = memory.encode * size * plan.frames
    elif basis.request.pictured:
        pixel = memory.decode * size + _pixel_bytes(plan)
    return max(prompt, memory.connectors) + plan.width * plan.height * pixel


def _denoise_bytes(plan: Plan, tokens: int) -> float:
    """Return the memory of denoising one clip: activations, guidance, attention, step cache."""
    basis = basis_of(plan)
    memory = basis.card.memory
    double = memory.cfg_batch if count_passes(basis.request) > 1 else 1
    attention = 0
    if plan.attention == "sliced":
        attention = min(SLICED_QUERIES, tokens) * tokens * memory.heads * SCORE_BYTES
    return double * (tokens * _token_bytes(plan) + attention) + _cached_bytes(plan, tokens)


def _decode_bytes(plan: Plan) -> float:
    """Return the working memory of decoding one clip, whole or in tiles."""
    basis = basis_of(plan)
    memory, size = basis.card.memory, VALUE_BYTES[plan.precision]
    width = min(plan.tile or plan.width, plan.width)
    height = min(plan.tile or plan.height, plan.height)
    frames = min(plan.chunk or plan.frames, plan.frames)
    # Frames that are handed on leave the device.
    kept = frames if plan.tiling == "stream" else plan.frames
    out = 3 * size * plan.width * plan.height * kept
    tile = memory.decode * size / 2 * width * height * frames + _pixel_bytes(plan) * width * height
    if plan.tile or plan.chunk:
        least = memory.decode_least_in_time if plan.chunk else memory.decode_least
        work = max(tile + memory.decode_part * out, least * out)
    else:
        work = tile + memory.decode_whole * out
    assert basis.request.seconds is not None
    sound = memory.sound * basis.request.seconds if basis.request.audio else 0.0
    return max(work, sound)


def _pixel_bytes(plan: Plan) -> float:
    """Return the bytes that a decoder keeps per pixel of one frame, whatever the frames."""
    known = basis_of(plan).card.memory.decode_pixel
    return known.get(plan.precision, known.get("bfloat16", 0.0))
