"""LTX-Video against the plain pipelines of diffusers, on tiny networks of the real classes."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    LTXConditionPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from diffusers.loaders.single_file_utils import (
    convert_ltx_transformer_checkpoint_to_diffusers,
    convert_ltx_vae_checkpoint_to_diffusers,
)
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from PIL import Image
from safetensors.torch import save_file

from aiprod_studio.cli import main
from aiprod_studio.engines.catalog import cards, rows
from aiprod_studio.engines.engine import Batching, Given, Latents, Pictures
from aiprod_studio.engines.ltx import PROMPT_TOKENS, LTXEngine, LTXParts
from aiprod_studio.engines.ltx_file import unpack
from aiprod_studio.engines.ltx_video import natural, normal
from aiprod_studio.engines.recipes import Recipe
from aiprod_studio.errors import BadRequest, ModelUnavailable
from aiprod_studio.sampling.solvers import Point
from aiprod_studio.sampling.tiling import Tiling, decode_tiled
from aiprod_studio.types import Plan, Request
from tests.engines.conftest import forget, serve
from tests.engines.plans import decode, to_frames
from tests.engines.tiny_pipelines import build_ltx
from tests.loopback_hub import LoopbackHub

PROMPT = "a red fox running"
CARD = replace(cards()["ltx-video-2b"], id="tiny")
REQUEST = Request(
    PROMPT, engine="tiny", width=64, height=32, fps=24.0, seed=3, steps=3, guidance=1.0
)
PLAN = Plan("cpu", "float32", 64, 32, 9, 1, 0, {}, 1.0, (), size_step=32)
LEVELS = (1.0, 0.9, 0.5)
DISTILLED = Recipe(sigmas=LEVELS)


@pytest.fixture(scope="module")
def pipe() -> LTXPipeline:
    """The plain pipeline over tiny networks."""
    found = build_ltx()[0]
    found.vae.latents_mean.add_(0.1)
    found.vae.latents_std.mul_(1.5)
    found.set_progress_bar_config(disable=True)
    return found


@pytest.fixture(scope="module")
def folder(pipe: LTXPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the networks of the plain pipeline are saved."""
    path = tmp_path_factory.mktemp("ltx")
    pipe.save_pretrained(path)
    return path


@pytest.fixture
def parts(folder: Path) -> Iterator[LTXParts]:
    """The adapter's parts, all in memory."""
    with loaded(folder) as found:
        yield found


@contextmanager
def loaded(folder: Path, **changes: Any) -> Iterator[LTXParts]:
    """Open a folder's networks by the plan with some fields of it changed."""
    with LTXEngine(CARD, lambda _: folder).load(replace(PLAN, **changes)) as found:
        yield found


def run(parts: LTXParts, given: Given | None = None, **changes: Any) -> Latents:
    """Denoise the request with some fields of it, or the plan's cache, changed."""
    plan = replace(PLAN, cache=changes.pop("cache", ""))
    places = {name: changes.pop(name) for name in ("on_point", "start") if name in changes}
    request = replace(REQUEST, **changes)
    text, nothing = parts.encode_text(PROMPT), parts.encode_text("")
    return parts.denoise(text, nothing, given or {}, request, plan, lambda *_: None, **places)


def call(pipe: Any, **options: Any) -> Any:
    """Call a plain pipeline with the request's settings."""
    asked: dict[str, Any] = {
        "prompt": PROMPT,
        "negative_prompt": "",
        "width": 64,
        "height": 32,
        "num_frames": 9,
        "frame_rate": 24,
        "num_inference_steps": 3,
        "max_sequence_length": PROMPT_TOKENS,
        "generator": torch.Generator().manual_seed(3),
        "output_type": "latent",
    }
    return pipe(**(asked | options)).frames


def conditioned(pipe: Any) -> LTXConditionPipeline:
    """Return the plain pipeline of later checkpoints, whose distilled levels stay as they are."""
    own = pipe.scheduler
    scheduler = own.from_config(own.config, use_dynamic_shifting=False, shift_terminal=None)
    found = LTXConditionPipeline(**(pipe.components | {"scheduler": scheduler}))
    found.set_progress_bar_config(disable=True)
    return found


