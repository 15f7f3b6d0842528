"""LTX-2 against the plain pipelines of diffusers, on tiny networks of the real classes."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from diffusers import (
    LTX2ConditionPipeline,
    LTX2Pipeline,
)
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from PIL import Image

from aiprod_studio.cli import main
from aiprod_studio.engines.engine import Batching, Latents, Pictures, Text
from aiprod_studio.engines.ltx2 import PROMPT_TOKENS, LTX2Parts
from aiprod_studio.engines.ltx_video import natural
from aiprod_studio.engines.recipes import Recipe
from aiprod_studio.errors import BadRequest
from aiprod_studio.sampling.solvers import Point
from tests.engines.conftest import forget, serve
from tests.engines.plans import decode
from tests.engines.tiny_ltx2 import (
    CARD,
    OFF,
    PLAN,
    PROMPT,
    REQUEST,
    build,
    call,
    counting,
    loaded,
    packed_noise,
    picture,
    quiet,
    run,
    unshifted,
    write_row,
)
from tests.engines.tiny_ltx2 import folder as folder
from tests.engines.tiny_ltx2 import parts as parts
from tests.engines.tiny_ltx2 import pipe as pipe
from tests.loopback_hub import LoopbackHub

PUSHED = Recipe(
    video={"stg": 1.0, "modality": 3.0, "rescale": 0.7},
    audio={"scale": 7.0, "stg": 0.5, "modality": 2.0, "rescale": 0.6},
    blocks=(1,),
)
SCALED = OFF | {"guidance_scale": 3.0, "audio_guidance_scale": 3.0}
FULL = {
    "guidance_scale": 3.0,
    "audio_guidance_scale": 7.0,
    "stg_scale": 1.0,
    "audio_stg_scale": 0.5,
    "modality_scale": 3.0,
    "audio_modality_scale": 2.0,
    "guidance_rescale": 0.7,
    "audio_guidance_rescale": 0.6,
    "spatio_temporal_guidance_blocks": [1],
}


@pytest.mark.parametrize(
    ("recipe", "guidance", "options"),
    [(Recipe(), 1.0, OFF), (Recipe(), 3.0, SCALED), (PUSHED, 3.0, FULL)],
    ids=["one prediction", "a scale", "all guides"],
)
def test_latents_are_those_of_the_plain_pipeline(
    parts: LTX2Parts, pipe: LTX2Pipeline, recipe: Recipe, guidance: float, options: dict[str, Any]
) -> None:
    """Picture and sound, whatever guides them."""
    latents = run(replace(parts, recipe=recipe), guidance=guidance)
    plain = call(pipe, **options)
    assert latents.audio is not None
    torch.testing.assert_close(natural(pipe.vae, latents.video), plain.frames, rtol=0, atol=5e-5)
    torch.testing.assert_close(latents.audio, plain.audio.flatten(2), rtol=0, atol=5e-5)


def test_frames_and_sound_are_those_of_the_plain_pipeline(
    parts: LTX2Parts, pipe: LTX2Pipeline
) -> None:
    """But for the sound's ends, which fade, and rounding to bytes."""
    latents = run(parts)
    plain = call(pipe, output_type="np")
    frames, sound = decode(parts, latents, PLAN), parts.decode_audio(latents, 17 / 24)
    assert sound is not None
    assert np.abs(frames / 255 - plain.frames[0]).max() < 0.6 / 255
    middle = slice(480, plain.audio.shape[2] - 480)
    assert np.abs(sound[:, middle] - plain.audio[0].numpy()[:, middle]).max() < 1e-5


def test_the_older_architecture_runs_as_it_was_trained(tmp_path: Path) -> None:
    """LTX-2.0 knows nothing of the other stream's noise."""
    plain = build(newer=False)
    plain.save_pretrained(tmp_path)
    with loaded(tmp_path) as parts:
        latents = run(parts)
    wanted = call(plain, use_cross_timestep=False).frames
    torch.testing.assert_close(natural(plain.vae, latents.video), wanted, rtol=0, atol=5e-5)


def test_without_guidance_a_step_is_one_run_of_the_denoiser(parts: LTX2Parts) -> None:
    """All eight switches are off together, also where a recipe names some of them."""
    with counting(parts) as counts:
        run(replace(parts, recipe=PUSHED), guidance=1.0)
        assert counts[0] == REQUEST.steps
        run(replace(parts, recipe=PUSHED), guidance=3.0)
        assert counts[0] == 5 * REQUEST.steps


def test_a_known_prompt_needs_no_encoder(parts: LTX2Parts, folder: Path, tmp_path: Path) -> None:
    """What is kept of a prompt is small, and enough."""
    text, nothing = parts.encode_text(PROMPT), parts.encode_text("")
    hidden, sound_width = text.features.shape[2], text.more["sound"].shape[2]
    assert text.features.shape == (1, PROMPT_TOKENS, hidden)
    assert text.more["sound"].shape == (1, PROMPT_TOKENS, sound_width)
    assert hidden + sound_width < parts.components.config("connectors")["caption_channels"] * 3
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    shutil.rmtree(bare / "text_encoder")
    shutil.rmtree(bare / "connectors")
    with loaded(bare) as without:
        again = without.denoise(text, nothing, {}, REQUEST, PLAN, lambda *_: None)
    assert torch.equal(again.video, run(parts).video)


