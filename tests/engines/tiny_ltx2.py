"""Tiny networks of LTX-2 that compress as the real ones do, and what calls them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTX2Video, LTX2Pipeline
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from safetensors.torch import save_file
from torch import Tensor

from aiprod_studio.engines.catalog import cards
from aiprod_studio.engines.engine import Given, Latents
from aiprod_studio.engines.ltx2 import PROMPT_TOKENS, LTX2Engine, LTX2Parts
from aiprod_studio.types import Plan, Request
from tests.engines.tiny_pipelines import build_ltx2

PROMPT = "a red fox running"
CARD = replace(cards()["ltx-2"], id="tiny")
REQUEST = Request(
    PROMPT, engine="tiny", width=96, height=64, fps=24.0, seed=3, steps=3, guidance=1.0
)
PLAN = Plan("cpu", "float32", 96, 64, 17, 1, 0, {}, 1.0, (), size_step=32)
OFF = {
    "guidance_scale": 1.0,
    "audio_guidance_scale": 1.0,
    "stg_scale": 0.0,
    "audio_stg_scale": 0.0,
    "modality_scale": 1.0,
    "audio_modality_scale": 1.0,
    "guidance_rescale": 0.0,
    "audio_guidance_rescale": 0.0,
}

UPSCALER = "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"
ROW = """
id = "tiny-ltx"
name = "Tiny LTX-2"
family = "ltx2"
licence = "A community licence"
memory_gb = [1, 2]
size_step = 32
frame_step = 8
frames = [1, 33]
fps = [8.0, 50.0]
pixels = 6144
areas = [1024, 65536]
default_width = 96
default_height = 64
default_seconds = 0.7
default_fps = 24.0
default_steps = 3
default_guidance = 1.0
sample_rate = 48000
flops_per_token = 1e6

[recipe]
sigmas = [1.0, 0.9, 0.5]
refine = [0.9, 0.5]

[terms]
page = "https://example.org"
allows = "Some things."
accept = true

[part_bytes]
transformer = 100_000

[[variants]]
name = "only"
repo = "owner/tiny-ltx"
revision = "main"
gated = false
tasks = ["text", "image", "keyframes", "reference"]
files = ["model_index.json", FOLDERS]

[[variants]]
name = "upscaler"
repo = "owner/tiny-upscaler"
revision = "main"
gated = false
tasks = ["upscale"]
files = ["UPSCALER"]
PARTS
[memory]
width = 16
denoise = 18.2
heads = 2
decode = 72.7
decode_part = 0.7
decode_least = 3.7
decode_least_in_time = 2.5
overlap = 32
chunks = [16]
"""
NETWORKS = ("transformer", "connectors", "text_encoder", "vae", "audio_vae", "vocoder")
PART = """
[parts.{}]
parameters = 1e5
stored_bytes = 4
gigabytes = {{ bfloat16 = 0.001, float8 = 0.0005, int4 = 0.0003 }}
blocks = {}
outside = 0.1
"""


@pytest.fixture(scope="module")
def pipe() -> LTX2Pipeline:
    """The plain pipeline over tiny networks of LTX-2.3."""
    return build(newer=True)


@pytest.fixture(scope="module")
def folder(pipe: LTX2Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the networks of the plain pipeline are saved."""
    path = tmp_path_factory.mktemp("ltx2")
    pipe.save_pretrained(path)
    return path


@pytest.fixture
def parts(folder: Path) -> Iterator[LTX2Parts]:
    """The adapter's parts, all in memory."""
    with loaded(folder) as found:
        yield found


def write_row() -> str:
    """Return the row of an engine "tiny-ltx", whose weights are in owner/tiny-ltx on a hub."""
    folders = ", ".join(f'"{name}/*"' for name in (*NETWORKS, "scheduler", "tokenizer"))
    blocks = {"transformer": 2, "text_encoder": 2}
    parts = "".join(PART.format(name, blocks.get(name, 0)) for name in NETWORKS)
    row = ROW.replace("FOLDERS", folders).replace("UPSCALER", UPSCALER)
    return row.replace("PARTS", parts)


