"""What fits on this machine: a plan with its predicted memory and time, and why.

The predictions are simple on purpose. A denoiser of `flops_per_token` has half as many weights,
one token stands for a cell of size_step × size_step pixels × frame_step frames, and on the device:

    load     the weights, two bytes each on disk, in the plan's precision
    encode   load + the values that the prompt's tokens keep alive + one picture in the encoder
    denoise  load + tokens × batch × values alive per token, twice when guided
    decode   load + pixels of one tile × frames × batch × values alive per pixel
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

from aiprod_studio.errors import DoesNotFit
from aiprod_studio.types import ModelCard, Plan, Request, complete, frame_count

VALUE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# A transformer keeps about twelve widths a token alive; at the usual depths that is close to half
# the square root of a token's arithmetic.
TOKEN_VALUES_PER_ROOT_FLOP = 0.5
PROMPT_TOKENS = 256
PIXEL_VALUES = 64
PIXEL_FLOPS = 2e5
LOAD_BYTES_PER_SECOND = 1e9
# Weights below this cost little in full precision, in which every device computes alike.
FULL_PRECISION_BYTES = 512 * 2**20
# The rest is what allocators lose between blocks and what other programs take meanwhile.
MEMORY_SHARE = 0.9
SMALLEST_SIDE = 64
FILE_BYTES = 16 * 2**20
TILE_SECONDS = 1.1


@dataclass(frozen=True)
class Hardware:
    """This machine: `device` is cuda, mps or cpu; sizes are bytes; `flops` a second are estimated.

    `total_bytes` and `free_bytes` are the device's memory (the RAM on a CPU), `disk_free_bytes`
    the space for outputs, `dtypes` the precisions that run well, `because` why this device.
    """

    device: str
    name: str
    total_bytes: int
    free_bytes: int
    ram_bytes: int
    ram_free_bytes: int
    cores: int
    disk_free_bytes: int
    dtypes: tuple[str, ...]
    because: str
    flops: float = 1e11


def choose_plan(hardware: Hardware, card: ModelCard, request: Request, clips: int = 1) -> Plan:
    """Return the best plan that fits `hardware`, for up to `clips` clips at once.

    Raises `BadRequest` when the model cannot make the clip at all, and `DoesNotFit` when even
    the smallest plan needs more memory or disk than is free.
    """
    full = complete(request, card)
    _check_room(hardware, full, frame_count(full, card))
    limit = int(hardware.free_bytes * MEMORY_SHARE)
    plan = _best_plan(hardware, card, full, max(1, clips))
    while (peak := max(plan.peak_bytes.values())) > limit:
        less = cheaper(plan)
        if less is None:
            raise DoesNotFit(
                f"Even at {plan.width}×{plan.height} {card.name} needs {_gigabytes(peak)} of "
                f"memory for {plan.frames} frames, and {hardware.name} can give "
                f"{_gigabytes(limit)}. Close other programs, ask for fewer seconds or choose a "
                "smaller engine."
            )
        plan = less
    return plan


def cheaper(plan: Plan) -> Plan | None:
    """Return the next plan down that needs less memory, with its reason, or None at the end.

    First a smaller batch, then smaller decoder tiles, then a smaller canvas.
    """
    return _smaller_batch(plan) or _smaller_tile(plan) or _smaller_canvas(plan)


def choose_canvas(width: int, height: int, pixels: int, step: int) -> tuple[int, int]:
    """Return the canvas of about `pixels` area, in pixels, for a clip of `width` × `height`.

    Its sides are multiples of `step` and keep the aspect as far as that allows.
    """
    if width * height == pixels and width % step == height % step == 0:
        return width, height

    def distance(size: tuple[int, int]) -> float:
        aspect = math.log(size[0] * height / (size[1] * width))
        area = math.log(size[0] * size[1] / pixels)
        return abs(aspect) + abs(area) / 2

    return min(_near_sizes(width, height, pixels, step), key=distance)


def _near_sizes(width: int, height: int, pixels: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield the sizes around the ideal one whose sides are multiples of `step`."""
    scale = math.sqrt(pixels / (width * height)) / step
    columns, rows = math.floor(width * scale), math.floor(height * scale)
    for column in range(columns - 1, columns + 3):
        for row in range(rows - 1, rows + 3):
            if column > 0 and row > 0:
                yield column * step, row * step


