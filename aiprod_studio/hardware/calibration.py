"""What was measured on this machine in place of what the catalogue and the probe assume."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aiprod_studio.errors import BadRequest
from aiprod_studio.hardware.duration import arithmetic_rate, step_seconds, transfer_seconds
from aiprod_studio.hardware.memory import basis_of, count_tokens, device_weights
from aiprod_studio.sentences import Said
from aiprod_studio.settings import settings
from aiprod_studio.types import Hardware, Memory, ModelCard, Plan

MEASURED = "calibration.json"
COPIES = frozenset({"disk_rate", "pageable_rate", "pinned_rate"})
PRODUCTS = frozenset({"flops", "half_flops"})
SPEEDS = PRODUCTS | COPIES
COEFFICIENTS = frozenset(
    field.name for field in dataclasses.fields(Memory) if field.type in ("int", "float")
)
# Assumption for models that were not measured themselves: the share of the rate of plain matrix
# products that they reach. The starter's denoiser reached 0.6 of it on two cores.
REACHED = 0.7
PACKAGES = ("aiprod-studio", "torch", "torchao")


@dataclass(frozen=True)
class Calibration:
    """What was measured when, on which machine, by which versions of the `PACKAGES`.

    `speeds` are the machine's own, of plain matrix products, files and copies; `dtypes` the
    precisions of weights below 16 bits that ran; `engines` has by id what a model reached of
    `PRODUCTS`, and its `COEFFICIENTS`.
    """

    date: str
    machine: str
    cores: int
    versions: Mapping[str, str]
    speeds: Mapping[str, float] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ()
    engines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """One run of a plan as it went: seconds and peak bytes per stage, seconds per step.

    The peaks, where they are known, are what the device held at most, weights included.
    """

    seconds: Mapping[str, float]
    steps: tuple[float, ...]
    peaks: Mapping[str, int]


def calibration_path() -> Path:
    """Return where this machine's calibration lies, or will lie."""
    return settings().home / MEASURED


def versions() -> dict[str, str]:
    """Return the installed versions of the `PACKAGES`, "" for one that is not installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def read_calibration(path: Path) -> Calibration | None:
    """Return what `to_json` wrote to a file, or None where there is no file.

    Raises `BadRequest` when it is something else.
    """
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = Calibration(
            date=str(values["date"]),
            machine=str(values["machine"]),
            cores=int(values["cores"]),
            versions={str(name): str(value) for name, value in values["versions"].items()},
            speeds=_numbers(values["speeds"], SPEEDS),
            dtypes=tuple(map(str, values["dtypes"])),
            engines={
                str(engine): _numbers(measured, PRODUCTS | COEFFICIENTS)
                for engine, measured in values["engines"].items()
            },
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadRequest(
            f"{path} cannot be read as a calibration ({error}). Delete it, or run "
            "'aiprod-studio calibrate' again."
        ) from error
    return found


def to_json(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration as a plain dictionary that `read_calibration` reads back."""
    return dataclasses.asdict(calibration)


def is_current(calibration: Calibration, hardware: Hardware) -> bool:
    """Say whether a calibration is of this machine, by the versions that run now."""
    here = (hardware.name, hardware.cores, versions())
    return (calibration.machine, calibration.cores, dict(calibration.versions)) == here


def apply_calibration(
    hardware: Hardware, card: ModelCard, calibration: Calibration | None
) -> tuple[Hardware, ModelCard]:
    """Return hardware and card with what was measured in place of what they assume.

    A calibration of another machine or of other versions changes nothing but `because`.
    """
    if calibration is None:
        return hardware, card
    if not is_current(calibration, hardware):
        stale = Said(
            "said.stale",
            "{because}; what was measured on {date} is left aside, as machine or versions have "
            "changed since; 'aiprod-studio calibrate' measures again",
            because=hardware.because,
            date=calibration.date,
        )
        return dataclasses.replace(hardware, because=stale), card
    own = calibration.engines.get(card.id, {})
    reached = {
        name: speed * (REACHED if name in PRODUCTS else 1.0)
        for name, speed in calibration.speeds.items()
    }
    speeds = {**reached, **{name: value for name, value in own.items() if name in PRODUCTS}}
    terms = {name: value for name, value in own.items() if name in COEFFICIENTS}
    told = (
        ("said.measured", "{because}, with speeds and memory as measured on {date}")
        if own
        else ("said.measured_speeds", "{because}, with the machine's speeds as measured on {date}")
    )
    return (
        dataclasses.replace(
            hardware,
            dtypes=tuple(dict.fromkeys((*hardware.dtypes, *calibration.dtypes))),
            because=Said(*told, because=hardware.because, date=calibration.date),
            **speeds,  # type: ignore[arg-type]
        ),
        dataclasses.replace(card, memory=dataclasses.replace(card.memory, **terms)),  # type: ignore[arg-type]
    )


def fit(plan: Plan, seen: Seen) -> dict[str, float]:
    """Return the coefficients by which `plan`'s predictions come to what was seen of it.

    The rate is that of its denoiser, unless the weights stream, whose copies may hide it.
    """
    memory, found = basis_of(plan).card.memory, {}
    rate = arithmetic_rate(plan)
    if plan.placement.get("denoise", "resident") in ("resident", "model"):
        # The first step warms up.
        step = statistics.median(seen.steps[1:] or seen.steps)
        rate *= step_seconds(plan, count_tokens(plan)) / step
        found["flops" if plan.precision == "float32" else "half_flops"] = rate
    copies = transfer_seconds(plan, "decode")
    pixels = (plan.stage_seconds["decode"] - copies) * arithmetic_rate(plan) / memory.pixel_flops
    found["pixel_flops"] = max(seen.seconds["decode"] - copies, 1e-6) * rate / pixels
    if seen.peaks:
        found["slack"] = max(_slack(plan, seen, stage) for stage in ("denoise", "decode"))
    return found


def _slack(plan: Plan, seen: Seen, stage: str) -> float:
    """Return what a stage took of the device besides weights, as a multiple of its formula."""
    memory, weights = basis_of(plan).card.memory, device_weights(plan, stage)
    formula = (plan.peak_bytes[stage] - weights - memory.reserve) / memory.slack
    # Below 1 it would promise what other sizes may not keep.
    return max(1.0, (seen.peaks[stage] - weights) / formula)


def calibrated(hardware: Hardware, card: ModelCard) -> tuple[Hardware, ModelCard]:
    """Return hardware and card as this machine's own calibration corrects them, if there is one.

    Raises `BadRequest` when its file is damaged.
    """
    return apply_calibration(hardware, card, read_calibration(calibration_path()))


def _numbers(values: Mapping[str, Any], known: frozenset[str]) -> dict[str, float]:
    """Return numbers by their known names; raises ValueError for any other name or number."""
    found = {str(name): float(value) for name, value in values.items()}
    wrong = [
        name
        for name, value in found.items()
        if name not in known or not math.isfinite(value) or value <= 0
    ]
    if wrong:
        raise ValueError(f"wrong value for {', '.join(wrong)}")
    return found
