"""The command `calibrate`: what it measures, keeps, prints, and how plans use it."""

from __future__ import annotations

import json

import pytest

from aiprod_studio import Studio, calibrate
from aiprod_studio.calibrate import Report, show, watch_short
from aiprod_studio.cli import main
from aiprod_studio.engines.catalog import cards, find_engine
from aiprod_studio.errors import BadRequest
from aiprod_studio.hardware.calibration import Calibration, Seen, calibration_path, versions
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.types import Request, complete

Capture = pytest.CaptureFixture[str]
STARTER = cards()["starter"]
REQUEST = complete(Request(calibrate.PROMPT, seed=1), STARTER)


def test_measures_keeps_and_plans_by_it(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    # As much as shows that it works; how well depends on the time that it takes.
    for constant, small in (("PRODUCT_SECONDS", 0.05), ("FILE_BYTES", 2**23), ("SHORT_STEPS", 2)):
        monkeypatch.setattr(calibrate, constant, small)
    monkeypatch.setattr(calibrate, "WHOLE_SECONDS", 0.0)
    calibration_path().parent.mkdir(parents=True)
    calibration_path().write_text("damaged")
    assert main(["calibrate", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    kept = json.loads(calibration_path().read_text())
    assert said["calibration"] == kept
    assert kept["engines"]["starter"].keys() == {"flops", "pixel_flops", "slack"}
    assert kept["speeds"].keys() >= {"flops", "disk_rate"}
    assert "int8" in kept["dtypes"]
    _, plan = Studio().plan(REQUEST)
    for stage, seen in said["stages"].items():
        assert seen["peak_bytes"][1] == plan.peak_bytes[stage]
    assert "as measured on" in plan.because[0]


def test_the_starter_takes_what_was_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "SHORT_STEPS", 2)
    plan = choose_plan(imagine(0), STARTER, REQUEST)
    with find_engine("starter").load(plan) as parts:
        seen = watch_short(parts, plan, REQUEST)
    for stage, peak in seen.peaks.items():
        assert plan.peak_bytes[stage] == pytest.approx(peak, rel=0.1), stage


def test_shows_what_was_assumed_what_is_known_and_what_was_seen(capsys: Capture) -> None:
    plan = choose_plan(imagine(0), STARTER, REQUEST)
    found = Calibration("2026-11-21", "a machine", 2, versions(), {"flops": 1e11}, ("int8",))
    seen = Seen({}, (), {"denoise": 81_200_000})
    show(Report(found, ("products of matrices",), plan, plan, seen, {"denoise": 8.25}))
    out = capsys.readouterr().out
    for words in ("a machine, 2 cores", "100.0 GFLOP/s", "int8", "8.25 s", "81.2 MB", "in all"):
        assert words in out


def test_refuses_what_cannot_run(capsys: Capture) -> None:
    with pytest.raises(BadRequest, match="starter"):
        calibrate.main(["--engine", "nonesuch"])
    assert main(["calibrate", "--help"]) == 0
    assert "calibration.json" in capsys.readouterr().out
    assert not calibration_path().exists()
