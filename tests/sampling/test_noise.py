import pytest
import torch

from aiprod_studio.sampling.noise import carry_noise


@pytest.mark.parametrize("carried", [0.0, 0.5, 0.8])
def test_frames_resemble_those_before_them_as_much_as_asked(carried):
    dice = torch.Generator().manual_seed(0)
    noise = carry_noise(torch.randn(1, 64, 5, 32, 32, generator=dice), carried)
    frames = noise.transpose(1, 2).flatten(2)[0]
    for apart in range(5):
        alike = (frames[: 5 - apart] * frames[apart:]).mean(dim=1)
        assert torch.allclose(alike, torch.full_like(alike, carried**apart), atol=0.03)


def test_a_picture_is_made_of_the_same_noise_as_a_clip_s_first_frame():
    clip = torch.randn(2, 4, 3, 8, 8)
    assert torch.equal(carry_noise(clip[:, :, :1], 0.8)[:, :, 0], carry_noise(clip, 0.8)[:, :, 0])
    assert torch.equal(carry_noise(clip, 0.0), clip)
