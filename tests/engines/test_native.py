import dataclasses

import numpy as np
import torch

from aiprod_studio.engines.catalog import find_card, find_engine
from aiprod_studio.engines.engine import Latents
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.types import Request


def test_frames_come_in_order_and_join_to_the_video() -> None:
    plan = choose_plan(imagine(0, 32), find_card("starter"), Request("a dog"))
    assert plan.tiling == "none"
    plan = dataclasses.replace(plan, tile=64, overlap=32, chunk=16, tiling="stream")
    torch.manual_seed(0)
    with find_engine("starter").load(plan) as parts:
        channels = parts.networks.video_vae.config.latent_channels
        latents = Latents(torch.randn(1, channels, 9, 5, 6), None)
        chunks = list(parts.decode_frames(latents, plan))
        whole = parts.decode_video(latents, dataclasses.replace(plan, tile=0, chunk=0))
        joined = parts.decode_video(latents, plan)
    assert len(chunks) > 2
    assert all(chunk.dtype == np.uint8 for chunk in chunks)
    assert np.array_equal(np.concatenate(chunks), joined)
    assert joined.shape == whole.shape == (33, 80, 96, 3)
    assert np.abs(joined.astype(int) - whole).mean() < 4