@pytest.mark.parametrize("wrong", [{"width": 80}, {"height": 40}, {"frames": 18}])
def test_a_size_that_the_model_has_not_is_refused(parts: LTX2Parts, wrong: dict[str, int]) -> None:
    """Before anything is computed."""
    empty = Text(torch.zeros(1, 1, 1), torch.zeros(1, 0))
    with pytest.raises(BadRequest, match="multiples of 32 and frames of the form 8"):
        parts.denoise(empty, empty, {}, REQUEST, replace(PLAN, **wrong), lambda *_: None)


@pytest.mark.parametrize(("frames", "chunk"), [(9, 8), (17, 0), (33, 16)])
def test_tiles_keep_the_size(parts: LTX2Parts, frames: int, chunk: int) -> None:
    """A remainder of one latent neither crashes nor shrinks the video, in space nor in time."""
    plan = replace(PLAN, width=160, height=96, frames=frames)
    video = torch.randn(1, 4, (frames - 1) // 8 + 1, 3, 5, generator=torch.Generator())
    latents = Latents(video, None)
    whole = decode(parts, latents, plan)
    tiled = decode(parts, latents, replace(plan, tile=64, overlap=32, chunk=chunk))
    assert whole.shape == tiled.shape == (frames, 96, 160, 3)
    # Random weights spread far beyond an overlap, so the two only resemble each other.
    assert np.corrcoef(whole.ravel(), tiled.ravel())[0, 1] > 0.3


def test_no_other_model_gets_another_attention(parts: LTX2Parts) -> None:
    """The process's default stays as it was."""
    before = _AttentionBackendRegistry.get_active_backend()[0]
    latents = run(parts)
    assert _AttentionBackendRegistry.get_active_backend()[0] == before
    assert torch.isfinite(latents.video).all()


def test_each_network_is_gone_before_the_next(folder: Path) -> None:
    """Where they come as a whole for their stage, no two of them are in memory at once."""
    plan = replace(PLAN, placement={"encode": "model", "denoise": "model", "decode": "model"})
    during: list[set[str]] = []
    with loaded(folder, placement=plan.placement) as parts:
        held = parts.components
        text, nothing = parts.encode_text(PROMPT), parts.encode_text("")
        assert not held.loaded

        def look(point: Point) -> None:
            during.append(held.loaded)
            assert parts.preview(point, REQUEST, plan).shape == (64, 96, 3)
            during.append(held.loaded)

        asked = (text, nothing, {}, REQUEST, plan, lambda *_: None)
        latents = parts.denoise(*asked, on_point=look)
        assert during == [{"transformer"}] * 6
        assert not held.loaded
        for chunk in parts.decode_video(latents, replace(plan, chunk=8)):
            assert chunk.shape[1:] == (64, 96, 3)
            assert held.loaded == {"vae"}
        assert not held.loaded


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_pictures_are_held_as_by_the_plain_pipeline(
    parts: LTX2Parts, pipe: LTX2Pipeline, guidance: float
) -> None:
    """The first frame in its place, another one beside the clip; the plain one counts latents."""
    first, last = picture(1), picture(2)
    given = parts.encode_media(Pictures(first, last), PLAN)
    assert set(given) == {"0", "16"}
    given = {"0": given["0"], "9": given["16"]}
    rough = packed_noise(3, 18, beside=6)
    start = Point(0, rough, rough)
    recipe = Recipe(sigmas=(1.0, 0.9, 0.5))
    latents = run(replace(parts, recipe=recipe), given, guidance=guidance, start=start)
    plain = quiet(LTX2ConditionPipeline(**(pipe.components | {"scheduler": unshifted(pipe)})))
    wanted = call(
        plain,
        conditions=[
            LTX2VideoCondition(Image.fromarray(first), index=0),
            LTX2VideoCondition(Image.fromarray(last), index=-1),
        ],
        sigmas=[1.0, 0.9, 0.5],
        guidance_scale=guidance,
        audio_guidance_scale=guidance,
    )
    torch.testing.assert_close(natural(pipe.vae, latents.video), wanted.frames, rtol=0, atol=5e-5)
    assert latents.audio is not None
    torch.testing.assert_close(latents.audio, wanted.audio.flatten(2), rtol=0, atol=5e-5)
    assert torch.equal(latents.video[:, :, :1], given["0"])


def test_the_last_picture_changes_the_clip(parts: LTX2Parts) -> None:
    """At its end most, where it belongs."""
    none = run(parts).video
    last = run(parts, parts.encode_media(Pictures(last=picture(2)), PLAN)).video
    assert parts.encode_media(Pictures(), PLAN) == {}
    assert (last - none).abs().max() > 1e-4


@pytest.mark.parametrize("fps", [24.0, 23.976, 30.0])
def test_sound_is_as_long_as_the_picture(parts: LTX2Parts, fps: float) -> None:
    """To the sample, and it begins and ends in silence."""
    latents = run(parts, fps=fps)
    sound = parts.decode_audio(latents, PLAN.frames / fps)
    assert sound is not None
    assert sound.dtype == np.float32
    assert sound.shape == (2, round(PLAN.frames / fps * CARD.sample_rate))
    assert np.abs(sound).max() > 0.01
    assert not sound[:, [0, -1]].any()
    assert np.abs(np.diff(sound[:, -480:])).max() <= np.abs(np.diff(sound)).max()


def test_sound_that_nobody_wants_is_dropped(parts: LTX2Parts) -> None:
    """The picture is the same without it."""
    silent = run(parts, audio=False)
    assert silent.audio is None
    assert parts.decode_audio(silent, 1.0) is None
    assert torch.equal(silent.video, run(parts).video)


def test_sound_of_another_rate_comes_at_the_cards(folder: Path) -> None:
    """A folder's vocoder may be an older one."""
    with loaded(folder, card=replace(CARD, sample_rate=24000)) as parts:
        sound = parts.decode_audio(run(parts), 17 / 24)
    assert sound is not None
    assert sound.shape == (2, 17000)


def test_a_run_goes_on_from_any_point(parts: LTX2Parts) -> None:
    """To the same bits, with pictures and guidance too."""
    given = parts.encode_media(Pictures(picture(1), picture(2)), PLAN)
    points: list[Point] = []
    whole = run(parts, given, guidance=3.0, on_point=points.append)
    assert [point.done for point in points] == [1, 2, 3]
    for point in points:
        again = run(parts, given, guidance=3.0, start=point)
        assert torch.equal(again.video, whole.video)
        assert whole.audio is not None
        assert again.audio is not None
        assert torch.equal(again.audio, whole.audio)


def test_a_preview_is_the_first_frame(parts: LTX2Parts) -> None:
    """Of what the denoiser thinks the clip will be."""
    points: list[Point] = []
    latents = run(parts, on_point=points.append)
    frame = parts.preview(points[-1], REQUEST, PLAN)
    alone = decode(parts, Latents(latents.video[:, :, :1], None), PLAN)
    assert frame.shape == (64, 96, 3)
    assert np.array_equal(frame, alone[0])


def test_clips_together_are_as_alone(parts: LTX2Parts) -> None:
    """Each from its own prompt, seed and picture."""
    assert isinstance(parts, Batching)
    prompts = (PROMPT, "two cats in the rain")
    texts, nothing = [parts.encode_text(prompt) for prompt in prompts], parts.encode_text("")
    given = [parts.encode_media(Pictures(picture(n), picture(n + 2)), PLAN) for n in (1, 2)]
    requests = [replace(REQUEST, seed=seed, guidance=3.0) for seed in (3, 4)]
    heard: list[int] = []
    both = parts.denoise_together(
        texts, nothing, given, requests, PLAN, lambda *_: None, lambda two: heard.append(len(two))
    )
    assert heard == [2, 2, 2]
    for text, own, request, latents in zip(texts, given, requests, both, strict=True):
        single = parts.denoise(text, nothing, own, request, PLAN, lambda *_: None)
        torch.testing.assert_close(latents.video, single.video, rtol=0, atol=1e-5)
        assert latents.audio is not None
        assert single.audio is not None
        torch.testing.assert_close(latents.audio, single.audio, rtol=0, atol=1e-5)


def test_from_the_download_to_the_file_with_sound(
    hub: LoopbackHub,
    catalogue: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Accepted, downloaded, planned, denoised from a picture, decoded and joined with sound."""
    (catalogue / "tiny.toml").write_text(write_row())
    forget()
    serve(hub, "owner/tiny-ltx", folder)
    first = tmp_path / "first.png"
    Image.fromarray(picture(1)).save(first)
    words = ["--cli", PROMPT, "--engine", "tiny-ltx", "--seed", "3"]
    words += ["--fps", "23.976", "--image", str(first), "--out", str(tmp_path)]
    assert main(words) == 2
    assert "--accept-licence" in capsys.readouterr().err
    assert main(["models", "download", "tiny-ltx", "--accept-licence"]) == 0
    capsys.readouterr()
    assert main(words) == 0, capsys.readouterr().err
    with av.open(capsys.readouterr().out.strip()) as file:
        picture_stream, sound_stream = file.streams.video[0], file.streams.audio[0]
        assert float(picture_stream.average_rate or 0) == pytest.approx(23.976, abs=1e-3)
        assert sound_stream.rate == 48000
        lengths = [
            float(stream.duration * stream.time_base)
            for stream in (picture_stream, sound_stream)
            if stream.duration and stream.time_base
        ]
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * 17
    assert lengths[0] == pytest.approx(17 / 23.976, abs=1e-3)
    assert lengths[1] == pytest.approx(lengths[0], abs=1e-3)
