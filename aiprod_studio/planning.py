"""The command `plan`: what a clip would take on this or an imagined machine, and why."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from aiprod_studio.engines.catalog import find_card
from aiprod_studio.engines.lora_sizes import with_loras
from aiprod_studio.errors import BadRequest, StudioError
from aiprod_studio.hardware.calibration import MEASURED, calibrated
from aiprod_studio.hardware.imagined import imagine, parse_gigabytes
from aiprod_studio.hardware.nearest import AsksTooMuch
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.options import Parser
from aiprod_studio.types import Hardware, ModelCard, Plan, Request, complete

NUMBERS = {
    "width": (int, "PIXELS", "width of the picture"),
    "height": (int, "PIXELS", "height of the picture"),
    "seconds": (float, "S", "length of the clip"),
    "fps": (float, "N", "frames a second"),
    "steps": (int, "N", "denoising steps"),
    "guidance": (float, "N", "how closely the prompt is followed"),
    "stages": (int, "N", "1, or 2: half the size first, then doubled and refined"),
}


def main(words: Sequence[str]) -> int:
    """Print the plan of one clip and return 0; loads no weights.

    Raises `StudioError` when nothing can be planned; with --json it is printed, and 2 returned.
    """
    options = _parser().parse_intermixed_args(list(words))
    try:
        request, card, hardware = _ask(options)
        plan = choose_plan(hardware, card, request, options.count)
    except StudioError as error:
        if not options.json:
            raise
        _print(json.dumps(_failure(error), ensure_ascii=False))
        return 2
    full = complete(request, card)
    if options.json:
        _print(json.dumps(_to_json(plan, full, hardware), ensure_ascii=False))
    else:
        _show(plan, full, card)
    return 0


def _parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        "aiprod-studio plan",
        description="Predict memory and time of one clip, and say why; nothing is loaded.",
        epilog="Without --gpu and --ram this machine is planned for, as it is now. What was "
        f"measured on it ({MEASURED} in the data folder) replaces what the catalogue assumes.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("prompt", metavar="PROMPT", help="what the clip shows, in any language")
    add("--engine", metavar="NAME", default="starter", help="the model (default: starter)")
    for name, (kind, unit, text) in NUMBERS.items():
        default = 1 if name == "stages" else None
        add(f"--{name}", type=kind, metavar=unit, default=default, help=text)
    add("--audio", action=argparse.BooleanOptionalAction, default=True, help="with sound or not")
    add("--image", metavar="FILE", help="a picture that the first frame shows")
    add("--last-image", metavar="FILE", help="a picture that the last frame shows")
    add("--reference", metavar="FILE", help="a clip or picture that the model follows")
    add("--cache", metavar="NAME", help="a step cache, first-block or mag: it changes the result")
    add("--lora", action="append", default=[], metavar="FILE|REPO[:W]", help="a LoRA; repeat")
    add("--count", type=int, metavar="N", default=1, help="clips of this kind in the job")
    add("--gpu", metavar="SIZE", help="an imagined NVIDIA GPU, such as '24 GB', or 'none'")
    add("--ram", metavar="SIZE", help="the imagined machine's RAM, such as '64 GB'")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def _ask(options: argparse.Namespace) -> tuple[Request, ModelCard, Hardware]:
    """Return what is asked of which model on which machine; raises `BadRequest`."""
    if options.count < 1:
        raise BadRequest(f"count is {options.count}; give 1 or more.")
    names = ("prompt", "engine", *NUMBERS, "audio", "image", "last_image", "reference", "cache")
    asked = {name: getattr(options, name) for name in names}
    request = Request(**asked, loras=tuple(options.lora))
    card = with_loras(find_card(options.engine), request.loras)
    if options.gpu is None and options.ram is None:
        from aiprod_studio.hardware.probe import probe

        hardware, card = calibrated(probe(), card)
        return request, card, hardware
    if options.gpu is None:
        raise BadRequest("--ram describes an imagined machine. Give its --gpu too, or 'none'.")
    gpu = 0.0 if options.gpu.strip().lower() == "none" else parse_gigabytes(options.gpu)
    return request, card, imagine(gpu, parse_gigabytes(options.ram) if options.ram else None)


def _failure(error: StudioError) -> dict[str, Any]:
    """Return an error as a plain dictionary, with the nearest request that fits if there is one."""
    nearest = error.nearest if isinstance(error, AsksTooMuch) else None
    return {
        "error": type(error).__name__,
        "message": str(error),
        "nearest": nearest.to_json() if nearest else None,
    }


def _to_json(plan: Plan, full: Request, hardware: Hardware) -> dict[str, Any]:
    """Return a plan as a plain dictionary, with what was asked and of which machine."""
    return {
        "request": full.to_json(),
        "machine": {
            "device": hardware.device,
            "name": hardware.name,
            "free_bytes": hardware.free_bytes,
            "ram_free_bytes": hardware.ram_free_bytes,
        },
        "plan": plan.to_json(),
    }


def _show(plan: Plan, full: Request, card: ModelCard) -> None:
    """Print a plan for people: the clip, a row per stage, the reasons."""
    from rich.console import Console
    from rich.table import Table

    sound = "with" if full.audio and card.sample_rate else "without"
    more = full.stages > 1
    _print(
        f"{card.name}: {full.width}×{full.height}, {plan.frames} frames at {full.fps:g} a second, "
        f"{sound} sound, {full.steps} steps{f' and {card.refine_steps} more' if more else ''}"
    )
    # One pool has no memory of its own beside the RAM.
    columns = ("device memory", "RAM") if plan.device == "cuda" else ("memory",)
    table = Table("stage", *columns, "time", "weights")
    for stage, peak in plan.peak_bytes.items():
        sizes = [peak, plan.ram_bytes[stage]] if plan.device == "cuda" else [plan.ram_bytes[stage]]
        place = plan.placement.get("denoise" if stage == "refine" else stage, "")
        table.add_row(stage, *map(_size, sizes), _time(plan.stage_seconds[stage]), place)
    table.add_row("in all", *[""] * len(columns), _time(plan.seconds), "", style="bold")
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 100).print(table)
    for reason in plan.because:
        _print(f"  because   {reason}")


def _size(count: int) -> str:
    """Return bytes as people read them."""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"


def _time(seconds: float) -> str:
    """Return seconds as people read them."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