def picture(seed: int) -> np.ndarray:
    """Return a picture of the plan's size."""
    return np.random.default_rng(seed).integers(0, 255, (32, 64, 3), np.uint8)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_latents_are_those_of_the_plain_pipeline(
    parts: LTXParts, pipe: LTXPipeline, guidance: float
) -> None:
    """Of checkpoints to 0.9.1, with that many runs of the denoiser."""
    runs: list[int] = []
    parts.recipe = Recipe(later=False)
    with parts.components.use("transformer") as network:
        handle = network.register_forward_hook(lambda *_: runs.append(1))
        latents = run(parts, guidance=guidance)
        handle.remove()
    assert len(runs) == 3 * (1 + (guidance > 1))
    wanted = call(pipe, guidance_scale=guidance)
    tokens = latents.video.flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens, wanted, rtol=0, atol=5e-5)


def test_frames_are_those_of_the_plain_pipeline(parts: LTXParts, pipe: LTXPipeline) -> None:
    """But for rounding to bytes; sound there is none."""
    parts.recipe = Recipe(later=False)
    latents = run(parts)
    frames = decode(parts, latents, PLAN)
    wanted = call(pipe, guidance_scale=1.0, output_type="np")[0]
    assert np.abs(frames / 255 - wanted).max() < 0.6 / 255
    assert latents.audio is None
    assert parts.decode_audio(latents, 1.0) is None


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_pictures_are_held_as_by_the_plain_pipeline(
    parts: LTXParts, pipe: LTXPipeline, guidance: float
) -> None:
    """Of distilled checkpoints from 0.9.5 on: the first picture in its place, the last beside."""
    parts.recipe = DISTILLED
    first, last = picture(1), picture(2)
    assert set(parts.encode_media(Pictures(first, last), PLAN)) == {"0", "8"}
    assert parts.encode_media(Pictures(), PLAN) == {}
    alone = replace(PLAN, frames=1)
    assert set(parts.encode_media(Pictures(first), alone)) == {"0"}
    # The plain pipeline draws its pictures' latents where the adapter takes the likeliest.
    dice = torch.Generator().manual_seed(3)
    rough = torch.randn(1, 8, 3, 8, 16, generator=dice).flatten()
    given = {}
    for number, frame in (("0", first), ("8", last)):
        video = torch.tensor(frame).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1
        with torch.no_grad():
            drawn = pipe.vae.encode(video).latent_dist.sample(dice)
        given[number] = normal(pipe.vae, drawn)
    latents = run(parts, given, guidance=guidance, start=Point(0, rough, rough))
    wanted = call(
        conditioned(pipe),
        conditions=[
            LTXVideoCondition(image=Image.fromarray(first), frame_index=0),
            LTXVideoCondition(image=Image.fromarray(last), frame_index=8),
        ],
        timesteps=[1000 * level for level in LEVELS],
        guidance_scale=guidance,
        image_cond_noise_scale=0.0,
    )
    torch.testing.assert_close(latents.video, wanted, rtol=0, atol=5e-5)


def test_a_decoder_that_knows_of_noise_gives_the_same_frames_again(
    pipe: LTXPipeline, tmp_path: Path
) -> None:
    """In tiles too, and other ones than without noise."""
    config = dict(pipe.vae.config) | {"timestep_conditioning": True}
    torch.manual_seed(0)
    vae = AutoencoderKLLTXVideo.from_config(config).eval()
    LTXPipeline(**(pipe.components | {"vae": vae})).save_pretrained(tmp_path)
    tiled = replace(PLAN, tile=16, overlap=8, chunk=4, tiling="uniform")
    with loaded(tmp_path) as parts:
        latents = run(parts)
        parts.recipe = Recipe(decode_time=0.05, decode_noise=0.025)
        frames, again = decode(parts, latents, PLAN), decode(parts, latents, PLAN)
        assert decode(parts, latents, tiled).shape == frames.shape == (9, 32, 64, 3)
        assert np.array_equal(frames, again)
        parts.recipe = Recipe()
        assert not np.array_equal(frames, decode(parts, latents, PLAN))


