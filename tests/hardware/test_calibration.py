"""What was measured: read from a file, checked, left aside when stale, used by the planner."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from aiprod_studio.engines.catalog import cards
from aiprod_studio.errors import BadRequest
from aiprod_studio.hardware.calibration import (
    REACHED,
    Calibration,
    Seen,
    apply_calibration,
    calibrated,
    calibration_path,
    fit,
    read_calibration,
    to_json,
    versions,
)
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.ladder import predict
from aiprod_studio.hardware.memory import basis_of
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.types import Plan, Request

MACHINE = imagine(80)
WAN = "wan2.1-1.3b"
FOUND = Calibration(
    date="2026-11-21",
    machine=MACHINE.name,
    cores=MACHINE.cores,
    versions=versions(),
    speeds={"half_flops": 4e14, "disk_rate": 2e9},
    dtypes=("int8", "int4"),
    engines={WAN: {"slack": 1.5, "half_flops": 5e13}},
)


def plan_with(found: Calibration | None, engine: str = WAN) -> Plan:
    """Return the plan of the engine's default clip by what was found."""
    hardware, card = apply_calibration(MACHINE, cards()[engine], found)
    return choose_plan(hardware, card, Request("x", engine))


def test_reads_back_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    assert read_calibration(path) is None
    path.write_text(json.dumps(to_json(FOUND)))
    assert read_calibration(path) == FOUND


def test_what_was_measured_replaces_what_was_assumed() -> None:
    before, after = plan_with(None), plan_with(FOUND)
    hardware = basis_of(after).hardware
    assert (hardware.half_flops, hardware.disk_rate) == (5e13, 2e9)
    assert hardware.dtypes == (*MACHINE.dtypes, "int4")
    assert after.peak_bytes["denoise"] > before.peak_bytes["denoise"]
    assert after.seconds > before.seconds
    assert after.stage_seconds["load"] == before.stage_seconds["load"] / 2
    assert after.because[0].endswith("with speeds and memory as measured on 2026-11-21")


def test_another_engine_gets_a_share_of_the_machines_rate() -> None:
    plan = plan_with(FOUND, "ltx-2")
    assert basis_of(plan).hardware.half_flops == pytest.approx(4e14 * REACHED)
    assert basis_of(plan).card.memory == cards()["ltx-2"].memory
    assert "the machine's speeds" in plan.because[0]


@pytest.mark.parametrize(
    "change", [{"machine": "another"}, {"cores": 3}, {"versions": {**versions(), "torch": "0.4"}}]
)
def test_a_stale_one_changes_nothing_and_says_so(change: dict[str, object]) -> None:
    before, after = plan_with(None), plan_with(dataclasses.replace(FOUND, **change))
    assert (after.peak_bytes, after.stage_seconds) == (before.peak_bytes, before.stage_seconds)
    assert "'aiprod-studio calibrate' measures again" in after.because[0]


def test_is_found_in_the_data_folder() -> None:
    card = cards()[WAN]
    assert calibrated(MACHINE, card) == (MACHINE, card)
    calibration_path().parent.mkdir(parents=True)
    calibration_path().write_text(json.dumps(to_json(FOUND)))
    assert calibrated(MACHINE, card) == apply_calibration(MACHINE, card, FOUND)


def values(**changes: object) -> str:
    """Return a calibration's file with some of its values changed."""
    return json.dumps({**to_json(FOUND), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        "{}",
        values(speeds={"disk_rate": "fast"}),
        values(speeds={"slack": 1.0}),
        values(engines={"starter": 3}),
        values(engines={"starter": {"nonesuch": 1}}),
        values(engines={"starter": {"slack": -1}}),
        values(engines={"starter": {"slack": float("nan")}}),
        values(versions="2"),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(BadRequest, match="Delete it, or run 'aiprod-studio calibrate' again"):
        read_calibration(path)


@pytest.mark.parametrize("engine", [WAN, "starter", "ltx-2"])
def test_predicts_what_it_was_fitted_to(engine: str) -> None:
    plan = plan_with(None, engine)
    steps = basis_of(plan).request.steps or 0
    step = plan.stage_seconds["denoise"] / steps * 1.7
    took = {"denoise": steps * step, "decode": plan.stage_seconds["decode"] * 2.5}
    held = {stage: round(peak * 1.2) for stage, peak in plan.peak_bytes.items()}
    found = fit(plan, Seen(took, (9 * step, step, step, step), held))
    known = dataclasses.replace(FOUND, speeds={}, engines={engine: found})
    hardware, card = apply_calibration(MACHINE, cards()[engine], known)
    basis = dataclasses.replace(basis_of(plan), hardware=hardware, card=card)
    again = predict(dataclasses.replace(plan, basis=basis))
    for stage, seconds in took.items():
        assert again.stage_seconds[stage] == pytest.approx(seconds, rel=0.02)
    assert again.peak_bytes["decode"] >= held["decode"]
    assert again.peak_bytes["denoise"] >= held["denoise"]


def test_copies_that_may_hide_the_arithmetic_are_no_measure_of_it() -> None:
    hardware = imagine(8)
    plan = choose_plan(hardware, cards()["wan2.2-5b"], Request("x", "wan2.2-5b", seconds=1))
    assert plan.placement["denoise"] in ("group", "disk")
    found = fit(plan, Seen({"decode": 5.0}, (1.0, 1.0), plan.peak_bytes))
    assert set(found) == {"pixel_flops", "slack"}
