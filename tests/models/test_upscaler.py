import torch

from aiprod_studio.models.upscaler import Upscaler, UpscalerConfig


def test_frames_come_back_twice_as_large_and_each_by_itself():
    torch.manual_seed(0)
    upscaler = Upscaler(UpscalerConfig(width=8, blocks=1))
    frames = torch.rand(3, 3, 12, 20) * 2 - 1
    large = upscaler(frames)
    assert large.shape == (3, 3, 24, 40)
    assert torch.allclose(large[1:2], upscaler(frames[1:2]), atol=1e-6)
