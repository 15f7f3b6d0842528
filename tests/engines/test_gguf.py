"""GGUF files made here, of a tiny transformer of the real class."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.quantizers.gguf.utils import GGUFLinear
from safetensors.torch import save_file
from torch import Tensor

from aiprod_studio.cli import main
from aiprod_studio.engines.catalog import cards, find_engine
from aiprod_studio.engines.gguf import load_gguf
from aiprod_studio.engines.hub.source import find_source
from aiprod_studio.engines.lora_layers import linear_layers
from aiprod_studio.engines.wan import WanEngine
from aiprod_studio.errors import ModelUnavailable
from aiprod_studio.types import Plan, Request
from tests.engines.conftest import Tiny, forget, serve
from tests.engines.plans import card_of, plan_of
from tests.engines.test_catalog import ROW
from tests.loopback_hub import LoopbackHub

# As the authors of Wan name what diffusers names otherwise.
AUTHORS = (
    (r"^condition_embedder\.time_proj\.", "time_projection.1."),
    (r"^condition_embedder\.(text|time)_embedder\.linear_1\.", r"\1_embedding.0."),
    (r"^condition_embedder\.(text|time)_embedder\.linear_2\.", r"\1_embedding.2."),
    (r"^scale_shift_table$", "head.modulation"),
    (r"^proj_out\.", "head.head."),
    (r"\.scale_shift_table$", ".modulation"),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".o."),
    (r"\.ffn\.net\.0\.proj\.", ".ffn.0."),
    (r"\.ffn\.net\.2\.", ".ffn.2."),
    (r"\.norm2\.", ".norm3."),
)

LIKE = """
like = "tiny"
id = "tiny-q8"
gguf = true

[[variants]]
name = "text"
repo = "owner/tiny"
revision = "main"
gated = false
tasks = ["text"]
also = ["denoiser"]
files = [
    "model_index.json",
    "scheduler/*",
    "text_encoder/*",
    "tokenizer/*",
    "transformer/config.json",
    "vae/*",
]

