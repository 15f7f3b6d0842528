"""The command `plan`: for this machine and imagined ones, for people and as JSON."""

from __future__ import annotations

import json

import pytest

from aiprod_studio.cli import main
from aiprod_studio.errors import BadRequest
from aiprod_studio.hardware.calibration import Calibration, to_json, versions
from aiprod_studio.hardware.probe import probe
from aiprod_studio.planning import MEASURED
from aiprod_studio.planning import main as plan
from aiprod_studio.settings import settings
from aiprod_studio.types import Request

Capture = pytest.CaptureFixture[str]


def test_shows_a_plan_and_its_reasons(capsys: Capture) -> None:
    words = ["a dog", "--engine", "ltx-2", "--width", "1280", "--height", "704", "--gpu", "24 GB"]
    assert main(["plan", *words]) == 0
    out = capsys.readouterr().out
    assert out.startswith("LTX-2: 1280×704, 121 frames at 24 a second, with sound, 8 steps\n")
    for word in ("load", "encode", "denoise", "decode", "in all", "device memory", "RAM"):
        assert word in out
    assert "because   on an imagined GPU of 24 GB with 48 GB of RAM" in out


def test_prints_json_that_reads_back(capsys: Capture) -> None:
    words = ["a dog", "--engine", "wan2.1-1.3b", "--seconds", "3", "--gpu", "8", "--ram", "32 GB"]
    assert plan([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert Request.from_json(said["request"]).seconds == 3
    assert said["machine"]["device"] == "cuda"
    found = said["plan"]
    assert "basis" not in found
    assert set(found["peak_bytes"]) == set(found["ram_bytes"]) == set(found["stage_seconds"])
    assert max(found["peak_bytes"].values()) < said["machine"]["free_bytes"]
    assert found["frames"] == 49


def test_both_stages_have_a_row(capsys: Capture) -> None:
    words = ["a dog", "--engine", "ltx-2", "--stages", "2", "--last-image", "a.png", "--gpu", "80"]
    assert plan(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("LTX-2: 1536×1024, 121 frames at 24 a second, with sound, 8 steps and")
    assert "refine" in out
    assert "because   denoised at 768×512, refined at twice the sides" in out
    assert main(["plan", "a dog", "--stages", "2"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Starter cannot render in two stages.")
    assert said.endswith("an engine that can: ltx-2.\n")


def test_a_step_cache_is_planned_only_if_it_is_asked_for(capsys: Capture) -> None:
    words = ["a dog", "--engine", "ltx-2", "--gpu", "80", "--count", "4", "--json"]
    found = []
    for more in ([], ["--cache", "mag:0.1"]):
        assert plan([*words, *more]) == 0
        found.append(json.loads(capsys.readouterr().out)["plan"])
    assert [one["cache"] for one in found] == ["", "mag:0.1"]
    assert found[1]["peak_bytes"]["denoise"] > found[0]["peak_bytes"]["denoise"]
    said = ["; ".join(one["because"]) for one in found]
    assert "no step cache, as it would change the picture" in said[0]
    assert "step cache mag:0.1, which changes the result" in said[1]
    assert main(["plan", "a dog", "--cache", "mag"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Starter cannot use a step cache.")
    assert "ltx-2" in said


def test_counts_loras(capsys: Capture) -> None:
    words = ["a dog", "--engine", "wan2.1-1.3b", "--gpu", "80", "--json"]
    found = []
    for more in ([], ["--lora", "owner/not-here"]):
        assert plan([*words, *more]) == 0
        found.append(json.loads(capsys.readouterr().out)["plan"]["peak_bytes"])
    plain, wide = found
    assert wide["denoise"] > 1.01 * plain["denoise"]
    assert wide["decode"] == plain["decode"]


def test_what_does_not_fit_names_what_does(capsys: Capture) -> None:
    words = ["a dog", "--engine", "wan2.2-5b", "--gpu", "8 GB"]
    assert plan([*words, "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["message"].endswith("choose a smaller engine.")
    seconds = said["nearest"]["seconds"]
    assert plan([*words, "--seconds", str(seconds)]) == 0
    capsys.readouterr()
    assert main(["plan", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"Ask for {seconds:g} seconds" in captured.err


def test_plans_for_this_machine_with_what_was_measured_on_it(capsys: Capture) -> None:
    assert plan(["a dog", "--json"]) == 0
    before = json.loads(capsys.readouterr().out)["plan"]
    settings().home.mkdir(parents=True)
    measured = {"starter": {"slack": 3.0}}
    here = probe()
    found = Calibration("2026-11-21", here.name, here.cores, versions(), engines=measured)
    (settings().home / MEASURED).write_text(json.dumps(to_json(found)))
    assert plan(["a dog", "--json"]) == 0
    after = json.loads(capsys.readouterr().out)["plan"]
    assert after["peak_bytes"]["load"] == before["peak_bytes"]["load"]
    assert after["peak_bytes"]["denoise"] > before["peak_bytes"]["denoise"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "nonesuch"], "starter"),
        (["--gpu", "big"], "24 GB"),
        (["--ram", "64 GB"], "--gpu"),
        (["--count", "0", "--gpu", "8"], "count"),
        (["--width", "wide"], "--help"),
        (["--nonesuch"], "--help"),
        (["--width", "100", "--gpu", "none"], "multiples of 16"),
    ],
)
def test_refuses_in_a_sentence(words: list[str], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        plan(["a dog", *words])


def test_help_says_what_is_read(capsys: Capture) -> None:
    assert main(["plan", "--help"]) == 0
    assert MEASURED in capsys.readouterr().out
