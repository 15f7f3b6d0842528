"""Wan: the same as diffusers' own pipeline, resumed exactly, decoded in tiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from aiprod_studio.engines.engine import Batching, Latents, Pictures
from aiprod_studio.engines.wan import WanEngine, WanParts
from aiprod_studio.errors import Cancelled
from aiprod_studio.sampling.solvers import Point
from aiprod_studio.sampling.tiling import Tiling, decode_tiled
from aiprod_studio.types import Basis, Plan, Request
from tests.engines.conftest import Tiny
from tests.engines.plans import card_of, decode, machine, plan_of, to_frames

PROMPT = "a red fox running"
STEPS = 4
KINDS = ["wan", "wan5b", "wan14b"]


def ask(**more: Any) -> Request:
    return Request(**{"prompt": PROMPT, "seed": 7, "steps": STEPS, "guidance": 5.0, **more})


@contextmanager
def loaded(tiny: Tiny, kind: str, plan: Plan, share: float = 1.0) -> Iterator[WanParts]:
    engine = WanEngine(card_of(kind), lambda _: tiny(kind), share)
    with engine.load(plan) as parts:
        yield parts


def make(parts: WanParts, plan: Plan, request: Request, given: Any = None, **more: Any) -> Latents:
    text, nothing = parts.encode_text(request.prompt), parts.encode_text("")
    return parts.denoise(text, nothing, given or {}, request, plan, lambda *_: None, **more)


def reference(tiny: Tiny, kind: str, request: Request, plan: Plan, **more: Any) -> Any:
    """Return what diffusers' own pipeline makes of the same."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(tiny(kind))
    if "image" in more:
        from diffusers import WanImageToVideoPipeline

        pipeline = WanImageToVideoPipeline.from_pipe(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt=request.prompt,
        negative_prompt="",
        height=plan.height,
        width=plan.width,
        num_frames=plan.frames,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        generator=torch.Generator().manual_seed(request.seed or 0),
        **more,
    ).frames


@pytest.mark.parametrize("kind", KINDS)
def test_latents_and_frames_are_those_of_the_plain_pipeline(tiny: Tiny, kind: str) -> None:
    plan, request = plan_of(kind), ask()
    with loaded(tiny, kind, plan) as parts:
        latents = make(parts, plan, request)
        frames = decode(parts, latents, plan)
        assert parts.decode_audio(latents, 1.0) is None
    expected = reference(tiny, kind, request, plan, output_type="latent")
    torch.testing.assert_close(latents.video, expected, rtol=1e-5, atol=1e-5)
    plain = reference(tiny, kind, request, plan, output_type="np")[0]
    assert frames.shape == (plan.frames, plan.height, plan.width, 3)
    np.testing.assert_allclose(frames, plain * 255, atol=0.6)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("wan5b", ["image"]),
        ("wan14b-image", ["image"]),
        ("wan14b-image", ["image", "last_image"]),
    ],
)
def test_pictures_are_read_as_the_plain_pipeline_reads_them(
    tiny: Tiny, kind: str, names: list[str]
) -> None:
    from PIL import Image

    plan, request = plan_of(kind), ask()
    dice = np.random.default_rng(0)
    pictures = [dice.integers(0, 255, (plan.height, plan.width, 3), np.uint8) for _ in names]
    with loaded(tiny, kind, plan) as parts:
        given = parts.encode_media(Pictures(*pictures), plan)
        latents = make(parts, plan, request, given)
    found = zip(names, map(Image.fromarray, pictures), strict=True)
    more: dict[str, Any] = {"output_type": "latent", **dict(found)}
    expected = reference(tiny, kind, request, plan, **more)
    torch.testing.assert_close(latents.video, expected, rtol=1e-4, atol=1e-4)


def test_a_last_picture_alone_leaves_the_first_frame_open(tiny: Tiny) -> None:
    plan = plan_of("wan14b-image")
    picture = np.full((plan.height, plan.width, 3), 200, np.uint8)
    with loaded(tiny, "wan14b-image", plan) as parts:
        mask = parts.encode_media(Pictures(last=picture), plan)["beside"][0, :4]
    assert not mask[:, :-1].any()
    assert mask[:, -1].amax(dim=(1, 2)).tolist() == [0, 0, 0, 1]


def test_without_guidance_the_denoiser_runs_once_a_step(tiny: Tiny) -> None:
    plan, calls = plan_of("wan"), []
    with loaded(tiny, "wan", plan) as parts:
        with parts.components.use("transformer") as network:
            network.register_forward_pre_hook(lambda *_: calls.append(1))
        make(parts, plan, ask(guidance=1.0))
        alone = len(calls)
        make(parts, plan, ask(guidance=2.0))
    assert (alone, len(calls) - alone) == (STEPS, 2 * STEPS)


