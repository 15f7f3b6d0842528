"""The memory model against figures that were computed from traces of the real configurations."""

from __future__ import annotations

import dataclasses

import pytest

from aiprod_studio.engines.catalog import cards
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.ladder import predict
from aiprod_studio.hardware.memory import (
    STAGES,
    basis_of,
    count_tokens,
    pinned_bytes,
    streamed_share,
)
from aiprod_studio.hardware.options import options
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.types import Basis, ModelCard, Plan, Request


def roomy(engine: str, width: int, height: int, gpu_gb: float = 200.0) -> Plan:
    """Return the plan of five seconds on a GPU with room for everything."""
    request = Request("x", engine, width=width, height=height)
    return dataclasses.replace(
        choose_plan(imagine(gpu_gb, 512), cards()[engine], request), tile=0, overlap=0, chunk=0
    )


def placed(plan: Plan, placement: str, quantisation: str = "") -> Plan:
    """Return `plan` with all its weights at one place."""
    places = dict.fromkeys(STAGES[1:], placement)
    return predict(dataclasses.replace(plan, placement=places, quantisation=quantisation))


@pytest.mark.parametrize(
    ("engine", "size", "full", "float8", "int4", "streamed"),
    [
        ("ltx-2", (768, 512), 40.0, 21.3, 13.1, 4.5),
        ("ltx-2", (1280, 704), 41.4, 22.7, 14.5, 6.0),
        ("ltx-2", (1920, 1088), 44.9, 26.2, 18.0, 9.4),
        ("wan2.2-5b", (1280, 704), 17.6, 12.7, 10.5, 8.8),
        ("wan2.2-a14b", (832, 480), 34.0, 20.0, 13.9, 7.5),
        ("wan2.2-a14b", (1280, 720), 40.0, 26.0, 19.9, 13.5),
        ("wan2.1-1.3b", (832, 480), 5.6, 4.2, 3.6, 3.2),
    ],
)
def test_denoising_takes_what_was_traced(
    engine: str, size: tuple[int, int], full: float, float8: float, int4: float, streamed: float
) -> None:
    plan = roomy(engine, *size)
    found = [
        placed(plan, "model").peak_bytes["denoise"],
        placed(plan, "model", "float8").peak_bytes["denoise"],
        placed(plan, "model", "int4").peak_bytes["denoise"],
        placed(plan, "group").peak_bytes["denoise"],
    ]
    assert [one / 1e9 for one in found] == pytest.approx([full, float8, int4, streamed], rel=0.03)


def test_a_reference_is_counted_as_another_clip() -> None:
    plain = roomy("ltx-2", 768, 512)
    assert plain.basis is not None
    request = dataclasses.replace(plain.basis.request, reference="a.mp4")
    basis = dataclasses.replace(plain.basis, request=request)
    beside = predict(dataclasses.replace(plain, basis=basis))
    assert count_tokens(beside) == 2 * count_tokens(plain)
    for stage in ("encode", "denoise"):
        assert beside.peak_bytes[stage] > plain.peak_bytes[stage]
    assert beside.stage_seconds["denoise"] > 2 * plain.stage_seconds["denoise"]
    assert beside.peak_bytes["decode"] == plain.peak_bytes["decode"]


@pytest.mark.parametrize(("cache", "kept"), [("first-block", 3), ("mag:0.1", 2)])
@pytest.mark.parametrize(("engine", "passes"), [("ltx-2", 1), ("wan2.2-5b", 2)])
def test_a_step_cache_is_counted(cache: str, kept: int, engine: str, passes: int) -> None:
    plain = roomy(engine, 768, 512)
    card = basis_of(plain).card
    cached = predict(dataclasses.replace(plain, cache=cache))
    bytes_ = kept * passes * count_tokens(plain) * card.memory.width * 2
    more = cached.peak_bytes["denoise"] - plain.peak_bytes["denoise"]
    assert more == pytest.approx(card.memory.slack * bytes_, abs=1)
    assert cached.peak_bytes["decode"] == plain.peak_bytes["decode"]


