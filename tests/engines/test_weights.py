"""Components of a folder: the same results wherever their weights live."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from aiprod_studio.engines.attention import SlicedAttention
from aiprod_studio.engines.blocks import blocks_of, streaming
from aiprod_studio.engines.hub.copies import converted_folder
from aiprod_studio.engines.weights import Components, open_components
from aiprod_studio.errors import ModelUnavailable
from tests.engines.conftest import Tiny
from tests.engines.plans import plan_of

CPU = torch.device("cpu")


def latents() -> Tensor:
    return torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def denoise(components: Components) -> Tensor:
    text = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(1))
    with components.use("transformer") as network, torch.inference_mode():
        velocity: Tensor = network(
            hidden_states=latents().to(components.dtype),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=text.to(components.dtype),
            return_dict=False,
        )[0]
    return velocity.float()


def encode(components: Components) -> Tensor:
    with components.use("text_encoder") as encoder, torch.inference_mode():
        features: Tensor = encoder(torch.tensor([[4, 5, 6, 1]])).last_hidden_state
    return features.float()


def decode(components: Components) -> Tensor:
    with components.use("vae") as vae, torch.inference_mode():
        video: Tensor = vae.decode(latents()[:, :, :1].to(vae.dtype)).sample
    return video.float()


def run(folder: Path, **plan: Any) -> list[Tensor]:
    """Return what each network makes, twice with the same weights."""
    with open_components(folder, plan_of("wan", **plan)) as components:
        once = [step(components) for step in (denoise, encode, decode)]
        again = [step(components) for step in (denoise, encode, decode)]
    for one, other in zip(once, again, strict=True):
        assert torch.equal(one, other)
    return once


@pytest.mark.parametrize("place", ["model", "group", "disk"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_weights_at_another_place_make_the_same(tiny: Tiny, place: str, precision: str) -> None:
    resident = run(tiny("wan"), precision=precision)
    placed = run(tiny("wan"), place=place, precision=precision)
    for one, other in zip(resident, placed, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("place", ["resident", "group", "disk"])
@pytest.mark.parametrize(("quantisation", "least"), [("int8", 0.998), ("float8", 0.99)])
def test_quantised_weights_are_close_and_made_once(
    tiny: Tiny, place: str, quantisation: str, least: float
) -> None:
    full = run(tiny("wan"))
    close = run(tiny("wan"), place=place, quantisation=quantisation)
    for one, other in zip(full[:2], close[:2], strict=True):
        assert not torch.equal(one, other)
        assert F.cosine_similarity(one.flatten(), other.flatten(), dim=0) > least
    assert torch.equal(full[2], close[2]), "a decoder is never quantised"
    kept = {path: path.stat().st_mtime_ns for path in converted_folder("").rglob("*.safetensors")}
    assert len(kept) == 5, "a file for each block of denoiser and text encoder"
    for one, other in zip(
        close, run(tiny("wan"), place=place, quantisation=quantisation), strict=True
    ):
        assert torch.equal(one, other)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_converted_weights_do_not_outlive_the_files_they_were_made_of(
    tiny: Tiny, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny("wan"), folder)
    before = run(folder, quantisation="int8")[0]
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    shutil.copyfile(tiny("wan14b") / "transformer_2" / path.name, path)
    assert not torch.equal(run(folder, quantisation="int8")[0], before)


def test_a_full_disk_costs_the_copy_not_the_clip(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    converted_folder("").parent.mkdir(parents=True)
    converted_folder("").write_text("a file in the way")
    close = run(tiny("wan"), quantisation="int8")
    assert "not kept" in caplog.text
    assert len(close) == 3


def test_int4_without_its_kernel_says_so(tiny: Tiny) -> None:
    with (
        open_components(tiny("wan"), plan_of("wan", quantisation="int4")) as components,
        pytest.raises(ModelUnavailable, match="mslk"),
    ):
        denoise(components)


def test_a_block_is_at_work_alone_and_leaves_what_it_was() -> None:
    blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
    homes = [block.weight for block in blocks]
    seen: list[list[bool]] = []

    def look(*_: Any) -> None:
        seen.append([block.weight is not home for block, home in zip(blocks, homes, strict=True)])

    network = nn.ModuleDict({"blocks": blocks})
    assert blocks_of(network) == list(blocks)
    with streaming(network, CPU, pinned=False):
        for block in blocks:
            block.register_forward_hook(look, prepend=True)
            block(torch.ones(1, 4))
    assert seen == [[True, False, False], [False, True, False], [False, False, True]]
    assert [block.weight for block in blocks] == homes
    assert not any(block._forward_pre_hooks for block in blocks)


def test_a_network_of_unified_memory_leaves_after_its_use(tiny: Tiny) -> None:
    with open_components(tiny("wan"), plan_of("wan", place="model")) as components:
        with components.use("transformer"):
            assert components.loaded == {"transformer"}
        assert not components.loaded
    with open_components(tiny("wan"), plan_of("wan")) as components:
        denoise(components)
        assert components.loaded == {"transformer"}
    assert not components.loaded


def test_a_resident_network_holds_no_copy_of_its_file(tiny: Tiny) -> None:
    path = tiny("wan") / "transformer" / "diffusion_pytorch_model.safetensors"
    with (
        open_components(tiny("wan"), plan_of("wan")) as components,
        components.use("transformer") as network,
    ):
        mapped = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else ""
        assert torch.equal(network.proj_out.weight, load_file(path)["proj_out.weight"])
    assert str(path) in mapped or not mapped


def test_the_attention_of_one_model_does_not_leak_to_another(tiny: Tiny) -> None:
    from diffusers.models.attention_dispatch import (
        AttentionBackendName,
        _AttentionBackendRegistry,
    )

    before = _AttentionBackendRegistry._active_backend
    with (
        open_components(tiny("wan"), plan_of("wan")) as one,
        open_components(tiny("wan"), plan_of("wan", attention="sliced")) as other,
    ):
        plain = denoise(one)
        assert _AttentionBackendRegistry._active_backend == before
        # Another program in this process chooses a kernel that this machine lacks, for everybody.
        _AttentionBackendRegistry.set_active_backend(AttentionBackendName.FLASH)
        try:
            assert torch.equal(denoise(one), plain)
            assert torch.equal(denoise(other), plain)
        finally:
            _AttentionBackendRegistry.set_active_backend(before)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_slices_is_the_same(masked: bool) -> None:
    query = torch.randn(1, 2, 2500, 8, generator=torch.Generator().manual_seed(0))
    key = torch.randn(1, 2, 40, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.rand(1, 1, 2500, 40) < 0.7 if masked else None
    whole = F.scaled_dot_product_attention(query, key, key, mask)
    with SlicedAttention():
        sliced = F.scaled_dot_product_attention(query, key, key, attn_mask=mask)
    torch.testing.assert_close(sliced, whole)


def test_missing_parts_are_named_with_what_to_do(tiny: Tiny, tmp_path: Path) -> None:
    with (
        pytest.raises(ModelUnavailable, match="models verify"),
        open_components(tmp_path, plan_of("wan")),
    ):
        pass
    folder = tmp_path / "model"
    shutil.copytree(tiny("wan"), folder)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with open_components(folder, plan_of("wan")) as components:
        assert components.has("vae")
        assert not components.has("image_encoder")
        with pytest.raises(ModelUnavailable, match="vae"):
            decode(components)
        with pytest.raises(ModelUnavailable, match="no image_encoder"):
            components.plain("image_encoder")
    index = json.loads((folder / "model_index.json").read_text())
    index["transformer"] = ["custom_code", "MyTransformer"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with (
        open_components(folder, plan_of("wan")) as components,
        pytest.raises(ModelUnavailable, match="MyTransformer"),
    ):
        denoise(components)


@pytest.mark.gpu
@pytest.mark.parametrize("quantisation", ["", "int8"])
@pytest.mark.parametrize("place", ["model", "group", "disk"])
def test_weights_that_travel_to_a_gpu_make_the_same(
    tiny: Tiny, place: str, quantisation: str
) -> None:
    device = "cuda" if torch.cuda.is_available() else "mps"
    plan = {"device": device, "quantisation": quantisation, "pinned": place == "group"}

    def velocity(place: str) -> Tensor:
        with open_components(tiny("wan"), plan_of("wan", place=place, **plan)) as components:
            text = torch.ones(1, 16, 32, device=device)
            found = []
            for _ in range(2):
                with components.use("transformer") as network, torch.inference_mode():
                    times = torch.tensor([500.0], device=device)
                    asked = (latents().to(device), times, text)
                    found.append(network(*asked, return_dict=False)[0].cpu())
        assert torch.equal(*found)
        return found[0]

    torch.testing.assert_close(velocity(place), velocity("resident"))