def test_the_second_expert_gets_its_share_of_guidance(tiny: Tiny) -> None:
    plan = plan_of("wan14b")
    with loaded(tiny, "wan14b", plan, 0.5) as parts:
        ours = make(parts, plan, ask(guidance=4.0))
    more = {"guidance_scale_2": 2.0, "output_type": "latent"}
    expected = reference(tiny, "wan14b", ask(guidance=4.0), plan, **more)
    torch.testing.assert_close(ours.video, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_exactly_from_every_point(tiny: Tiny, kind: str) -> None:
    plan, points = plan_of(kind), []
    with loaded(tiny, kind, plan) as parts:
        whole = make(parts, plan, ask(), on_point=points.append)
    assert [point.done for point in points] == [1, 2, 3, 4]
    with loaded(tiny, kind, plan) as parts:
        for point in points:
            assert torch.equal(make(parts, plan, ask(), start=point).video, whole.video)


def test_a_preview_shows_the_colours_that_the_decoder_would(tiny: Tiny) -> None:
    plan, seen = plan_of("wan"), []
    with loaded(tiny, "wan", plan) as parts:
        assert isinstance(parts, Batching)

        def look(point: Point) -> None:
            seen.append(parts.preview(point, ask(), plan))

        make(parts, plan, ask(), on_point=look)
    assert len(seen) == STEPS
    assert {one.shape for one in seen} == {(32, 32, 3)}
    assert seen[-1].dtype == np.uint8


def test_clips_together_are_those_of_each_alone(tiny: Tiny) -> None:
    plan = plan_of("wan")
    requests = [ask(), ask(prompt="a robot", seed=8)]
    points: list[list[Point]] = []
    with loaded(tiny, "wan", plan) as parts:
        texts = [parts.encode_text(request.prompt) for request in requests]
        asked = (texts, parts.encode_text(""), [{}, {}], requests, plan, lambda *_: None)
        both = parts.denoise_together(*asked, on_points=lambda rows: points.append(list(rows)))
        again = parts.denoise_together(*asked, starts=points[1])
        alone = [make(parts, plan, request) for request in requests]
    for one, other, single in zip(both, again, alone, strict=True):
        assert torch.equal(one.video, other.video)
        torch.testing.assert_close(one.video, single.video, rtol=1e-4, atol=1e-5)


def test_a_step_cache_leaves_steps_out_and_a_threshold_of_0_none(tiny: Tiny) -> None:
    """As the plan of a clip says, whatever the weights were loaded for."""
    calls: list[int] = []
    results = []
    with loaded(tiny, "wan", plan_of("wan")) as parts:
        with parts.components.use("transformer") as network:
            network.blocks[-1].attn1.register_forward_hook(lambda *_: calls.append(1))
        for cache in ("", "first-block:0", "first-block:10"):
            calls.clear()
            results.append((make(parts, plan_of("wan", cache=cache), ask()).video, len(calls)))
    (plain, whole), (same, all_steps), (_, few) = results
    assert torch.equal(plain, same)
    assert (whole, all_steps, few) == (2 * STEPS, 2 * STEPS, 2)


@pytest.mark.parametrize("tiling", ["uniform", "content"])
def test_tiles_give_frames_of_the_whole_size(tiny: Tiny, tiling: str) -> None:
    plan = plan_of("wan", width=96, height=64)
    tiled = dataclasses.replace(plan, tile=48, overlap=16, tiling=tiling)
    with loaded(tiny, "wan", plan) as parts:
        latents = make(parts, plan, ask())
        whole, pieces = (decode(parts, latents, one) for one in (plan, tiled))
    assert whole.shape == pieces.shape == (9, 64, 96, 3)
    assert np.abs(whole.astype(float) - pieces).mean() < 4


@pytest.mark.parametrize("kind", ["wan", "wan5b"])
def test_the_frames_come_in_chunks(tiny: Tiny, kind: str) -> None:
    plan = plan_of(kind, frames=25, chunk=8, tiling="stream")
    with loaded(tiny, kind, plan) as parts:
        config = parts.components.config("vae")
        tiling = Tiling(config.get("scale_factor_spatial", 8), 4, chunk=8)
        side = plan.width // tiling.space
        latents = Latents(torch.randn(1, config["z_dim"], 7, side, side), None)
        with parts.components.use("vae") as vae:
            mean, spread = (
                torch.tensor(config[name]).view(1, -1, 1, 1, 1)
                for name in ("latents_mean", "latents_std")
            )

            def whole(z: torch.Tensor) -> torch.Tensor:
                return vae.decode(z * spread + mean, return_dict=False)[0]

            wanted = to_frames(decode_tiled(whole, latents.video, tiling))
        assert len(list(parts.decode_video(latents, plan))) == len(tiling.spans(7)) > 2
        assert np.array_equal(decode(parts, latents, plan), wanted)


def test_only_one_expert_is_in_memory(tiny: Tiny) -> None:
    plan = plan_of("wan14b", place="model")
    with loaded(tiny, "wan14b", plan) as parts:
        names = []

        def count(done: int, total: int) -> None:
            names.append(sorted(parts.components.loaded))

        text, nothing = parts.encode_text(PROMPT), parts.encode_text("")
        parts.denoise(text, nothing, {}, ask(), plan, count)
    assert {name for step in names for name in step} == {"transformer", "transformer_2"}
    assert all(len(step) == 1 for step in names), names


def test_a_stop_between_steps_leaves_nothing_in_use(tiny: Tiny) -> None:
    plan = plan_of("wan", place="model")

    def stop(done: int, total: int) -> None:
        raise Cancelled("Stopped. Start it again.")

    with loaded(tiny, "wan", plan) as parts:
        text = parts.encode_text(PROMPT)
        with pytest.raises(Cancelled):
            parts.denoise(text, text, {}, ask(), plan, stop)
        assert not parts.components.loaded


def test_the_task_of_the_plan_decides_which_weights_are_opened(tiny: Tiny) -> None:
    asked: list[str] = []

    def find(task: str) -> Any:
        asked.append(task)
        return tiny("wan14b-image" if task == "image" else "wan14b")

    plan = plan_of("wan14b")
    basis = Basis(machine(), card_of("wan14b"), ask(image="first.png"))
    with WanEngine(card_of("wan14b"), find).load(dataclasses.replace(plan, basis=basis)) as parts:
        assert asked == ["image"]
        make(parts, plan, ask())
        assert parts.components.folder == tiny("wan14b")