def test_the_frames_come_in_chunks(parts: LTXParts) -> None:
    """They are those of the tiled decoder."""
    tiling = Tiling(4, 4, 32, 8, 8)
    plan = replace(PLAN, frames=25, tile=32, overlap=8, chunk=8, tiling="stream")
    latents = Latents(torch.randn(1, 8, 7, 8, 16, generator=torch.Generator()), None)
    with parts.components.use("vae") as vae:

        def whole(z: torch.Tensor) -> torch.Tensor:
            return vae.decode(natural(vae, z), return_dict=False)[0]

        wanted = to_frames(decode_tiled(whole, latents.video, tiling))
    assert len(list(parts.decode_video(latents, plan))) == len(tiling.spans(7)) > 2
    assert np.array_equal(decode(parts, latents, plan), wanted)


def test_a_run_goes_on_from_any_point(parts: LTXParts) -> None:
    """To the same bits; the last point's picture is the clip's first frame."""
    parts.recipe = DISTILLED
    given = parts.encode_media(Pictures(picture(1), picture(2)), PLAN)
    points: list[Point] = []
    whole = run(parts, given, guidance=3.0, on_point=points.append)
    for point in points:
        assert torch.equal(run(parts, given, guidance=3.0, start=point).video, whole.video)
    alone = decode(parts, Latents(whole.video[:, :, :1], None), PLAN)
    assert np.array_equal(parts.preview(points[-1], REQUEST, PLAN), alone[0])