[[variants]]
name = "denoiser"
repo = "owner/tiny-gguf"
revision = "main"
gated = false
tasks = ["denoiser"]
files = ["*Q8_0.gguf"]
"""


@pytest.fixture(scope="module")
def network() -> WanTransformer3DModel:
    """A transformer whose rows are whole blocks of 32 values."""
    torch.manual_seed(0)
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=32,
        ffn_dim=64,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=64,
    ).eval()


@pytest.fixture
def folder(tiny: Tiny, network: WanTransformer3DModel, tmp_path: Path) -> Path:
    """A tiny pipeline with that transformer."""
    path = tmp_path / "pipeline"
    shutil.copytree(tiny("wan"), path)
    shutil.rmtree(path / "transformer")
    network.save_pretrained(path / "transformer")
    return path


def write(network: WanTransformer3DModel, path: Path, leave: str = "") -> Path:
    """Write a network's weights, matrices in 8 bits, under their authors' names."""
    kind = gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(path, "wan")
    for name, tensor in network.state_dict().items():
        for pattern, instead in AUTHORS:
            name = re.sub(pattern, instead, name)
        data = tensor.numpy()
        if name == leave:
            continue
        if tensor.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def file(network: WanTransformer3DModel, tmp_path: Path) -> Path:
    (tmp_path / "gguf").mkdir()
    return write(network, tmp_path / "gguf" / "model-Q8_0.gguf")


def denoise(folder: Path, denoiser: Path | None, plan: Plan, *loras: str) -> Tensor:
    request = Request("a red fox", seed=7, steps=2, guidance=5.0, loras=loras)

    def find_folder(task: str) -> Path:
        if task != "denoiser":
            return folder
        assert denoiser is not None
        return denoiser

    engine = WanEngine(card_of("wan"), find_folder, gguf=denoiser is not None)
    with engine.load(plan) as parts:
        text, nothing = parts.encode_text(request.prompt), parts.encode_text("")
        latents = parts.denoise(text, nothing, {}, request, plan, lambda *_: None)
    return latents.video


@pytest.mark.parametrize(
    "how",
    [{}, {"place": "model"}, {"place": "group"}, {"place": "disk"}, {"quantisation": "int8"}],
)
def test_latents_are_close_to_those_of_the_whole_weights(
    folder: Path, file: Path, how: dict[str, Any]
) -> None:
    """Wherever they live; quantised they are already."""
    whole = denoise(folder, None, plan_of("wan"))
    for weights in (folder / "transformer").glob("*.safetensors"):
        weights.unlink()
    found = denoise(folder, file.parent, plan_of("wan", **how))
    assert 1e-6 < (found - whole).abs().mean() / whole.abs().mean() < 0.02


def test_weights_stay_mapped(folder: Path, file: Path) -> None:
    """From the file, which is as large in memory as on the disk."""
    network = load_gguf(WanTransformer3DModel, file, folder / "transformer", torch.float32)
    begin = re.search(rf"^(\w+)-(\w+) .*{file.name}$", Path("/proc/self/maps").read_text(), re.M)
    assert begin is not None
    low, high = (int(place, 16) for place in begin.groups())
    matrices = [layer.weight for layer in network.modules() if isinstance(layer, GGUFLinear)]
    assert len(matrices) == len(linear_layers(network)) - 2, "but for those kept in 32 bits"
    assert all(low <= matrix.data_ptr() < high for matrix in matrices)


def test_a_lora_is_added_to_them(
    folder: Path, file: Path, network: WanTransformer3DModel, tmp_path: Path
) -> None:
    tensors = {}
    for name, (inputs, outputs) in linear_layers(network).items():
        tensors[f"transformer.{name}.lora_A.weight"] = torch.randn(2, inputs)
        tensors[f"transformer.{name}.lora_B.weight"] = 0.1 * torch.randn(outputs, 2)
    save_file(tensors, tmp_path / "a.safetensors")
    lora = f"{tmp_path}/a.safetensors:0.5"
    plan = plan_of("wan", place="group")
    whole, changed = denoise(folder, None, plan), denoise(folder, None, plan, lora)
    found = denoise(folder, file.parent, plan, lora)
    assert (found - changed).abs().mean() < 0.2 * (whole - changed).abs().mean()


def test_what_is_no_such_file_is_refused(
    folder: Path, file: Path, network: WanTransformer3DModel, tmp_path: Path
) -> None:
    config = folder / "transformer"
    other = write(network, tmp_path / "other.gguf", leave="blocks.1.ffn.2.weight")
    with pytest.raises(ModelUnavailable, match="weights are missing"):
        load_gguf(WanTransformer3DModel, other, config, torch.float32)
    other.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_gguf(WanTransformer3DModel, other, config, torch.float32)
    sizes = json.loads((config / "config.json").read_text())
    (config / "config.json").write_text(json.dumps(sizes | {"ffn_dim": 96}))
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_gguf(WanTransformer3DModel, file, config, torch.float32)
    with pytest.raises(ModelUnavailable, match="0 GGUF files"):
        denoise(folder, folder, plan_of("wan"))


def test_from_one_download_to_the_file(
    hub: LoopbackHub,
    catalogue: Path,
    folder: Path,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The denoiser's own weights are not fetched, but its file is, from another repository."""
    (catalogue / "tiny.toml").write_text(ROW)
    (catalogue / "tiny-q8.toml").write_text(LIKE)
    forget()
    serve(hub, "owner/tiny", folder)
    hub.add_repo("owner/tiny-gguf", {file.name: file.read_bytes(), "model-Q4_K_M.gguf": b"1"})
    words = ["--cli", "a red fox", "--engine", "tiny-q8", "--out", str(tmp_path / "out")]
    assert main(words) != 0
    assert "download tiny-q8'" in capsys.readouterr().err
    assert main(["models", "download", "tiny-q8"]) == 0
    assert not hub.sent("transformer/*.safetensors")
    assert not hub.sent("*Q4_K_M.gguf")
    assert main(words) == 0, capsys.readouterr().err
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 1


def test_the_rows_of_the_catalogue_are_like_the_whole_one() -> None:
    whole, small = cards()["wan2.2-5b"], cards()["wan2.2-5b-q4"]
    assert small.memory == whole.memory
    assert small.parts["vae"] == whole.parts["vae"]
    assert small.parts["transformer"].sizes["bfloat16"] < 4e9
    assert find_source("wan2.2-5b-q4").default_gb is None
    engine = find_engine("wan2.2-5b-q8")
    assert isinstance(engine, WanEngine)
    assert engine.gguf
