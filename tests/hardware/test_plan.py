"""Plans: what is predicted, what is chosen, and every step of the ladder down."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from aiprod_studio.engines.catalog import cards
from aiprod_studio.errors import BadRequest, DoesNotFit
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.nearest import AsksTooMuch
from aiprod_studio.hardware.plan import (
    Hardware,
    cheaper,
    choose_canvas,
    choose_plan,
    choose_precision,
)
from aiprod_studio.types import ModelCard, Plan, Request

MB, GB = 2**20, 2**30
LAPTOP = Hardware(
    device="cpu",
    name="a laptop",
    total_bytes=16 * GB,
    free_bytes=8 * GB,
    ram_bytes=16 * GB,
    ram_free_bytes=8 * GB,
    cores=4,
    disk_free_bytes=50 * GB,
    dtypes=("float32",),
    because="on the CPU, as PyTorch sees no GPU",
)
APPLE = dataclasses.replace(LAPTOP, device="mps", name="an Apple GPU")
STARTER = ModelCard(
    id="starter",
    name="The starter",
    licence="Apache-2.0",
    size_step=16,
    frame_step=4,
    frames=(1, 65),
    fps=(4, 30),
    pixels=128 * 128,
    default_width=256,
    default_height=256,
    default_seconds=2.0,
    default_fps=8.0,
    default_steps=20,
    default_guidance=3.0,
    sample_rate=16_000,
    part_bytes={"backbone": 20 * MB, "video_vae": 10 * MB},
    flops_per_token=2e7,
)
DOG = Request("a brown dog")


def test_plans_the_default_clip() -> None:
    plan = choose_plan(LAPTOP, STARTER, DOG)
    assert (plan.device, plan.precision) == ("cpu", "float32")
    assert (plan.width, plan.height, plan.frames) == (128, 128, 17)
    assert (plan.batch, plan.tile) == (1, 0)
    assert list(plan.peak_bytes) == ["load", "encode", "denoise", "decode"]
    assert plan.peak_bytes["load"] == 60 * MB
    assert plan.because == (
        "on the CPU, as PyTorch sees no GPU",
        "float32, as the model is small",
        "denoised at 128×128, enlarged to 256×256",
    )
    # 320 tokens, 20 steps, guided: 2.6e11 operations; the pixels: 5.6e10.
    assert plan.seconds == pytest.approx(3.15, abs=0.05)


def test_needs_no_scaling_at_the_trained_size() -> None:
    plan = choose_plan(LAPTOP, STARTER, dataclasses.replace(DOG, width=128, height=128))
    assert (plan.width, plan.height) == (128, 128)
    assert not any("Lanczos" in reason for reason in plan.because)


def test_reduces_what_is_asked_smaller() -> None:
    plan = choose_plan(LAPTOP, STARTER, dataclasses.replace(DOG, width=64, height=64))
    assert plan.because[-1] == "denoised at 128×128, reduced to 64×64"


@pytest.mark.parametrize(
    ("width", "height"),
    [(1280, 720), (720, 1280), (160, 96), (1920, 800), (256, 256), (16, 256), (128, 128)],
)
def test_keeps_the_aspect_on_the_trained_area(width: int, height: int) -> None:
    canvas = choose_canvas(width, height, 128 * 128, 16)
    assert all(side > 0 and side % 16 == 0 for side in canvas)
    assert canvas[0] / canvas[1] == pytest.approx(width / height, rel=0.15)
    assert canvas[0] * canvas[1] == pytest.approx(128 * 128, rel=0.15)


def test_costs_grow_with_what_is_asked() -> None:
    one = choose_plan(LAPTOP, STARTER, DOG)
    longer = choose_plan(LAPTOP, STARTER, dataclasses.replace(DOG, seconds=4.0))
    plain = choose_plan(LAPTOP, STARTER, dataclasses.replace(DOG, guidance=1.0))
    pictured = choose_plan(LAPTOP, STARTER, dataclasses.replace(DOG, image="dog.png"))
    assert longer.seconds > one.seconds > plain.seconds
    assert longer.peak_bytes["decode"] > one.peak_bytes["decode"]
    assert plain.peak_bytes["denoise"] < one.peak_bytes["denoise"]
    assert pictured.peak_bytes["encode"] > one.peak_bytes["encode"]


def test_chooses_the_precision() -> None:
    card = dataclasses.replace(LAPTOP, dtypes=("float32", "bfloat16", "float16"))
    older = dataclasses.replace(LAPTOP, dtypes=("float32", "float16"))
    assert choose_precision(card, 30 * MB)[0] == "float32"
    assert choose_precision(card, 4 * GB)[0] == "bfloat16"
    assert choose_precision(older, 4 * GB)[0] == "float16"
    assert choose_precision(LAPTOP, 4 * GB)[0] == "float32"


def test_steps_down_until_it_fits() -> None:
    card = dataclasses.replace(STARTER, flops_per_token=2e8)
    roomy = choose_plan(APPLE, card, DOG, clips=4)
    assert roomy.batch == 4
    peak = max(roomy.peak_bytes.values())
    tight = dataclasses.replace(APPLE, free_bytes=int(peak * 0.7))
    plan = choose_plan(tight, card, DOG, clips=4)
    assert plan.batch == 1
    assert max(plan.peak_bytes.values()) <= tight.free_bytes
    assert plan.because[-3:] == (
        "2 instead of 4 at once to save memory",
        "1 instead of 2 at once to save memory",
        "decoded in tiles laid by content of 64 pixels to save memory",
    )


def test_one_clip_fills_the_cores() -> None:
    plan = choose_plan(LAPTOP, STARTER, DOG, clips=4)
    assert plan.batch == 1
    assert not any("at once" in reason for reason in plan.because)


def test_walks_the_whole_ladder() -> None:
    plan: Plan | None = choose_plan(APPLE, STARTER, DOG, clips=2)
    steps: list[Plan] = []
    while plan is not None:
        steps.append(plan)
        plan = cheaper(plan)
    assert [(p.batch, p.tile, p.width, p.height) for p in steps] == [
        (2, 0, 128, 128),
        (1, 0, 128, 128),
        (1, 64, 128, 128),
        (1, 64, 96, 96),
        (1, 0, 64, 64),
    ]
    for before, after in itertools.pairwise(steps):
        assert sum(after.peak_bytes.values()) < sum(before.peak_bytes.values())
        assert all(
            after.peak_bytes[stage] <= before.peak_bytes[stage] for stage in after.peak_bytes
        )
        assert after.because[:-1] == before.because
        assert after.because[-1].endswith("to save memory")
        assert after.peak_bytes["load"] == before.peak_bytes["load"]


def test_keeps_the_step_of_the_model() -> None:
    card = dataclasses.replace(STARTER, size_step=32, pixels=768 * 512)
    plan: Plan | None = choose_plan(LAPTOP, card, dataclasses.replace(DOG, width=960, height=544))
    while plan is not None:
        assert plan.width % 32 == plan.height % 32 == plan.tile % 32 == 0
        plan = cheaper(plan)


def test_says_what_does_not_fit() -> None:
    small = dataclasses.replace(LAPTOP, free_bytes=64 * MB)
    with pytest.raises(DoesNotFit, match=r"The starter needs .* a laptop can give 58 MB. Close"):
        choose_plan(small, STARTER, DOG)
    with pytest.raises(DoesNotFit, match="RAM free"):
        choose_plan(dataclasses.replace(LAPTOP, ram_free_bytes=MB), STARTER, DOG)
    with pytest.raises(DoesNotFit, match="AIPROD_OUTPUTS"):
        choose_plan(dataclasses.replace(LAPTOP, disk_free_bytes=MB), STARTER, DOG)


def test_weights_lose_bits_only_where_there_are_kernels_and_reasons() -> None:
    card = cards()["ltx-2"]
    request = Request("x", card.id)
    plain = dataclasses.replace(imagine(24, 128), dtypes=("float32", "bfloat16"))
    assert choose_plan(plain, card, request).quantisation == ""
    assert choose_plan(imagine(80, 160), card, request).quantisation == ""
    few = choose_plan(imagine(24, 64), card, request)
    assert few.quantisation == "float8"
    assert any(reason.startswith("weights in float8, as those in") for reason in few.because)
    integers = dataclasses.replace(imagine(24, 64), dtypes=("float32", "bfloat16", "int8"))
    assert choose_plan(integers, card, request).quantisation == "int8"


def test_compiles_only_where_it_pays_back() -> None:
    card = cards()["wan2.1-1.3b"]
    request = Request("x", card.id)
    alone, many = (choose_plan(imagine(24), card, request, clips) for clips in (1, 8))
    assert not alone.compiled
    assert many.compiled
    assert "compiled, which pays back within this job" in many.because
    assert many.seconds < alone.seconds


def test_a_batch_pays_where_weights_travel() -> None:
    card = cards()["ltx-2"]
    request = Request("x", card.id)
    streaming = choose_plan(imagine(24, 32), card, request, clips=4)
    assert "disk" in streaming.placement.values()
    assert streaming.batch > 1
    assert choose_plan(imagine(80, 160), card, request, clips=4).batch == 1


def test_leaves_memory_to_the_browser_and_takes_only_what_is_free() -> None:
    card = cards()["wan2.1-1.3b"]
    machine = imagine(24)
    plan = choose_plan(machine, card, Request("x", card.id))
    tight = dataclasses.replace(machine, free_bytes=max(plan.peak_bytes.values()))
    less = choose_plan(tight, card, Request("x", card.id))
    assert max(less.peak_bytes.values()) < max(plan.peak_bytes.values()) * 0.9 - 256 * MB
    assert "256 MB of free GPU memory left to the browser" in less.because


def test_pins_no_more_than_half_of_the_ram() -> None:
    card = cards()["ltx-2"]
    request = Request("x", card.id)
    kept = dataclasses.replace(imagine(24, 64), dtypes=("float32", "bfloat16"))
    kept = dataclasses.replace(kept, ram_free_bytes=kept.ram_bytes)
    plan = choose_plan(kept, card, request)
    assert not plan.pinned, "38 GB of weights are more than half of 64 GB"
    assert choose_plan(imagine(24, 128), card, request).pinned


def test_the_canvas_is_what_is_asked_within_the_models_areas() -> None:
    card = cards()["ltx-2"]
    sizes = {(512, 512): (512, 512), (1920, 1088): (1920, 1088), (256, 256): (448, 448)}
    for (width, height), canvas in sizes.items():
        request = Request("x", card.id, width=width, height=height)
        plan = choose_plan(imagine(80, 160), card, request)
        assert (plan.width, plan.height) == canvas


def test_the_nearest_request_is_smaller_where_that_loses_less() -> None:
    card = cards()["wan2.2-a14b"]
    request = Request("x", card.id, width=1280, height=720)
    with pytest.raises(AsksTooMuch, match=r"Ask for \d+×\d+, close") as caught:
        choose_plan(imagine(8, 64), card, request)
    assert caught.value.nearest is not None
    assert caught.value.nearest.seconds == card.default_seconds
    with pytest.raises(AsksTooMuch, match=r"needs .* of RAM .* can give .* choose a smaller"):
        choose_plan(imagine(24, 8), card, request)


def test_refuses_what_the_model_cannot_make() -> None:
    with pytest.raises(BadRequest, match="multiples of 16"):
        choose_plan(LAPTOP, STARTER, dataclasses.replace(DOG, width=100))