def choose_precision(hardware: Hardware, weight_bytes: int) -> tuple[str, str]:
    """Return the precision for weights of `weight_bytes` on disk, and why."""
    if weight_bytes <= FULL_PRECISION_BYTES:
        return "float32", "float32, as the model is small"
    for precision in ("bfloat16", "float16"):
        if precision in hardware.dtypes:
            return precision, f"{precision}, which {hardware.name} computes fast"
    return "float32", f"float32, as {hardware.name} has nothing shorter that is fast"


def _check_room(hardware: Hardware, full: Request, frames: int) -> None:
    """Raise `DoesNotFit` when the finished clip fits neither the RAM nor the disk."""
    assert full.width is not None
    assert full.height is not None
    # The frames once as they are and once as they are being enlarged.
    finished = full.width * full.height * frames * 3 * 2
    if finished > hardware.ram_free_bytes * MEMORY_SHARE:
        raise DoesNotFit(
            f"The finished frames take {_gigabytes(finished)} and {hardware.name} has "
            f"{_gigabytes(hardware.ram_free_bytes)} of RAM free. "
            "Ask for a smaller size or fewer seconds."
        )
    file = FILE_BYTES + finished // 20
    if hardware.disk_free_bytes < file:
        raise DoesNotFit(
            f"The disk for outputs has {hardware.disk_free_bytes / 2**20:,.0f} MB free and the "
            f"clip may take {file / 2**20:,.0f} MB. "
            "Free some space, or set AIPROD_OUTPUTS to a folder on another disk."
        )


def _best_plan(hardware: Hardware, card: ModelCard, full: Request, clips: int) -> Plan:
    """Return the plan of the best quality, whether it fits or not."""
    assert full.width is not None
    assert full.height is not None
    frames = frame_count(full, card)
    width, height = choose_canvas(full.width, full.height, card.pixels, card.size_step)
    on_disk = sum(card.part_bytes.values())
    precision, why = choose_precision(hardware, on_disk)
    because = [hardware.because, why]
    if (width, height) != (full.width, full.height):
        verb = "enlarged" if full.width * full.height > width * height else "reduced"
        because.append(
            f"denoised at {width}×{height}, {verb} to {full.width}×{full.height} by Lanczos"
        )
    return Plan(
        device=hardware.device,
        precision=precision,
        width=width,
        height=height,
        frames=frames,
        batch=clips,
        tile=0,
        peak_bytes=_peak_bytes(card, full, (width, height, frames), clips, precision),
        seconds=_seconds(hardware, card, full, (width, height, frames)),
        because=tuple(because),
        size_step=card.size_step,
    )


