"""The fields of the form: what of them an engine has, and a visitor."""

from __future__ import annotations

import dataclasses

import pytest

from aiprod_studio.engines.catalog import find_card
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.fields import fit_fields
from aiprod_studio.ui.form import MODES, TEXT, Form


@pytest.mark.parametrize("mode", MODES)
def test_loras_and_a_reference_are_for_the_engines_that_have_them(bench: Bench, mode: str) -> None:
    both = fit_fields(find_card("ltx-2"), mode, False, bench)
    assert [both[name]["visible"] for name in ("loras", "reference")] == [True, True]
    assert all("value" not in both[name] for name in ("loras", "reference"))
    one = fit_fields(find_card("wan2.1-1.3b"), mode, False, bench)
    assert [one[name]["visible"] for name in ("loras", "reference")] == [True, False]
    none = fit_fields(find_card("starter"), mode, False, bench)
    for name, empty in {"loras": "", "reference": None}.items():
        assert (none[name]["visible"], none[name]["value"]) == (False, empty)


def test_a_step_cache_is_for_the_engines_that_have_one_and_off_by_default(bench: Bench) -> None:
    assert Form(prompt="a").to_request().cache is None
    assert fit_fields(find_card("wan2.1-1.3b"), TEXT, False, bench)["cache"]["visible"]
    none = fit_fields(find_card("starter"), TEXT, False, bench)["cache"]
    assert (none["visible"], none["value"]) == (False, "")


def test_visitors_have_no_loras(bench: Bench) -> None:
    shared = dataclasses.replace(bench, guests=lambda _: bench)
    fitted = fit_fields(find_card("ltx-2"), TEXT, False, shared)
    assert (fitted["loras"]["visible"], fitted["loras"]["value"]) == (False, "")
    assert fitted["reference"]["visible"]
