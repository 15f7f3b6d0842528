import dataclasses

import numpy as np
import torch

from aiprod_studio.engines.bundle import Networks
from aiprod_studio.engines.catalog import find_card, find_engine
from aiprod_studio.engines.engine import Given, Latents, Text
from aiprod_studio.engines.native import NativeParts
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.models.audio_vae import AudioVAE, AudioVAEConfig
from aiprod_studio.models.backbone import Backbone, BackboneConfig
from aiprod_studio.models.finisher import Finisher, FinisherConfig
from aiprod_studio.models.layout import LayoutConfig, LayoutPlanner
from aiprod_studio.models.sketches import Sketcher, SketcherConfig, animate
from aiprod_studio.models.text_encoder import TextEncoder, TextEncoderConfig
from aiprod_studio.models.upscaler import Upscaler, UpscalerConfig
from aiprod_studio.models.video_vae import VideoVAE, VideoVAEConfig
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


def laid_out(seed: int = 0) -> Networks:
    """Return tiny networks whose backbone reads a layout of at most five frames."""
    torch.manual_seed(seed)
    backbone = Backbone(BackboneConfig(8, 4, 16, 32, 2, 1, 0.0, True, 6))
    planner = LayoutPlanner(LayoutConfig(5, 8.0, 16, 3, 8, 32, 2, 1))
    sketcher = Sketcher(SketcherConfig(16, (0, 1, 2), 1, 8, 12))
    for network in (backbone, planner):
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return Networks(
        backbone.eval(),
        VideoVAE(VideoVAEConfig(8, 8, 16, 8, (1, 1), (1, 1, 1), 2)),
        AudioVAE(AudioVAEConfig(4, 16, 1)),
        TextEncoder(TextEncoderConfig(16, 16, 1, 2, 3, 32, 20)),
        layout=planner.eval(),
        sketcher=sketcher.eval(),
    )


def test_a_clip_is_laid_out_by_its_own_seed_unless_pictures_or_its_length_forbid() -> None:
    networks = laid_out()
    request = Request("a dog", seconds=0.5, fps=8.0, steps=2, guidance=2.0, seed=5)
    plan = choose_plan(imagine(0, 32), find_card("starter"), request)
    words = Text(torch.randn(1, 3, 16), torch.randn(1, 16))
    nothing = Text(torch.randn(1, 3, 16), torch.randn(1, 16))

    def denoise(parts: Networks, frames: int, given: Given, *seeds: int) -> list[torch.Tensor]:
        requests = [dataclasses.replace(request, seed=seed) for seed in seeds or (5,)]
        found = NativeParts(parts, torch.device("cpu")).denoise_together(
            [words] * len(requests),
            nothing,
            [given] * len(requests),
            requests,
            dataclasses.replace(plan, frames=frames, height=32, width=48),
            lambda done, steps: None,
        )
        return [one.video for one in found]

    bare = dataclasses.replace(networks, layout=None)
    blank = dataclasses.replace(networks, sketcher=None)
    picture: Given = {"first": torch.randn(1, 8, 1, 2, 3)}
    [laid], [unlaid] = denoise(networks, 5, {}), denoise(bare, 5, {})
    assert laid.shape == (1, 8, 2, 2, 3)
    assert not torch.allclose(laid, unlaid)
    assert not torch.allclose(laid, denoise(blank, 5, {})[0])
    torch.testing.assert_close(denoise(networks, 5, picture), denoise(bare, 5, picture))
    torch.testing.assert_close(denoise(networks, 9, {}), denoise(bare, 9, {}))
    together = denoise(networks, 5, {}, 4, 5)
    torch.testing.assert_close(together[1], laid, atol=1e-5, rtol=1e-4)


def test_figures_are_finished_frame_by_frame_where_they_are_drawn() -> None:
    networks, plan = laid_out(), choose_plan(imagine(0, 32), find_card("starter"), Request("a dog"))
    plan = dataclasses.replace(plan, frames=5, height=32, width=48)
    request = Request("a dog", seconds=0.5, fps=8.0, steps=2, guidance=1.0, seed=5)
    words = Text(torch.randn(1, 3, 16), torch.randn(1, 16))
    torch.manual_seed(1)
    finisher = Finisher(FinisherConfig(8, 1)).eval()
    torch.nn.init.normal_(finisher.out.weight, std=0.1)
    plain = NativeParts(networks, torch.device("cpu"))
    parts = NativeParts(dataclasses.replace(networks, finisher=finisher), torch.device("cpu"))
    [latents] = parts.denoise_together(
        [words], words, [{}], [request], plan, lambda done, steps: None
    )
    assert latents.more["tracks"].shape[:2] == (1, 5)
    assert latents.more["sketches"].shape == (1, 3, 4, 8, 8)
    bare = dataclasses.replace(latents, more={})
    assert np.array_equal(decode(parts, bare, plan), decode(plain, latents, plan))
    finished = decode(parts, latents, plan)
    assert not np.array_equal(finished, decode(plain, latents, plan))
    with torch.inference_mode():
        drawn = animate(latents.more["tracks"], latents.more["sketches"], (32, 48))[0]
        whole = deblock(networks.video_vae.decode(latents.video), 16)[0]
        seen = finisher(whole.transpose(0, 1), drawn.transpose(0, 1)).transpose(0, 1)
    shown = to_frames(seen[None].clamp(-1, 1))
    assert np.abs(shown.astype(int) - finished).max() <= 1
    in_chunks = decode(parts, latents, dataclasses.replace(plan, chunk=4, tiling="stream"))
    assert np.abs(in_chunks.astype(int) - finished).max() <= 1
