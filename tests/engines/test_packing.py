import pytest
import torch

from aiprod_studio.engines.packing import (
    GROUP,
    from_eight_bits,
    from_four_bits,
    to_eight_bits,
    to_four_bits,
)


@pytest.mark.parametrize("shape", [(3, 64), (5, 7), (4, 8, 3, 3, 3), (2, 130)])
def test_weights_come_back_within_half_a_step(shape):
    torch.manual_seed(0)
    weight = torch.randn(shape) * torch.rand(shape[0]).view(-1, *[1] * (len(shape) - 1))
    largest = weight.flatten(1).abs().amax(dim=1).view(-1, *[1] * (len(shape) - 1))
    eight, four = to_eight_bits(weight), to_four_bits(weight)
    assert eight[0].dtype == torch.int8
    assert four[0].dtype == torch.uint8
    assert four[0].numel() * 2 < weight.numel() + GROUP * shape[0]
    assert ((from_eight_bits(*eight) - weight).abs() <= largest / 254 + 1e-6).all()
    again = from_four_bits(*four, shape)
    assert again.shape == weight.shape
    assert ((again - weight).abs() <= largest / 14 * 1.01 + 1e-6).all()


def test_what_is_nothing_stays_nothing():
    nothing = torch.zeros(2, 5)
    assert torch.equal(from_eight_bits(*to_eight_bits(nothing)), nothing)
    assert torch.equal(from_four_bits(*to_four_bits(nothing), (2, 5)), nothing)