def test_clips_with_a_step_cache_are_denoised_one_by_one() -> None:
    request = Request("x", "wan2.2-a14b")
    for asked, batches in ((request, {1, 2, 4}), (dataclasses.replace(request, cache="mag"), {1})):
        plan = choose_plan(imagine(24, 64), cards()[request.engine], asked, clips=4)
        first = dataclasses.replace(plan, quantisation="", batch=1)
        assert {one.batch for one in options(first)} == batches


@pytest.mark.parametrize(
    ("tile", "chunk", "size", "gigabytes"),
    [(0, 0, (1280, 704), 12.1), (512, 64, (1280, 704), 4.4), (512, 64, (1920, 1088), 7.0)],
)
def test_decoding_takes_what_was_traced(
    tile: int, chunk: int, size: tuple[int, int], gigabytes: float
) -> None:
    plan = dataclasses.replace(roomy("ltx-2", *size), tile=tile, chunk=chunk)
    # The two audio parts, 0.36 GB, were not counted there.
    found = placed(plan, "model").peak_bytes["decode"] / 1e9 - 0.36
    assert found == pytest.approx(gigabytes, rel=0.06)


def test_weights_are_counted_where_they_are() -> None:
    plan = roomy("wan2.1-1.3b", 832, 480)
    resident, staged, disk = (placed(plan, place) for place in ("resident", "model", "disk"))
    assert resident.peak_bytes["load"] == 14_450_000_000 + 800_000_000
    assert staged.peak_bytes["load"] == 800_000_000
    assert staged.ram_bytes["denoise"] - disk.ram_bytes["denoise"] == 14_450_000_000
    assert resident.ram_bytes["denoise"] == disk.ram_bytes["denoise"]
    assert placed(plan, "group").peak_bytes["denoise"] == disk.peak_bytes["denoise"]


def test_guidance_doubles_the_batch_only_of_a_model_that_is_guided_in_one_batch() -> None:
    for cfg_batch, doubles in ((2, True), (1, False)):
        card = cards()["ltx-2"]
        card = dataclasses.replace(
            card, memory=dataclasses.replace(card.memory, cfg_batch=cfg_batch)
        )
        once, twice = (
            choose_plan(imagine(200, 512), card, Request("x", card.id, guidance=guidance))
            for guidance in (1.0, 5.0)
        )
        assert (twice.peak_bytes["denoise"] > once.peak_bytes["denoise"]) is doubles
        assert twice.stage_seconds["denoise"] > 1.5 * once.stage_seconds["denoise"]


def test_only_the_denoiser_takes_several_clips_at_once() -> None:
    one = roomy("ltx-2", 768, 512)
    four = placed(dataclasses.replace(one, batch=4), "model").peak_bytes
    alone = placed(one, "model").peak_bytes
    assert [four[stage] > alone[stage] for stage in STAGES] == [False, False, True, False]


def test_apple_has_one_pool_and_slices_attention() -> None:
    machine = dataclasses.replace(
        imagine(64, 96), device="mps", name="Apple GPU", dtypes=("float32", "float16")
    )
    card = cards()["wan2.1-1.3b"]
    plan = choose_plan(machine, card, Request("x", card.id))
    assert (plan.precision, plan.attention, plan.quantisation) == ("float16", "sliced", "")
    finished = 832 * 480 * 81 * 3 * 2
    assert plan.ram_bytes["denoise"] == plan.peak_bytes["denoise"]
    assert plan.ram_bytes["decode"] == plan.peak_bytes["decode"] + finished
    native = predict(dataclasses.replace(plan, attention="native"))
    scores = 1024 * 32_760 * 12 * 4
    gap = plan.peak_bytes["denoise"] - native.peak_bytes["denoise"]
    assert gap == pytest.approx(scores * 1.25, abs=2)
    assert "group" not in plan.placement.values()


