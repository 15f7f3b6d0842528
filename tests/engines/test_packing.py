import zlib

import pytest
import torch

from aiprod_studio.engines.packing import FINEST, deflate, from_steps, inflate, to_steps


@pytest.mark.parametrize("shape", [(3, 64), (5, 7), (4, 8, 3, 3, 3), (2, 130)])
@pytest.mark.parametrize("finest", [9, 63, FINEST])
def test_weights_come_back_within_half_a_step(shape, finest):
    torch.manual_seed(0)
    weight = torch.randn(shape) * torch.rand(shape[0]).view(-1, *[1] * (len(shape) - 1))
    largest = weight.flatten(1).abs().amax(dim=1).view(-1, *[1] * (len(shape) - 1))
    steps, scale = to_steps(weight, finest)
    assert steps.dtype == torch.int8
    assert steps.abs().max() == finest
    assert ((from_steps(steps, scale) - weight).abs() <= largest / finest / 2 * 1.01 + 1e-6).all()


def test_fewer_steps_deflate_to_fewer_bits():
    torch.manual_seed(0)
    weight = torch.randn(256, 512)
    bits = {}
    for finest in (9, 31, FINEST):
        steps, _ = to_steps(weight, finest)
        packed = deflate(steps)
        assert packed.dtype == torch.uint8
        assert torch.equal(inflate(packed).view(256, 512), steps)
        bits[finest] = packed.numel() * 8 / weight.numel()
    assert bits[9] < 3.8 < 5 < bits[31] < 5.6 < 7 < bits[FINEST] < 7.6


def test_what_is_nothing_stays_nothing():
    steps, scale = to_steps(torch.zeros(2, 5))
    assert not from_steps(steps, scale).any()


def test_bytes_that_were_never_packed_are_told():
    with pytest.raises(zlib.error):
        inflate(torch.arange(50, dtype=torch.uint8))