def test_clips_together_are_as_alone(parts: LTXParts) -> None:
    """Each from its own prompt, seed and picture."""
    assert isinstance(parts, Batching)
    texts, nothing = [parts.encode_text(one) for one in (PROMPT, "a cat")], parts.encode_text("")
    given = [parts.encode_media(Pictures(picture(n)), PLAN) for n in (1, 2)]
    requests = [replace(REQUEST, seed=seed, guidance=3.0) for seed in (3, 4)]
    both = parts.denoise_together(texts, nothing, given, requests, PLAN, lambda *_: None)
    for text, own, request, latents in zip(texts, given, requests, both, strict=True):
        single = parts.denoise(text, nothing, own, request, PLAN, lambda *_: None)
        torch.testing.assert_close(latents.video, single.video, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cache", ["first-block", "mag"])
def test_a_cache_changes_the_clip_only_above_its_threshold(parts: LTXParts, cache: str) -> None:
    """At 0 not one bit."""
    parts.recipe = Recipe(sigmas=tuple(np.linspace(1, 0.1, 8)), mag_ratios=(0.99,) * 8)
    plain = run(parts, steps=8).video
    assert torch.equal(run(parts, steps=8, cache=f"{cache}:0").video, plain)
    assert not torch.equal(run(parts, steps=8, cache=f"{cache}:10").video, plain)


def test_each_network_is_gone_before_the_next(folder: Path) -> None:
    """Where they come as a whole for their stage, no two of them are in memory at once."""
    plan = replace(PLAN, placement={"encode": "model", "denoise": "model", "decode": "model"})
    during: list[set[str]] = []
    with loaded(folder, placement=plan.placement) as parts:
        held = parts.components
        text, nothing = parts.encode_text(PROMPT), parts.encode_text("")

        def look(point: Point) -> None:
            assert parts.preview(point, REQUEST, plan).shape == (32, 64, 3)
            during.append(held.loaded)

        parts.denoise(text, nothing, {}, REQUEST, plan, lambda *_: None, on_point=look)
        assert during == [{"transformer"}] * 3
        assert not held.loaded


def test_a_size_that_the_model_has_not_is_refused(parts: LTXParts) -> None:
    """Before anything is computed."""
    text = parts.encode_text(PROMPT)
    with pytest.raises(BadRequest, match="multiples of 4 and frames of the form 4"):
        parts.denoise(text, text, {}, REQUEST, replace(PLAN, frames=10), lambda *_: None)


# How the authors name blocks of the VAE, by what diffusers calls them, from 0.9.5 on and before.
LATER = {
    **{
        f"encoder.down_blocks.{n}.downsamplers.0": f"encoder.down_blocks.{2 * n + 1}"
        for n in range(4)
    },
    **{f"encoder.down_blocks.{n}": f"encoder.down_blocks.{2 * n}" for n in range(4)},
    "encoder.mid_block": "encoder.down_blocks.8",
    **{f"decoder.up_blocks.{n}.upsamplers.0": f"decoder.up_blocks.{2 * n + 1}" for n in range(3)},
    **{f"decoder.up_blocks.{n}": f"decoder.up_blocks.{2 * n + 2}" for n in range(3)},
    "decoder.mid_block": "decoder.up_blocks.0",
}
EARLIER = {
    "encoder.down_blocks.0.downsamplers.0": "encoder.down_blocks.1",
    "encoder.down_blocks.1.downsamplers.0": "encoder.down_blocks.4",
    "encoder.down_blocks.0": "encoder.down_blocks.0",
    "encoder.down_blocks.1": "encoder.down_blocks.3",
    "encoder.down_blocks.2": "encoder.down_blocks.6",
    "encoder.down_blocks.3": "encoder.down_blocks.8",
    "encoder.mid_block": "encoder.down_blocks.9",
    "decoder.up_blocks.0": "decoder.up_blocks.1",
    "decoder.up_blocks.1.upsamplers.0": "decoder.up_blocks.2",
    "decoder.up_blocks.1": "decoder.up_blocks.3",
    "decoder.up_blocks.2.upsamplers.0": "decoder.up_blocks.5",
    "decoder.up_blocks.2": "decoder.up_blocks.6",
    "decoder.up_blocks.3.upsamplers.0": "decoder.up_blocks.8",
    "decoder.up_blocks.3": "decoder.up_blocks.9",
    "decoder.mid_block": "decoder.up_blocks.0",
}
WORDS = {
    "resnets": "res_blocks",
    "conv_shortcut.conv": "conv_shortcut",
    "decoder.time_embedder": "decoder.last_time_embedder",
    "decoder.scale_shift_table": "decoder.last_scale_shift_table",
    "latents_mean": "per_channel_statistics.mean-of-means",
    "latents_std": "per_channel_statistics.std-of-means",
    "norm_q": "q_norm",
    "norm_k": "k_norm",
    "proj_in": "patchify_proj",
    "time_embed.": "adaln_single.",
}


def authors_name(name: str, part: str, blocks: dict[str, str]) -> str:
    """Return what a checkpoint in one file calls a tensor of the VAE or the transformer."""
    if part == "vae":
        block = next((one for one in blocks if name.startswith(f"{one}.")), "")
        name = blocks.get(block, "") + name.removeprefix(block)
    for ours, theirs in WORDS.items():
        name = name.replace(ours, theirs)
    return f"vae.{name}" if part == "vae" else f"model.diffusion_model.{name}"


def test_the_file_of_the_row_holds_what_its_networks_need() -> None:
    """Each tensor of the real sizes finds its place, none is left over."""
    sizes = rows()["ltx-video-2b"]["networks"]
    with torch.device("meta"):
        vae, transformer = AutoencoderKLLTXVideo(**sizes["vae"]), LTXVideoTransformer3DModel()
    file = {
        authors_name(name, part, LATER): tensor
        for part, network in (("vae", vae), ("transformer", transformer))
        for name, tensor in network.state_dict().items()
    }
    assert convert_ltx_transformer_checkpoint_to_diffusers(file).keys() == (
        transformer.state_dict().keys()
    )
    assert convert_ltx_vae_checkpoint_to_diffusers(file).keys() == vae.state_dict().keys()
    assert (vae.spatial_compression_ratio, vae.temporal_compression_ratio) == (32, 8)


def test_one_file_is_unpacked_once(pipe: LTXPipeline, folder: Path, tmp_path: Path) -> None:
    """To the same clip; one with other networks inside is refused."""
    single = tmp_path / "single"
    single.mkdir()
    for name in ("scheduler", "text_encoder", "tokenizer"):
        shutil.copytree(folder / name, single / name)
    networks = {"vae": pipe.vae, "transformer": pipe.transformer}
    tensors = {
        authors_name(name, part, EARLIER): tensor.contiguous()
        for part, network in networks.items()
        for name, tensor in network.state_dict().items()
    }
    save_file(tensors, single / "ltxv-2b-0.9.8-distilled.safetensors")
    sizes = {
        part: {name: value for name, value in network.config.items() if name[0] != "_"}
        for part, network in networks.items()
    }
    unpacked = unpack(single, sizes)
    assert unpack(folder, sizes) == folder
    with loaded(unpacked) as parts, loaded(folder) as plain:
        assert torch.equal(run(parts).video, run(plain).video)
    written = (unpacked / "vae" / "config.json").stat().st_mtime_ns
    assert unpack(single, sizes) == unpacked
    assert (unpacked / "vae" / "config.json").stat().st_mtime_ns == written
    other = tmp_path / "other"
    shutil.copytree(single, other)
    with pytest.raises(ModelUnavailable, match="does not hold the networks"):
        unpack(other, {})
    assert not list(unpacked.parent.glob("*.part"))
    # The weights move to another disk, where they are known by the same names.
    moved = tmp_path / "another disk" / tmp_path.parent.name / tmp_path.name / single.name
    moved.parent.mkdir(parents=True)
    single.rename(moved)
    assert not (unpacked / "scheduler").exists()
    assert unpack(moved, sizes) == unpacked
    assert (unpacked / "scheduler" / "scheduler_config.json").is_file()


ROW = """
id = "tiny-ltx"
name = "Tiny LTX-Video"
family = "ltx"
licence = "A community licence"
memory_gb = [1, 2]
size_step = 32
frame_step = 4
frames = [1, 33]
fps = [8.0, 50.0]
pixels = 2048
areas = [1024, 65536]
default_width = 64
default_height = 32
default_seconds = 0.375
default_fps = 24.0
default_steps = 3
default_guidance = 1.0
sample_rate = 0
flops_per_token = 1e6

[recipe]
sigmas = [1.0, 0.9, 0.5]

[terms]
page = "https://example.org"
allows = "Some things."
accept = false

[part_bytes]
transformer = 100_000

[[variants]]
name = "only"
repo = "owner/tiny-ltx"
revision = "main"
gated = false
tasks = ["text", "image"]
files = [
    "model_index.json",
    "scheduler/*",
    "text_encoder/*",
    "tokenizer/*",
    "transformer/*",
    "vae/*",
]

[parts.transformer]
parameters = 1e5
stored_bytes = 4
gigabytes = { bfloat16 = 0.001, float8 = 0.0005, int4 = 0.0003 }
blocks = 2
outside = 0.1

[parts.text_encoder]
parameters = 1e5
stored_bytes = 4
gigabytes = { bfloat16 = 0.001, float8 = 0.0005, int4 = 0.0003 }
blocks = 2
outside = 0.1

[parts.vae]
parameters = 1e5
stored_bytes = 4
gigabytes = { bfloat16 = 0.001 }

[memory]
width = 32
denoise = 16.1
heads = 4
decode = 100.0
decode_part = 0.7
decode_least = 3.7
decode_least_in_time = 2.5
overlap = 16
chunks = [16]
"""


def test_from_the_download_to_the_file(
    hub: LoopbackHub,
    catalogue: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Downloaded, planned, denoised from a picture, decoded, silent."""
    (catalogue / "tiny.toml").write_text(ROW)
    forget()
    serve(hub, "owner/tiny-ltx", folder)
    assert main(["models", "download", "tiny-ltx"]) == 0
    first = tmp_path / "first.png"
    Image.fromarray(picture(1)).save(first)
    capsys.readouterr()
    words = ["--cli", PROMPT, "--engine", "tiny-ltx", "--seed", "3", "--image", str(first)]
    assert main([*words, "--out", str(tmp_path)]) == 0, capsys.readouterr().err
    with av.open(capsys.readouterr().out.strip()) as file:
        shapes = [frame.to_ndarray(format="rgb24").shape for frame in file.decode(video=0)]
        assert not file.streams.audio
    assert shapes == [(32, 64, 3)] * 9
