import dataclasses

import numpy as np
import torch

from aiprod_studio.engines.catalog import find_card, find_engine
from aiprod_studio.engines.engine import Latents
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.models.upscaler import Upscaler, UpscalerConfig
from aiprod_studio.sampling.deblocking import deblock
from aiprod_studio.sampling.tiling import Tiling, decode_tiled
from aiprod_studio.types import Request
from tests.engines.plans import decode, to_frames


def test_frames_come_in_order_and_join_to_the_video() -> None:
    plan = choose_plan(imagine(0, 32), find_card("starter"), Request("a dog"))
    assert plan.tiling == "none"
    plan = dataclasses.replace(plan, tile=64, overlap=32, chunk=16, tiling="stream")
    tiling = Tiling(16, 4, 64, 32, 16, by_content=True)
    torch.manual_seed(0)
    with find_engine("starter").load(plan) as parts:
        channels = parts.networks.video_vae.config.latent_channels
        latents = Latents(torch.randn(1, channels, 9, 5, 6), None)
        chunks = list(parts.decode_video(latents, plan))
        whole = decode(parts, latents, dataclasses.replace(plan, tile=0, chunk=0))
        joined = decode(parts, latents, plan)
        vae = parts.networks.video_vae
        tiled = decode_tiled(lambda z: deblock(vae.decode(z), 16), latents.video, tiling)
    assert len(chunks) > 2
    assert all(chunk.dtype == np.uint8 for chunk in chunks)
    assert np.array_equal(np.concatenate(chunks), joined)
    assert np.array_equal(to_frames(tiled), joined)
    assert joined.shape == whole.shape == (33, 80, 96, 3)
    assert np.abs(joined.astype(int) - whole).mean() < 4


def test_frames_are_made_larger_by_the_bundle_s_own_network_where_it_has_one() -> None:
    plan = choose_plan(imagine(0, 32), find_card("starter"), Request("a dog"))
    frames = np.random.default_rng(0).integers(0, 256, (9, 16, 32, 3), np.uint8)
    with find_engine("starter").load(plan) as parts:
        torch.manual_seed(0)
        upscaler = Upscaler(UpscalerConfig(8, 1)).eval()
        networks = dataclasses.replace(parts.networks, upscaler=upscaler)
        large = dataclasses.replace(parts, networks=networks).enlarge(frames)
        bare = dataclasses.replace(parts.networks, upscaler=None)
        assert dataclasses.replace(parts, networks=bare).enlarge(frames) is frames
    assert large.shape == (9, 32, 64, 3)
    assert large.dtype == np.uint8
