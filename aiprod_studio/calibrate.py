"""The command `calibrate`: measures on this machine what the planner otherwise assumes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiprod_studio.engines.catalog import find_card, find_engine
from aiprod_studio.errors import BadRequest, StudioError
from aiprod_studio.hardware.calibration import (
    PRODUCTS,
    Calibration,
    Seen,
    apply_calibration,
    calibration_path,
    fit,
    is_current,
    read_calibration,
    to_json,
    versions,
)
from aiprod_studio.hardware.ladder import predict
from aiprod_studio.hardware.memory import STAGES, basis_of, device_weights
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.media.files import write_bytes
from aiprod_studio.options import Parser
from aiprod_studio.settings import settings
from aiprod_studio.types import Hardware, ModelCard, Plan, Request, complete

if TYPE_CHECKING:
    from aiprod_studio.engines.engine import OnStep, Parts

PROMPT = "a brown dog running on a beach at sunset"
PRODUCT_SECONDS = 1.0
FILE_BYTES = 256 * 2**20
SHORT_STEPS = 4
# The default clip is rendered whole, to hold the prediction against it, where that takes no longer.
WHOLE_SECONDS = 60.0
WHEN = ("assumed", "calibrated", "measured")
Tell = Callable[[str], None]
Watch = Callable[[str, Callable[[], Any]], Any]


@dataclass(frozen=True)
class Report:
    """What was measured, `notes` of what each speed is, and the default clip's plan by it.

    `assumed` and `after` are the same plan without and with it, `seen` is a short run of it and
    `whole` the seconds per stage of a whole one, empty where that would take too long.
    """

    calibration: Calibration
    notes: tuple[str, ...]
    assumed: Plan
    after: Plan
    seen: Seen
    whole: dict[str, float]


def main(words: Sequence[str]) -> int:
    """Measure, keep and print; returns 0.

    Raises `StudioError` when the engine cannot run here; what was kept before stays then.
    """
    options = _parser().parse_intermixed_args(list(words))
    # The profiler and torchao, which start with the first measurement, would talk in between.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    for talker in ("torchao", "torch.utils._pytree"):
        logging.getLogger(talker).setLevel(logging.ERROR)

    def tell(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    report = calibrate(options.engine, tell)
    if options.json:
        sys.stdout.write(json.dumps(_to_json(report), ensure_ascii=False) + "\n")
    else:
        show(report)
    return 0


def _parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        "aiprod-studio calibrate",
        description="Measure this machine and one model on it, so that plans are predicted by "
        "what was seen. Takes under a minute for the starter on a processor.",
        epilog="What was measured is kept in calibration.json in the data folder, with date, "
        "machine and versions; another machine or other versions leave it aside. Delete the file "
        "to plan by assumptions again.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--engine", metavar="NAME", default="starter", help="the model (default: starter)")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def calibrate(engine: str, tell: Tell) -> Report:
    """Measure this machine and an engine on it, keep the result, and return it.

    Raises `BadRequest` for an unknown engine and `ModelUnavailable` when its weights are missing.
    """
    from aiprod_studio.hardware.probe import probe

    card, hardware = find_card(engine), probe()
    full = complete(Request(PROMPT, engine, seed=1), card)
    assumed = choose_plan(hardware, card, full)
    tell("measuring arithmetic, disk and copies …")
    machine, notes = measure_machine(hardware)
    tell(f"measuring {card.name} …")
    before = predict_by(assumed, hardware, card, machine)
    began = time.perf_counter()
    with find_engine(engine).load(before) as parts:
        loading = time.perf_counter() - began
        seen = watch_short(parts, before, full)
        kept = _keep(hardware, dataclasses.replace(machine, engines={engine: fit(before, seen)}))
        after = predict_by(assumed, hardware, card, kept)
        whole: dict[str, float] = {}
        if after.seconds <= WHOLE_SECONDS:
            tell("rendering the default clip …")
            whole = time_stages(parts, before, full)[0]
            if not card.parts:
                whole["load"] = loading
    return Report(kept, notes, assumed, after, seen, whole)


def predict_by(plan: Plan, hardware: Hardware, card: ModelCard, known: Calibration) -> Plan:
    """Return the same plan with its bytes and seconds predicted by a calibration."""
    hardware, card = apply_calibration(hardware, card, known)
    basis = dataclasses.replace(basis_of(plan), hardware=hardware, card=card)
    return predict(dataclasses.replace(plan, basis=basis))


def measure_machine(hardware: Hardware) -> tuple[Calibration, tuple[str, ...]]:
    """Return the machine's own speeds and weights that run, and what each speed is of."""
    from aiprod_studio.hardware import gauges

    device, side = hardware.device, gauges.SIDES[hardware.device]
    # What the processor emulates would take long and be used by nobody.
    half = next((name for name in ("bfloat16", "float16") if name in hardware.dtypes), None)
    try:
        disk, cold = gauges.disk_rate(settings().home, FILE_BYTES)
    except OSError as error:
        raise StudioError(
            f"The disk of {settings().home} cannot be measured ({error.strerror}). Free "
            f"{FILE_BYTES / 2**20:.0f} MB of it, or set AIPROD_HOME to a folder on another disk."
        ) from error
    dropped = "dropped first" if cold else "not dropped, so faster than a disk"
    speeds = {"disk_rate": disk}
    notes = [f"a file of {FILE_BYTES / 2**20:.0f} MB read in order, its cache {dropped}"]
    for name, precision in (("flops", "float32"), ("half_flops", half)):
        if precision:
            speeds[name] = gauges.product_rate(device, precision, PRODUCT_SECONDS)
            notes.append(f"products of {side}×{side} matrices in {precision}")
    if device == "cuda":
        for name, pinned in (("pageable_rate", False), ("pinned_rate", True)):
            speeds[name] = gauges.copy_rate(pinned)
            notes.append(f"copies from {'pinned' if pinned else 'pageable'} RAM to the GPU")
    known = Calibration(
        date=datetime.now(UTC).date().isoformat(),
        machine=hardware.name,
        cores=hardware.cores,
        versions=versions(),
        speeds=speeds,
        dtypes=gauges.running_weights(device, half or "float32"),
    )
    return known, tuple(notes)


