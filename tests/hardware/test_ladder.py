"""The way down: every rung of a large model, in order, each of which helps."""

from __future__ import annotations

import dataclasses
import itertools

from aiprod_studio.engines.catalog import cards
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.ladder import cheaper, choose_overlap, predict
from aiprod_studio.hardware.memory import pinned_bytes, stages_of
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.types import Hardware, Plan, Request

DTYPES = ("float32", "bfloat16", "float16", "float8", "int8", "int4")


def roomy(engine: str, ram_gb: float = 512, **wishes: int) -> Plan:
    """Return the plan that saves nothing, of two clips at once."""
    machine = dataclasses.replace(imagine(200, ram_gb), dtypes=DTYPES)
    plan = choose_plan(machine, cards()[engine], Request("x", engine, **wishes))
    assert set(plan.placement.values()) == {"resident"}
    return predict(dataclasses.replace(plan, batch=2, tile=0, chunk=0, overlap=0))


def walk(plan: Plan) -> list[Plan]:
    """Return a plan and all below it."""
    steps, below = [plan], cheaper(plan)
    while below is not None:
        steps.append(below)
        below = cheaper(below)
    return steps


def test_speed_goes_before_quality() -> None:
    steps = walk(roomy("ltx-2", width=1280, height=704))
    reasons = [step.because[-1] for step in steps[1:]]
    first = [
        next(place for place, reason in enumerate(reasons) if word in reason)
        for word in (
            "1 instead of 2",
            "in tiles of",
            "frames at a time",
            "only the weights of each stage",
            "streamed in blocks",
            "weights in float8",
            "weights in int4",
            "denoised at",
        )
    ]
    assert first == sorted(first)
    assert not any("weights" in reason for reason in reasons[first[-1] :])
    assert all(reason.endswith("to save memory") for reason in reasons)


def test_every_rung_lowers_a_peak_and_keeps_the_story() -> None:
    for engine, stages in (("ltx-2", 1), ("ltx-2", 2), ("wan2.2-5b", 1), ("wan2.2-a14b", 1)):
        steps = walk(roomy(engine, stages=stages))
        assert len(steps) > 6
        assert steps[-1].stages == 1
        for before, after in itertools.pairwise(steps):
            peaks, less = before.peak_bytes, after.peak_bytes
            lower = [less.get(stage, 0) < peaks[stage] for stage in stages_of(before)]
            assert any(lower), after.because[-1]
            assert after.because[:-1] == before.because
            assert after.width % before.size_step == after.height % before.size_step == 0
        assert max(steps[-1].peak_bytes.values()) < max(steps[0].peak_bytes.values()) / 4


def test_what_relieves_the_stage_that_ran_out_goes_first() -> None:
    plan = dataclasses.replace(roomy("ltx-2", width=1280, height=704), batch=1)
    for stage, word in (("denoise", "only the weights"), ("decode", "in tiles"), ("", "in tiles")):
        below = cheaper(predict(plan), stage)
        assert below is not None
        assert word in below.because[-1]
    # What relieves only others is better than nothing.
    last = walk(plan)[-2]
    assert cheaper(last, "no such stage") == cheaper(last)


def with_ram(plan: Plan, ram_gb: float) -> Plan:
    """Return `plan` on a machine of less RAM."""
    assert plan.basis is not None
    machine: Hardware = dataclasses.replace(
        plan.basis.hardware, ram_bytes=int(ram_gb * 2**30), ram_free_bytes=int(ram_gb * 2**30)
    )
    return predict(
        dataclasses.replace(plan, basis=dataclasses.replace(plan.basis, hardware=machine))
    )


def test_the_ram_is_relieved_where_it_may_be_what_ran_out() -> None:
    plan = dataclasses.replace(
        roomy("wan2.1-1.3b"),
        batch=1,
        tile=208,
        overlap=64,
        placement={"encode": "group", "denoise": "group", "decode": "model"},
        pinned=True,
    )
    plenty, tight = cheaper(with_ram(plan, 256)), cheaper(with_ram(plan, 24))
    assert plenty is not None
    assert plenty.quantisation == "float8"
    assert plenty.pinned
    assert tight is not None
    assert (tight.quantisation, pinned_bytes(tight)) == ("", 0)
    below = cheaper(tight)
    assert below is not None
    assert below.placement == {"encode": "disk", "denoise": "disk", "decode": "model"}
    assert max(below.ram_bytes.values()) < max(tight.ram_bytes.values())
    quantised = cheaper(below)
    assert quantised is not None
    assert quantised.quantisation == "float8"


def test_streaming_pins_what_may_be_pinned() -> None:
    for ram, pinned in ((512, True), (64, False)):
        plan = with_ram(dataclasses.replace(roomy("ltx-2"), batch=1, tile=128, chunk=16), ram)
        staged = cheaper(plan)
        assert staged is not None
        assert set(staged.placement.values()) == {"model"}
        streamed = cheaper(staged)
        assert streamed is not None
        assert streamed.placement["denoise"] == "group"
        assert streamed.pinned is pinned


def test_one_pool_streams_from_the_disk() -> None:
    machine = dataclasses.replace(imagine(0, 512), dtypes=("float32",))
    plan = choose_plan(machine, cards()["wan2.1-1.3b"], Request("x", "wan2.1-1.3b"))
    places = [step.placement["denoise"] for step in walk(plan)]
    assert list(dict.fromkeys(places)) == ["resident", "model", "disk"]


def test_no_last_tile_is_thinner_than_two_latents() -> None:
    plan = roomy("ltx-2", width=832, height=480)
    for tile in (448, 416, 256, 224, 128):
        overlap = choose_overlap(plan, tile)
        assert 32 <= overlap <= tile / 2
        assert overlap % 32 == 0
        for side in (plan.width, plan.height):
            starts = range(0, side, tile - overlap)
            assert side - starts[-1] >= 64 or tile >= side


def test_the_way_of_decoding_is_named() -> None:
    large = walk(dataclasses.replace(roomy("ltx-2", width=1280, height=704), batch=1))
    assert [step.tiling for step in large[:2]] == ["none", "uniform"]
    streamed = next(step for step in large if step.chunk)
    assert {step.tiling for step in large[large.index(streamed) :]} == {"stream"}
    whole = predict(dataclasses.replace(streamed, tiling="uniform"))
    assert streamed.peak_bytes["decode"] < whole.peak_bytes["decode"]
    native = walk(roomy("starter"))
    assert all(step.tiling == ("content" if step.tile else "none") for step in native)
    tiled = next(step for step in native if step.tile)
    even = predict(dataclasses.replace(tiled, tiling="uniform"))
    assert tiled.stage_seconds["decode"] < even.stage_seconds["decode"]


def test_a_plan_without_a_basis_steps_down_all_the_same() -> None:
    plan = Plan("cpu", "float32", 128, 128, 17, 2, 0, {"load": 1}, 1.0, ("by hand",))
    steps = walk(plan)
    assert [(step.batch, step.tile, step.width) for step in steps] == [
        (2, 0, 128),
        (1, 0, 128),
        (1, 64, 128),
        (1, 64, 96),
        (1, 0, 64),
    ]
    assert all(step.peak_bytes == {"load": 1} for step in steps)
