import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aiprod_studio.engines.bundle import load_bundle
from aiprod_studio.models.video_vae import VideoVAE, VideoVAEConfig
from aiprod_studio.sampling.tiling import Tiling, decode_stream, decode_tiled, encode_tiled
from aiprod_studio.settings import settings
from aiprod_studio.training.scenes import make_scenes
from aiprod_studio.training.stage import SceneSize

WAYS = {
    "uniform": Tiling(16, 4, tile=64, overlap=32),
    "content": Tiling(16, 4, tile=64, overlap=32, by_content=True),
    "stream": Tiling(16, 4, chunk=16),
    "stream in tiles": Tiling(16, 4, tile=64, overlap=32, chunk=16, by_content=True),
}


def grow(latents: Tensor, space: int, time: int) -> Tensor:
    """Decode by repeating: what a tile or a chunk shows depends on its own latents only."""
    T, H, W = latents.shape[2:]
    video = F.interpolate(latents, size=(T * time, H * space, W * space))
    return video[:, :, time - 1 :]


def shrink(video: Tensor, space: int, time: int) -> Tensor:
    """Encode by picking the last frame's first pixels of each latent."""
    return video[:, :, ::time, ::space, ::space].clone()


@pytest.mark.parametrize("by_content", [False, True])
@pytest.mark.parametrize(("side", "overlap"), [(0, 0), (1, 2), (3, 1), (4, 2), (30, 2)])
@pytest.mark.parametrize(("time", "chunk"), [(4, 0), (4, 8), (4, 16), (1, 10), (8, 16), (4, 99)])
def test_pieces_join_without_a_seam(
    side: int, overlap: int, time: int, chunk: int, by_content: bool
) -> None:
    latents = torch.randn(2, 2, 7, 9, 6)
    tiling = Tiling(2, time, 2 * side, 2 * overlap, chunk, by_content)
    seen = decode_tiled(lambda part: grow(part, 2, time), latents, tiling)
    torch.testing.assert_close(seen, grow(latents, 2, time))


@pytest.mark.parametrize(("tile", "chunk"), [(0, 0), (16, 0), (0, 16), (12, 12)])
def test_encoded_pieces_join_too(tile: int, chunk: int) -> None:
    video = torch.randn(1, 1, 25, 36, 24)
    found = encode_tiled(lambda part: shrink(part, 4, 4), video, Tiling(4, 4, tile, 8, chunk))
    torch.testing.assert_close(found, shrink(video, 4, 4))


def test_a_stream_hands_on_every_frame_once_and_in_order() -> None:
    latents = torch.arange(41.0).view(1, 1, 41, 1, 1).expand(1, 1, 41, 2, 3)
    spans: list[int] = []

    def decode(part: Tensor) -> Tensor:
        spans.append(part.shape[2])
        return grow(part, 2, 4)

    chunks = list(decode_stream(decode, latents, Tiling(2, 4, chunk=32)))
    assert len(chunks) == len(spans) > 3
    assert max(spans) <= 32 / 4 + 1
    shown = torch.cat(chunks, dim=2)
    assert shown.shape == (1, 1, 161, 4, 6)
    assert shown[0, 0, :, 0, 0].tolist() == [math.ceil(frame / 4) for frame in range(161)]


def test_a_stream_decodes_no_further_than_it_is_read() -> None:
    asked: list[int] = []

    def decode(part: Tensor) -> Tensor:
        asked.append(part.shape[2])
        return grow(part, 2, 4)

    stream = decode_stream(decode, torch.zeros(1, 1, 100, 2, 2), Tiling(2, 4, chunk=16))
    assert not asked
    assert 0 < next(stream).shape[2] < 16
    assert len(asked) == 1


def test_chunks_fade_into_each_other() -> None:
    values = iter(range(10))
    tiling = Tiling(16, 4, chunk=16)
    seen = decode_tiled(
        lambda part: torch.full_like(grow(part, 16, 4), next(values)),
        torch.zeros(1, 1, 7, 1, 1),
        tiling,
    )[0, 0, :, 0, 0]
    assert len(tiling.spans(7)) == 2
    assert (seen[0], seen[-1]) == (0, 1)
    assert (seen.diff() >= 0).all()
    assert seen.diff().max() < 0.12


def psnr(seen: Tensor, truth: Tensor) -> float:
    return 10 * math.log10(4 / (seen - truth).square().mean().item())


@pytest.fixture(scope="module")
def scene() -> Tensor:
    return make_scenes(1, SceneSize(25, 80, 96), torch.Generator().manual_seed(3)).video


def tiny() -> VideoVAE:
    torch.manual_seed(0)
    vae = VideoVAE(VideoVAEConfig(8, 8, 16, 8, (1, 1), (1, 1, 1), 2)).eval().requires_grad_(False)
    torch.nn.init.normal_(vae.decoder.out.weight, std=0.1)
    return vae


def starter() -> VideoVAE:
    return load_bundle(settings().assets / "starter" / "starter.safetensors").video_vae


@pytest.mark.parametrize("make", [tiny, starter])
def test_seams_cost_at_most_a_tenth_of_a_decibel(
    scene: Tensor, make: Callable[[], VideoVAE]
) -> None:
    vae = make()
    latents = vae.encode(scene)
    whole = vae.decode(latents)
    for way in WAYS.values():
        seen = decode_tiled(vae.decode, latents, way)
        assert not torch.equal(seen, whole)
        assert psnr(seen, scene) > psnr(whole, scene) - 0.1
        found = encode_tiled(vae.encode, scene, way)
        assert psnr(vae.decode(found), scene) > psnr(whole, scene) - 0.1
        if make is starter:
            assert psnr(seen, whole) > 42


@pytest.mark.gpu
def test_pieces_wait_on_the_cpu_in_16_bits() -> None:
    device = torch.accelerator.current_accelerator()
    latents = torch.rand(1, 3, 9, 9, 6)
    seen = decode_tiled(lambda part: grow(part, 16, 4), latents.to(device), WAYS["stream in tiles"])
    assert (seen.device.type, seen.dtype) == ("cpu", torch.float16)
    torch.testing.assert_close(seen.float(), grow(latents, 16, 4), atol=2e-3, rtol=0)