def test_few_chunks_of_finished_frames_wait_in_the_ram() -> None:
    whole = roomy("ltx-2", 1280, 704)
    for chunk, frames in ((16, 3 * 16), (64, 3 * 64), (400, 2 * whole.frames)):
        streamed = predict(dataclasses.replace(whole, chunk=chunk, tiling="stream"))
        gap = whole.ram_bytes["decode"] - streamed.ram_bytes["decode"]
        assert gap == 1280 * 704 * 3 * (2 * whole.frames - frames)


@pytest.mark.parametrize("quantisation", ["", "int4"])
@pytest.mark.parametrize("placement", ["resident", "model", "group", "disk"])
def test_loras_stand_beside_the_denoiser_at_work(placement: str, quantisation: str) -> None:
    """In 16 bits whatever the weights have, of two denoisers those of one at a time."""
    plain = placed(roomy("wan2.2-a14b", 832, 480), placement, quantisation)
    loras = {"transformer": 6 * 10**8, "transformer_2": 5 * 10**8}
    more = predict(dataclasses.replace(plain, basis=widened(plain, loras)))
    found = {stage: more.peak_bytes[stage] - plain.peak_bytes[stage] for stage in STAGES}
    part = basis_of(plain).card.parts["transformer"]
    share = streamed_share(part) if placement in ("group", "disk") else 1.0
    assert found.pop("denoise") == pytest.approx(1.2e9 * share, abs=1)
    assert set(found.values()) == {0}
    waiting = {stage: more.ram_bytes[stage] - plain.ram_bytes[stage] for stage in STAGES}
    wanted = 0 if placement == "resident" else 1_200_000_000
    assert waiting == {"load": 0, "encode": 0, "denoise": wanted, "decode": 0}


def test_loras_are_pinned_with_their_denoiser() -> None:
    plain = dataclasses.replace(placed(roomy("ltx-2", 768, 512), "group"), pinned=True)
    more = dataclasses.replace(plain, basis=widened(plain, {"transformer": 10**8}))
    assert pinned_bytes(more) - pinned_bytes(plain) == 2 * 10**8


def test_in_one_pool_loras_are_counted_once_and_whole() -> None:
    """Also beside blocks that are read from files."""
    machine = dataclasses.replace(imagine(200, 300), device="cpu", dtypes=("float32",))
    card = cards()["wan2.1-1.3b"]
    for place in ("resident", "model", "disk"):
        plain = placed(choose_plan(machine, card, Request("x", card.id)), place)
        more = predict(dataclasses.replace(plain, basis=widened(plain, {"transformer": 10**8})))
        for ours, wanted in (
            (more.peak_bytes, plain.peak_bytes),
            (more.ram_bytes, plain.ram_bytes),
        ):
            assert ours["denoise"] - wanted["denoise"] == 4 * 10**8


def test_a_lora_can_be_what_does_not_fit() -> None:
    """Then the weights move, as they do for anything else."""
    card = cards()["wan2.1-1.3b"]
    machine, request = imagine(24, 64), Request("x", card.id)
    plain = choose_plan(machine, card, request)
    wide = choose_plan(machine, with_parts(card, {"transformer": 4 * 10**9}), request)
    assert "resident" in plain.placement.values()
    assert "resident" not in wide.placement.values()


def widened(plan: Plan, loras: dict[str, int]) -> Basis:
    """Return the basis of a plan with LoRAs of so many values beside its parts."""
    basis = basis_of(plan)
    return dataclasses.replace(basis, card=with_parts(basis.card, loras))


def with_parts(card: ModelCard, loras: dict[str, int]) -> ModelCard:
    parts = {
        name: dataclasses.replace(part, loras=loras.get(name, 0))
        for name, part in card.parts.items()
    }
    return dataclasses.replace(card, parts=parts)