def watch_short(parts: Parts, plan: Plan, full: Request) -> Seen:
    """Return seconds, steps and peaks of the plan's clip in a few steps."""
    from aiprod_studio.hardware.gauges import allocator_peak

    peaks: dict[str, int] = {}

    def watch(stage: str, work: Callable[[], Any]) -> Any:
        held = _held(plan, stage)
        result, peak, _ = allocator_peak(plan.device, work)
        peaks[stage] = held + peak
        return result

    # Weights may come only when they are first used, which is no part of what is measured.
    time_stages(parts, plan, cut(full, 2))
    seconds, steps = time_stages(parts, plan, cut(full, SHORT_STEPS))
    if plan.device != "mps":  # whose allocator tells no peaks
        run_stages(parts, plan, cut(full, 2), watch, lambda done, total: None)
    return Seen(seconds, steps, peaks)


def _held(plan: Plan, stage: str) -> int:
    """Return the bytes that the device holds before a stage begins."""
    if plan.device == "cuda":
        import torch

        return torch.cuda.memory_allocated()
    # A CPU's allocator knows nothing of mapped weights, nor what it held before it was watched.
    return device_weights(plan, stage)


def cut(full: Request, steps: int) -> Request:
    """Return a complete request with at most so many steps."""
    assert full.steps is not None
    return dataclasses.replace(full, steps=min(full.steps, steps))