def save_upscaler(folder: Path) -> None:
    """Write a network that doubles the latents of the tiny VAE."""
    torch.manual_seed(0)
    network = LTX2LatentUpsamplerModel(in_channels=4, mid_channels=32, num_blocks_per_stage=1)
    save_file(network.state_dict(), folder / UPSCALER)


def build(newer: bool) -> LTX2Pipeline:
    """Return tiny networks of the family whose VAE compresses as the real one does."""
    plain = build_ltx2(newer)[0]
    torch.manual_seed(0)
    vae = AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 3,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 4,
        spatio_temporal_scaling=(True,) * 4,
        decoder_spatio_temporal_scaling=(True,) * 3,
        decoder_inject_noise=(False,) * 4,
        upsample_residual=(False,) * 3,
        upsample_factor=(1, 1, 1),
        downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        patch_size=4,
        patch_size_t=1,
        decoder_causal=False,
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    )
    vae.latents_mean.add_(0.1)
    vae.latents_std.mul_(1.5)
    return quiet(LTX2Pipeline(**(plain.components | {"vae": vae.eval()})))


def quiet(pipe: Any) -> Any:
    """Return a pipeline without its progress bar."""
    pipe.set_progress_bar_config(disable=True)
    return pipe


@contextmanager
def loaded(folder: Path, **changes: Any) -> Iterator[LTX2Parts]:
    """Open a folder's networks by the plan with some fields of it, or the card, changed."""
    card = changes.pop("card", CARD)
    with LTX2Engine(card, lambda _: folder).load(replace(PLAN, **changes)) as found:
        yield found


def run(parts: LTX2Parts, given: Given | None = None, **changes: Any) -> Latents:
    """Denoise the request with some fields of it, or the plan or its cache, changed."""
    plan = replace(changes.pop("plan", PLAN), cache=changes.pop("cache", ""))
    places = {name: changes.pop(name) for name in ("on_point", "start") if name in changes}
    request = replace(REQUEST, **changes)
    text, nothing = parts.encode_text(PROMPT), parts.encode_text("")
    return parts.denoise(text, nothing, given or {}, request, plan, lambda *_: None, **places)


def call(pipe: Any, **options: Any) -> Any:
    """Call a plain pipeline with the request's settings and no guidance but what is asked."""
    asked: dict[str, Any] = {
        "prompt": PROMPT,
        "negative_prompt": "",
        "width": 96,
        "height": 64,
        "num_frames": 17,
        "frame_rate": 24.0,
        "num_inference_steps": 3,
        "max_sequence_length": PROMPT_TOKENS,
        "generator": torch.Generator().manual_seed(3),
        "output_type": "latent",
        "use_cross_timestep": True,
    }
    return pipe(**(asked | OFF | {"spatio_temporal_guidance_blocks": None} | options))


def picture(seed: int) -> np.ndarray:
    """Return a picture of the plan's size."""
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), np.uint8)
    return coarse.repeat(16, axis=0).repeat(16, axis=1)


@contextmanager
def counting(parts: LTX2Parts) -> Iterator[list[int]]:
    """Count what the denoiser's whole and its last block do while the `with` lasts."""
    counts = [0, 0]

    def count(place: int) -> Any:
        def hook(*_: Any) -> None:
            counts[place] += 1

        return hook

    with parts.components.use("transformer") as network:
        handles = [
            network.register_forward_hook(count(0)),
            network.transformer_blocks[1].attn1.register_forward_hook(count(1)),
        ]
        yield counts
        for handle in handles:
            handle.remove()


def unshifted(pipe: Any) -> Any:
    """Return a scheduler that leaves noise levels as they are, as a distilled model's does."""
    own = pipe.scheduler
    return own.from_config(own.config, use_dynamic_shifting=False, shift_terminal=None)


def packed_noise(seed: int, tokens: int, beside: int = 0) -> Tensor:
    """Return the flat noise that the plain pipelines draw for tokens instead of for latents.

    They draw some for those that stand beside the clip, too.
    """
    dice = torch.Generator().manual_seed(seed)
    video = torch.randn(1, tokens + beside, 4, generator=dice)[:, :tokens]
    audio = torch.randn(1, 18, 4, generator=dice).unflatten(2, (2, 2))
    return torch.cat([video.transpose(1, 2).flatten(), audio.transpose(1, 2).flatten()])