def _tokens(card: ModelCard, canvas: tuple[int, int, int]) -> int:
    """Return the tokens of a canvas of (width, height, frames)."""
    width, height, frames = canvas
    cells = (width // card.size_step) * (height // card.size_step)
    return cells * ((frames - 1) // card.frame_step + 1)


def _passes(full: Request) -> int:
    """Return the denoiser's evaluations a step: two when guided, one when not."""
    return 1 if full.guidance in (0.0, 1.0) else 2


def _peak_bytes(
    card: ModelCard, full: Request, canvas: tuple[int, int, int], clips: int, precision: str
) -> dict[str, int]:
    """Return the predicted peak on the device per stage, in bytes."""
    width, height, frames = canvas
    size = VALUE_BYTES[precision]
    load = sum(card.part_bytes.values()) * size // 2
    per_token = TOKEN_VALUES_PER_ROOT_FLOP * math.sqrt(card.flops_per_token) * size
    picture = width * height * PIXEL_VALUES * size if full.image else 0
    work = {
        "load": 0,
        "encode": clips * PROMPT_TOKENS * per_token + picture,
        "denoise": clips * _passes(full) * _tokens(card, canvas) * per_token,
        "decode": clips * width * height * frames * PIXEL_VALUES * size,
    }
    return {stage: load + math.ceil(work[stage]) for stage in work}


def _seconds(
    hardware: Hardware, card: ModelCard, full: Request, canvas: tuple[int, int, int]
) -> float:
    """Return the predicted seconds of one clip: load, denoise and decode."""
    assert full.steps is not None
    width, height, frames = canvas
    load = sum(card.part_bytes.values()) / LOAD_BYTES_PER_SECOND
    denoise = _tokens(card, canvas) * card.flops_per_token * full.steps * _passes(full)
    decode = width * height * frames * PIXEL_FLOPS
    return load + (denoise + decode) / hardware.flops


def _lower(
    plan: Plan, changes: dict[str, int], shares: dict[str, float], slower: float, reason: str
) -> Plan:
    """Return `plan` with `changes`, the working memory of each stage cut to its share."""
    load = plan.peak_bytes.get("load", 0)
    peaks = {
        stage: load + math.ceil((peak - load) * shares.get(stage, 1.0))
        for stage, peak in plan.peak_bytes.items()
    }
    return dataclasses.replace(
        plan,
        **changes,  # type: ignore[arg-type]
        peak_bytes=peaks,
        seconds=plan.seconds * slower,
        because=(*plan.because, f"{reason} to save memory"),
    )


def _smaller_batch(plan: Plan) -> Plan | None:
    """Return `plan` with half the batch, or None when it is one clip."""
    if plan.batch <= 1:
        return None
    batch = plan.batch // 2
    share = batch / plan.batch
    shares = {"encode": share, "denoise": share, "decode": share}
    return _lower(plan, {"batch": batch}, shares, 1.0, f"{batch} instead of {plan.batch} at once")


def _smaller_tile(plan: Plan) -> Plan | None:
    """Return `plan` with decoder tiles of about half the side, or None when that helps no more."""
    side = min(plan.tile or math.inf, max(plan.width, plan.height))
    tile = math.ceil(side / 2 / plan.size_step) * plan.size_step
    if tile < SMALLEST_SIDE or tile >= side:
        return None
    share = _tile_pixels(plan, tile) / _tile_pixels(plan, int(side))
    reason = f"decoded in tiles of {tile} pixels"
    return _lower(plan, {"tile": tile}, {"decode": share}, TILE_SECONDS, reason)


def _tile_pixels(plan: Plan, tile: int) -> int:
    """Return the pixels of a tile, which does not reach over the canvas."""
    return min(tile, plan.width) * min(tile, plan.height)


def _smaller_canvas(plan: Plan) -> Plan | None:
    """Return `plan` with about half the canvas's area, or None when it would be too small."""
    pixels = plan.width * plan.height // 2
    width, height = choose_canvas(plan.width, plan.height, pixels, plan.size_step)
    if min(width, height) < SMALLEST_SIDE or width * height >= plan.width * plan.height:
        return None
    share = width * height / (plan.width * plan.height)
    # A tile that the smaller canvas still fills costs what it did.
    tile = plan.tile if 0 < plan.tile < max(width, height) else 0
    before = _tile_pixels(plan, plan.tile or max(plan.width, plan.height))
    after = min(tile or width, width) * min(tile or height, height)
    shares = {"encode": share, "denoise": share, "decode": min(1.0, after / before)}
    reason = f"denoised at {width}×{height} instead of {plan.width}×{plan.height}"
    return _lower(plan, {"width": width, "height": height, "tile": tile}, shares, share, reason)


def _gigabytes(size: int) -> str:
    """Return `size` in bytes as people read it."""
    return f"{size / 2**30:.1f} GB"
