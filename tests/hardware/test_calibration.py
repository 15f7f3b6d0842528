"""Measured coefficients: read from a file, checked, and used by the planner."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiprod_studio.engines.catalog import cards
from aiprod_studio.errors import BadRequest
from aiprod_studio.hardware.calibration import apply_measured, read_measured
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.types import Request


def test_what_was_measured_replaces_what_was_assumed(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    assert read_measured(path, "wan2.1-1.3b") == {}
    path.write_text('{"wan2.1-1.3b": {"slack": 1.5, "half_flops": 5e13}}')
    assert read_measured(path, "starter") == {}
    measured = read_measured(path, "wan2.1-1.3b")
    card, request = cards()["wan2.1-1.3b"], Request("x", "wan2.1-1.3b")
    before = choose_plan(imagine(80), card, request)
    machine, card = apply_measured(imagine(80), card, measured)
    after = choose_plan(machine, card, request)
    assert machine.half_flops == 5e13
    assert after.peak_bytes["denoise"] > before.peak_bytes["denoise"]
    assert after.seconds > before.seconds


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"starter": 3}',
        '{"starter": {"slack": "much"}}',
        '{"starter": {"nonesuch": 1}}',
        '{"starter": {"slack": -1}}',
        '{"starter": {"slack": NaN}}',
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(BadRequest, match="Delete or mend it"):
        read_measured(path, "starter")
