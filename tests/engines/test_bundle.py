import dataclasses
import json

import pytest
import torch
from safetensors import safe_open

from aiprod_studio.engines.bundle import Networks, load_bundle, save_bundle
from aiprod_studio.errors import ModelUnavailable
from aiprod_studio.models.audio_vae import AudioVAE, AudioVAEConfig
from aiprod_studio.models.backbone import Backbone, BackboneConfig
from aiprod_studio.models.text_encoder import TextEncoder, TextEncoderConfig
from aiprod_studio.models.upscaler import Upscaler, UpscalerConfig
from aiprod_studio.models.video_vae import VideoVAE, VideoVAEConfig
from aiprod_studio.settings import settings


@pytest.fixture
def networks() -> Networks:
    torch.manual_seed(0)
    text = TextEncoderConfig(16, 16, 1, 2, 2, 32, 20, ("zoom in",), (3,), (("dog",), ("cat",)))
    return Networks(
        Backbone(BackboneConfig(8, 4, 16, 32, 2, 1)),
        VideoVAE(VideoVAEConfig(8, 8, 16, 8, (1, 1), (1, 1, 1), 2)),
        AudioVAE(AudioVAEConfig(4, 16, 1)),
        TextEncoder(text),
    )


def test_networks_come_back_with_their_sizes_terms_and_nearly_their_weights(networks, tmp_path):
    save_bundle(tmp_path / "tiny.safetensors", networks)
    read = load_bundle(tmp_path / "tiny.safetensors")
    assert read.text_encoder.config == networks.text_encoder.config
    assert read.video_vae.config == networks.video_vae.config
    for part in ("backbone", "video_vae", "audio_vae", "text_encoder"):
        kept, new = getattr(networks, part).state_dict(), getattr(read, part).state_dict()
        assert kept.keys() == new.keys()
        for name in kept:
            largest = kept[name].abs().max() if kept[name].numel() else 0
            assert torch.allclose(kept[name], new[name], rtol=0, atol=largest * 0.005 + 1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_the_licence_is_in_the_header(networks, tmp_path):
    save_bundle(tmp_path / "tiny.safetensors", networks)
    with safe_open(tmp_path / "tiny.safetensors", "pt") as file:
        assert file.metadata()["licence"] == "Apache-2.0"


def test_missing_foreign_and_cut_files_are_told(networks, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_bundle(path, networks)
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-1000])
    (tmp_path / "text.safetensors").write_text("hello")
    for name in ("none.safetensors", "cut.safetensors", "text.safetensors"):
        with pytest.raises(ModelUnavailable, match="Install the studio again"):
            load_bundle(tmp_path / name)


def test_a_part_beside_the_bundle_stands_in_for_its_own(networks, tmp_path):
    save_bundle(tmp_path / "tiny.safetensors", networks)
    torch.manual_seed(1)
    other = dataclasses.replace(
        networks,
        audio_vae=AudioVAE(AudioVAEConfig(4, 24, 1)),
        upscaler=Upscaler(UpscalerConfig(8, 1)),
    )
    for part in ("audio_vae", "upscaler"):
        save_bundle(tmp_path / f"tiny.{part}.safetensors", other, [part])
    read = load_bundle(tmp_path / "tiny.safetensors")
    assert read.audio_vae.config.width == 24
    assert read.upscaler is not None
    assert read.backbone.config == networks.backbone.config


def test_some_weights_beside_the_bundle_stand_in_for_those_alone(networks, tmp_path):
    save_bundle(tmp_path / "tiny.safetensors", networks)
    torch.manual_seed(1)
    other = dataclasses.replace(networks, backbone=Backbone(networks.backbone.config))
    beside = tmp_path / "tiny.backbone.safetensors"
    save_bundle(beside, other, ["backbone"], r"blocks\.[5-7]|final")
    read = load_bundle(tmp_path / "tiny.safetensors").backbone.state_dict()
    save_bundle(tmp_path / "other.safetensors", other)
    first, second = networks.backbone.state_dict(), other.backbone.state_dict()
    for name, value in read.items():
        wanted = second if name.startswith(("blocks.5", "blocks.6", "blocks.7", "final")) else first
        assert torch.allclose(value, wanted[name], atol=float(wanted[name].abs().max()) * 0.005)
    assert beside.stat().st_size < (tmp_path / "other.safetensors").stat().st_size / 2
    beside.write_bytes(beside.read_bytes()[:-1000])
    with pytest.raises(ModelUnavailable, match=r"backbone.*Install the studio again"):
        load_bundle(tmp_path / "tiny.safetensors")


def test_weights_beside_the_bundle_may_tell_how_they_differ(networks, tmp_path):
    path, beside = tmp_path / "tiny.safetensors", tmp_path / "tiny.backbone.safetensors"
    save_bundle(path, networks)
    since = load_bundle(path)
    torch.manual_seed(1)
    moved = {
        n: v + 0.3 * v.std() * torch.randn(v.shape) for n, v in since.backbone.state_dict().items()
    }
    laid = Backbone(dataclasses.replace(networks.backbone.config, layout=True))
    laid.load_state_dict({**laid.state_dict(), **moved})
    save_bundle(beside, dataclasses.replace(networks, backbone=laid), ["backbone"], since=since)
    read = load_bundle(path).backbone
    assert read.config.layout
    for name, value in read.state_dict().items():
        wanted = laid.state_dict()[name]
        before = since.backbone.state_dict().get(name, torch.zeros_like(wanted))
        assert (value - wanted).norm() <= 0.12 * (wanted - before).norm() + 1e-3 * wanted.norm()
    save_bundle(tmp_path / "whole.safetensors", dataclasses.replace(networks, backbone=laid))
    assert beside.stat().st_size < (tmp_path / "whole.safetensors").stat().st_size


def test_a_matrix_beside_the_bundle_may_have_more_rows_and_sizes_tell_only_what_is_new(
    networks, tmp_path
):
    path, beside = tmp_path / "tiny.safetensors", tmp_path / "tiny.text_encoder.safetensors"
    save_bundle(path, networks)
    since = load_bundle(path)
    names = (("dog",), ("cat", "kitten"))
    before = networks.text_encoder.config
    config = dataclasses.replace(before, choices=(3, 4), names=names)
    grown = TextEncoder(config)
    book = torch.cat([since.text_encoder.codebook, torch.randn(4, config.out_width)])
    grown.load_state_dict({**since.text_encoder.state_dict(), "codebook": book})
    other = dataclasses.replace(networks, text_encoder=grown)
    save_bundle(beside, other, ["text_encoder"], "codebook", since=since)
    read = load_bundle(path).text_encoder
    assert read.config == config
    assert torch.equal(read.codebook[:3], book[:3])
    assert torch.allclose(read.codebook[3:], book[3:], atol=0.13 * float(book[3:].abs().max()))
    with safe_open(beside, "pt") as file:
        news = json.loads(file.metadata()["config"])["text_encoder"]
    assert news == {"choices": [3, 4], "names": {"1": ["kitten"]}}


def test_the_starter_is_small_enough_for_the_repository():
    files = (settings().assets / "starter").glob("*.safetensors")
    assert 1e6 < sum(path.stat().st_size for path in files) < 32e6
