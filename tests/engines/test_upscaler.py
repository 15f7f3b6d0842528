"""A second stage: latents of twice the sides, denoised again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import LTX2LatentUpsamplePipeline, LTX2Pipeline
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from safetensors.torch import save_file

from aiprod_studio.cli import main
from aiprod_studio.engines.engine import Text
from aiprod_studio.engines.ltx2 import LTX2Engine
from aiprod_studio.engines.ltx_video import natural
from aiprod_studio.engines.recipes import Recipe
from aiprod_studio.errors import BadRequest, ModelUnavailable
from aiprod_studio.media.video import read_clip
from aiprod_studio.sampling.solvers import Point
from tests.engines.conftest import forget
from tests.engines.tiny_ltx2 import (
    CARD,
    PLAN,
    PROMPT,
    REQUEST,
    UPSCALER,
    call,
    loaded,
    packed_noise,
    quiet,
    run,
    save_upscaler,
    unshifted,
    write_row,
)
from tests.engines.tiny_ltx2 import folder as folder
from tests.engines.tiny_ltx2 import pipe as pipe
from tests.engines.tiny_pipelines import files
from tests.loopback_hub import LoopbackHub

NEWER = """
[[variants]]
name = "newer"
repo = "owner/tiny-newer"
revision = "main"
gated = true
tasks = ["text", "image", "keyframes", "reference"]
files = ["model_index.json"]
maybe = ["*/*"]
"""


def test_a_second_stage_is_that_of_the_plain_pipelines(
    folder: Path, pipe: LTX2Pipeline, tmp_path: Path
) -> None:
    """Twice the sides, then denoised again from part of the noise; the sound too."""
    torch.manual_seed(0)
    network = LTX2LatentUpsamplerModel(in_channels=4, mid_channels=32, num_blocks_per_stage=1)
    save_file(network.state_dict(), tmp_path / "ltx-2.3-spatial-upscaler-x2-1.1.safetensors")
    large = replace(PLAN, width=192, height=128)
    levels = (0.909375, 0.725, 0.421875)
    places = {"text": folder, "upscale": tmp_path}
    with LTX2Engine(CARD, places.__getitem__).load(PLAN) as parts:
        parts.recipe = Recipe(refine=levels)
        small = run(parts)
        upsampled = parts.upsample(small, large)
        text, nothing = parts.encode_text(PROMPT), parts.encode_text("")
        points: list[Point] = []
        asked = (text, nothing, {}, REQUEST, large, lambda *_: None)
        refined = parts.refine(upsampled, *asked, on_point=points.append)
        assert torch.equal(refined.video, parts.refine(upsampled, *asked, start=points[0]).video)
        clean = torch.cat([latents.flatten() for latents in (upsampled.video, upsampled.audio)])
        start = Point(0, torch.lerp(clean, packed_noise(5, 72), levels[0]), clean)
        again = parts.refine(upsampled, *asked, start=start)
    up = LTX2LatentUpsamplePipeline(pipe.vae, network)
    wanted = up(
        latents=natural(pipe.vae, small.video), output_type="latent", height=64, width=96
    ).frames
    torch.testing.assert_close(natural(pipe.vae, upsampled.video), wanted, rtol=0, atol=1e-5)
    plain = quiet(LTX2Pipeline(**(pipe.components | {"scheduler": unshifted(pipe)})))
    assert small.audio is not None
    second = call(
        plain,
        latents=wanted,
        audio_latents=small.audio.unflatten(2, (-1, 2)),
        sigmas=list(levels),
        noise_scale=levels[0],
        width=192,
        height=128,
        generator=torch.Generator().manual_seed(5),
    )
    torch.testing.assert_close(natural(pipe.vae, again.video), second.frames, rtol=0, atol=5e-5)
    assert again.audio is not None
    torch.testing.assert_close(again.audio, second.audio.flatten(2), rtol=0, atol=5e-5)
    assert not torch.equal(refined.video, again.video)


def test_another_variant_of_the_model_has_the_same_one(
    catalogue: Path,
    hub: LoopbackHub,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A gated one, as LTX-2.5 is, whose latents are those of the open one; said before it loads."""
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    (catalogue / "tiny.toml").write_text(write_row() + NEWER)
    forget()
    save_upscaler(tmp_path)
    hub.add_repo("owner/tiny-newer", files(folder), gated=True, token="hf_good")
    hub.add_repo("owner/tiny-upscaler", {UPSCALER: (tmp_path / UPSCALER).read_bytes()})
    get = ["models", "download", "tiny-ltx", "--accept-licence", "--variant"]
    words = ["--cli", PROMPT, "--engine", "tiny-ltx", "--seed", "3", "--stages", "2"]
    words += ["--steps", "2", "--seconds", "0.4", "--out", str(tmp_path)]
    assert main([*get, "newer"]) == 0
    capsys.readouterr()
    assert main(words) == 2
    assert "download tiny-ltx --variant upscaler" in capsys.readouterr().err
    assert main([*get, "upscaler"]) == 0
    capsys.readouterr()
    assert main(words) == 0, capsys.readouterr().err
    made = read_clip(Path(capsys.readouterr().out.strip()))
    assert made.frames.shape == (9, 128, 192, 3)


def test_a_folder_without_upscaler_says_so(folder: Path) -> None:
    """Nor has every model a second stage."""
    empty = Text(torch.zeros(1, 1, 1), torch.zeros(1, 0))
    with loaded(folder) as parts:
        small = run(parts)
        with pytest.raises(ModelUnavailable, match="no upscaler of latents"):
            parts.upsample(small, replace(PLAN, width=192, height=128))
        with pytest.raises(BadRequest, match="no second stage"):
            parts.refine(small, empty, empty, {}, REQUEST, PLAN, lambda *_: None)
