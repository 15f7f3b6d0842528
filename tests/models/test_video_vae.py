import pytest
import torch

from aiprod_studio.models.video_vae import VideoVAE, VideoVAEConfig, fold_patches, unfold_groups

TINY = VideoVAEConfig(8, 8, 16, 8, (1, 1), (1, 1, 1), 2)


@pytest.fixture
def vae() -> VideoVAE:
    torch.manual_seed(0)
    network = VideoVAE(TINY).eval()
    for layer in (network.encoder.out, network.decoder.out):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return network


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 16, 16), (5, 32, 48), (9, 48, 16)])
def test_any_size_in_steps_of_16_and_4k_plus_1_frames_keeps_its_shape(vae, frames, height, width):
    video = torch.randn(2, 3, frames, height, width)
    with torch.no_grad():
        latents = vae.encode(video)
        seen = vae.decode(latents)
    assert latents.shape == (2, 8, (frames - 1) // 4 + 1, height // 16, width // 16)
    assert seen.shape == video.shape


def test_first_frames_do_not_depend_on_later_ones(vae):
    video = torch.randn(1, 3, 9, 32, 32)
    with torch.no_grad():
        whole = vae.encode(video)
        picture = vae.encode(video[:, :, :1])
        start = vae.decode(whole[:, :, :2])
        full = vae.decode(whole)
    torch.testing.assert_close(whole[:, :, :1], picture)
    torch.testing.assert_close(full[:, :, :5], start)


def test_folding_and_unfolding_are_inverse():
    video = torch.randn(1, 3, 5, 16, 32)
    assert torch.equal(unfold_groups(fold_patches(video, 8), 8), video)