def time_stages(
    parts: Parts, plan: Plan, full: Request
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Return the seconds of each stage of a clip, and of each of its steps."""
    from aiprod_studio.hardware.gauges import wait

    seconds: dict[str, float] = {}
    marks: list[float] = []

    def watch(stage: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        marks.append(began)
        result = work()
        wait(plan.device)
        seconds[stage] = time.perf_counter() - began
        return result

    def on_step(done: int, total: int) -> None:
        wait(plan.device)
        marks.append(time.perf_counter())

    run_stages(parts, plan, full, watch, on_step)
    # The stages' own beginnings: encoding's in front of denoising's and the steps, then decoding's.
    steps = marks[1:-1]
    return seconds, tuple(end - begin for begin, end in itertools.pairwise(steps))


def run_stages(parts: Parts, plan: Plan, full: Request, watch: Watch, on_step: OnStep) -> None:
    """Make one clip, each stage's work being done by `watch`."""
    assert full.fps is not None
    length = plan.frames / full.fps
    text, nothing = watch("encode", lambda: (parts.encode_text(full.prompt), parts.encode_text("")))
    latents = watch("denoise", lambda: parts.denoise(text, nothing, {}, full, plan, on_step))

    def decode() -> None:
        parts.decode_audio(latents, length)
        for _ in parts.decode_video(latents, plan):
            pass

    watch("decode", decode)


def _keep(hardware: Hardware, found: Calibration) -> Calibration:
    """Write what was found, beside other engines' of the same machine, and return both."""
    path = calibration_path()
    try:
        earlier = read_calibration(path)
    except BadRequest:
        earlier = None
    if earlier is not None and is_current(earlier, hardware):
        found = dataclasses.replace(found, engines={**earlier.engines, **found.engines})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json.dumps(to_json(found), indent=1, ensure_ascii=False).encode())
    return found


def _to_json(report: Report) -> dict[str, Any]:
    """Return a report as a plain dictionary."""
    return {
        "calibration": to_json(report.calibration),
        "file": str(calibration_path()),
        "stages": {
            stage: {
                "seconds": [
                    report.assumed.stage_seconds[stage],
                    report.after.stage_seconds[stage],
                    report.whole.get(stage),
                ],
                "peak_bytes": [
                    report.assumed.peak_bytes[stage],
                    report.after.peak_bytes[stage],
                    report.seen.peaks.get(stage),
                ],
            }
            for stage in STAGES
        },
    }


def show(report: Report) -> None:
    """Print a report for people: the machine's speeds, then the default clip stage by stage."""
    from rich.console import Console
    from rich.table import Table

    known = report.calibration
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 100)
    console.print(f"{known.machine}, {known.cores} cores, {known.date}")
    table = Table("what", "measured")
    for (name, value), note in zip(known.speeds.items(), report.notes, strict=True):
        unit = "GFLOP/s" if name in PRODUCTS else "GB/s"
        table.add_row(note, f"{value / 1e9:,.1f} {unit}")
    table.add_row("weights below 16 bits that run", ", ".join(known.dtypes) or "none")
    console.print(table)
    plan = report.after
    table = Table("default clip", *[f"{what} {when}" for what in ("time", "peak") for when in WHEN])
    for stage in STAGES:
        times = [one.stage_seconds[stage] for one in (report.assumed, plan)]
        peaks = [one.peak_bytes[stage] for one in (report.assumed, plan)]
        table.add_row(
            stage,
            *(f"{one:.2f} s" for one in times),
            f"{report.whole[stage]:.2f} s" if stage in report.whole else "–",
            *(f"{one / 1e6:,.1f} MB" for one in peaks),
            f"{report.seen.peaks[stage] / 1e6:,.1f} MB" if stage in report.seen.peaks else "–",
        )
    whole = f"{sum(report.whole.values()):.2f} s" if report.whole else "–"
    sums = (f"{one.seconds:.2f} s" for one in (report.assumed, plan))
    table.add_row("in all", *sums, whole, "", "", "", style="bold")
    console.print(table)
    console.print(f"kept in {calibration_path()}", soft_wrap=True)
