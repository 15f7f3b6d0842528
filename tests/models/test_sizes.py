import pytest
import torch
from torch import nn

from aiprod_studio.models.audio_vae import AudioVAE, AudioVAEConfig
from aiprod_studio.models.backbone import PATTERN, Backbone, BackboneConfig
from aiprod_studio.models.text_encoder import TextEncoder, TextEncoderConfig
from aiprod_studio.models.video_vae import VideoVAE, VideoVAEConfig


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "config", "millions"),
    [
        (Backbone, BackboneConfig, 280),
        (VideoVAE, VideoVAEConfig, 120),
        (TextEncoder, TextEncoderConfig, 85),
    ],
)
def test_base_is_within_five_percent_of_the_specification(network, config, millions):
    with torch.device("meta"):
        size = count(network(config.base()))
    assert abs(size / 1e6 - millions) <= 0.05 * millions


def test_base_backbone_has_thirty_attention_and_eighteen_convolution_blocks():
    kinds = PATTERN * BackboneConfig.base().periods
    assert (kinds.count("A"), kinds.count("C")) == (30, 18)
    assert BackboneConfig.base().width == 768


def test_starter_networks_fit_in_32_megabytes():
    with torch.device("meta"):
        eight_bit = count(Backbone(BackboneConfig.starter()))
        eight_bit += count(TextEncoder(TextEncoderConfig.starter()))
        sixteen_bit = count(VideoVAE(VideoVAEConfig.starter()))
        sixteen_bit += count(AudioVAE(AudioVAEConfig.starter()))
    assert eight_bit + 2 * sixteen_bit < 32e6
