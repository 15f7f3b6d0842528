"""LoRAs on tiny networks of the real classes, against diffusers' own loader."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from aiprod_studio.engines.lora_layers import added, check, linear_layers
from aiprod_studio.engines.loras import Lora, digest_of, find_loras
from aiprod_studio.errors import BadRequest
from tests.benchmarks.architectures import denoiser_inputs, transformer
from tests.benchmarks.peaks import shapes_only, trace
from tests.engines.tiny_pipelines import build

CPU = torch.device("cpu")
# Names by the first authors, for layers of one block and some outside.
WAN = {
    "blocks.0.attn1.to_q": "blocks.0.self_attn.q",
    "blocks.0.attn1.to_k": "blocks.0.self_attn.k",
    "blocks.0.attn1.to_v": "blocks.0.self_attn.v",
    "blocks.0.attn1.to_out.0": "blocks.0.self_attn.o",
    "blocks.0.attn2.to_q": "blocks.0.cross_attn.q",
    "blocks.0.attn2.to_k": "blocks.0.cross_attn.k",
    "blocks.0.attn2.to_v": "blocks.0.cross_attn.v",
    "blocks.0.attn2.to_out.0": "blocks.0.cross_attn.o",
    "blocks.0.ffn.net.0.proj": "blocks.0.ffn.0",
    "blocks.0.ffn.net.2": "blocks.0.ffn.2",
}
WAN_OUTSIDE = {
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "proj_out": "head.head",
}
LTX2 = {
    "proj_in": "patchify_proj",
    "audio_proj_in": "audio_patchify_proj",
    "time_embed.linear": "adaln_single.linear",
    "audio_time_embed.emb.timestep_embedder.linear_1": (
        "audio_adaln_single.emb.timestep_embedder.linear_1"
    ),
    "av_cross_attn_video_scale_shift.linear": "av_ca_video_scale_shift_adaln_single.linear",
    "av_cross_attn_audio_scale_shift.linear": "av_ca_audio_scale_shift_adaln_single.linear",
    "av_cross_attn_video_a2v_gate.linear": "av_ca_a2v_gate_adaln_single.linear",
    "av_cross_attn_audio_v2a_gate.linear": "av_ca_v2a_gate_adaln_single.linear",
    "prompt_adaln.linear": "prompt_adaln_single.linear",
    "audio_prompt_adaln.linear": "audio_prompt_adaln_single.linear",
    "transformer_blocks.1.attn1.to_q": "transformer_blocks.1.attn1.to_q",
    "transformer_blocks.0.audio_to_video_attn.to_out.0": (
        "transformer_blocks.0.audio_to_video_attn.to_out.0"
    ),
}


def tensors(
    network: nn.Module, names: dict[str, str], down: str, up: str, alpha: float | None = None
) -> dict[str, Tensor]:
    """Return a LoRA of rank 3 for layers of a network, under other names."""
    dice, found = torch.Generator().manual_seed(5), {}
    for name, theirs in names.items():
        inputs, outputs = linear_layers(network)[name]
        found[f"{theirs}.{down}.weight"] = torch.randn(3, inputs, generator=dice)
        found[f"{theirs}.{up}.weight"] = 0.1 * torch.randn(outputs, 3, generator=dice)
        if alpha is not None:
            found[f"{theirs}.alpha"] = torch.tensor(alpha)
    return found


def every(network: nn.Module) -> dict[str, str]:
    """Return all layers of a network, named as diffusers does."""
    return {name: f"transformer.{name}" for name in linear_layers(network)}


def comfy(names: dict[str, str]) -> dict[str, str]:
    return {name: f"diffusion_model.{theirs}" for name, theirs in names.items()}


def kohya(names: dict[str, str]) -> dict[str, str]:
    return {name: f"lora_unet_{theirs.replace('.', '_')}" for name, theirs in names.items()}


def write(path: Path, found: dict[str, Tensor], weight: float = 1.0, **told: str) -> Lora:
    save_file(found, path, told or None)
    return Lora(path, digest_of(path), weight)


def call(pipe: Any, options: dict[str, Any]) -> Tensor:
    pipe.set_progress_bar_config(disable=True)
    dice = torch.Generator().manual_seed(1)
    frames: Tensor = pipe(**(options | {"output_type": "latent"}), generator=dice).frames
    return frames


def formats(kind: str, network: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Return LoRAs in each format that diffusers reads for a family."""
    found = {"diffusers": tensors(network, every(network), "lora_A", "lora_B")}
    if kind == "wan":
        both = WAN | WAN_OUTSIDE
        found["comfy"] = tensors(network, comfy(both), "lora_down", "lora_up")
        found["alpha"] = tensors(network, comfy(WAN), "lora_A", "lora_B", alpha=1.5)
        whole = {
            re.sub("^blocks.0", f"blocks.{n}", name): re.sub("^blocks.0", f"blocks.{n}", theirs)
            for n in range(3)
            for name, theirs in WAN.items()
        }
        found["kohya"] = tensors(network, kohya(whole), "lora_down", "lora_up", alpha=1.5)
        layers = linear_layers(network)
        bias = {f"{comfy(both)[name]}.diff_b": torch.randn(layers[name][1]) for name in both}
        found["bias"] = found["comfy"] | bias
    elif kind == "ltx2-newer":
        found["comfy"] = tensors(network, comfy(LTX2), "lora_A", "lora_B")
    else:
        names = {name: name for name in linear_layers(network)}
        found["comfy"] = tensors(network, comfy(names), "lora_A", "lora_B")
    return found


@pytest.mark.parametrize("kind", ["wan", "ltx", "ltx2-newer"])
def test_what_is_added_is_what_diffusers_adds(kind: str, tmp_path: Path) -> None:
    pipe, options = build(kind)
    plain = call(pipe, options)
    for name, found in formats(kind, pipe.transformer).items():
        lora = write(tmp_path / f"{name}.safetensors", found, 0.7)
        with added(pipe.transformer, [lora], torch.float32, CPU):
            ours = call(pipe, options)
        assert torch.equal(call(pipe, options), plain), "it leaves with the `with`"
        pipe.load_lora_weights(str(lora.path), adapter_name="a")
        pipe.set_adapters("a", 0.7)
        theirs = call(pipe, options)
        pipe.delete_adapters("a")
        pipe.unload_lora_weights()
        assert (ours - plain).abs().max() > 1e-3, name
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_alpha_may_be_told_by_peft(tmp_path: Path) -> None:
    """In the file as diffusers writes it, or beside it as PEFT does."""
    pipe, options = build("wan")
    names = {name: f"transformer.{name}" for name in WAN}
    found = tensors(pipe.transformer, names, "lora_A", "lora_B")
    twice = {key: 2 * one if "lora_B" in key else one for key, one in found.items()}

    def make(lora: Lora) -> Tensor:
        with added(pipe.transformer, [lora], torch.float32, CPU):
            return call(pipe, options)

    wanted = make(write(tmp_path / "twice.safetensors", twice))
    told = json.dumps({"transformer.r": 3, "transformer.lora_alpha": 6})
    inside = write(tmp_path / "inside.safetensors", found, lora_adapter_metadata=told)
    torch.testing.assert_close(make(inside), wanted)
    theirs = {f"base_model.model.{name}": one for name, one in found.items()}
    alone = write(tmp_path / "adapter_model.safetensors", theirs)
    (tmp_path / "adapter_config.json").write_text('{"r": 3, "lora_alpha": 6}')
    (beside,) = find_loras((str(alone.path),))
    torch.testing.assert_close(make(beside), wanted)
    assert beside.facts != alone.facts


def test_a_whole_change_of_a_matrix_is_added(tmp_path: Path) -> None:
    network = build("wan")[0].transformer
    layer, x = network.proj_out, torch.randn(2, network.proj_out.in_features)
    change = torch.randn_like(layer.weight)
    lora = write(tmp_path / "a.safetensors", {"diffusion_model.head.head.diff": change}, 0.5)
    with added(network, [lora], torch.float32, CPU):
        torch.testing.assert_close(network.proj_out(x), layer(x) + 0.5 * x @ change.T)
    assert network.proj_out is layer


def test_several_are_added_to_a_layer_at_once(tmp_path: Path) -> None:
    """Each with its weight, whatever it holds and whatever its rank."""
    network, x = nn.Sequential(nn.Linear(4, 6)), torch.randn(2, 3, 4)
    layer, wanted, loras = network[0], network(x), []
    for rank, weight in ((1, 0.5), (3, -2.0)):
        down, up, bias = torch.randn(rank, 4), torch.randn(6, rank), torch.randn(6)
        wanted = wanted + weight * (x @ down.T @ up.T + (bias if rank == 1 else 0))
        found = {"0.lora_A.weight": down, "0.lora_B.weight": up}
        more = {"0.diff_b": bias} if rank == 1 else {}
        loras.append(write(tmp_path / f"{rank}.safetensors", found | more, weight))
    change = torch.randn(6, 4)
    loras.append(write(tmp_path / "change.safetensors", {"0.diff": change}))
    with added(network, loras, torch.float32, CPU), torch.no_grad():
        torch.testing.assert_close(network(x), wanted + x @ change.T)
        assert next(network[0].children()) is layer
    assert network[0] is layer


def test_changes_of_norms_are_left_out_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless they are nothing but zeros, as in most files that have them."""
    network = build("wan")[0].transformer
    found = tensors(network, comfy(WAN), "lora_A", "lora_B")
    zeros = found | {"diffusion_model.blocks.0.norm3.diff": torch.zeros(24)}
    check(write(tmp_path / "zeros.safetensors", zeros), linear_layers(network))
    assert not caplog.records
    ones = found | {"diffusion_model.blocks.0.norm3.diff": torch.ones(24)}
    check(write(tmp_path / "ones.safetensors", ones), linear_layers(network))
    assert "norm3" in caplog.text


@pytest.mark.parametrize(
    ("key", "shape", "said"),
    [
        ("transformer.blocks.0.attn1.to_q.lora_A.weight", (0, 24), "rank 0"),
        ("transformer.blocks.0.attn1.to_q.lora_A.weight", (3, 25), "24 × 24"),
        ("transformer.blocks.0.attn1.to_q.lora_B.weight", (24, 4), "up has shape"),
        ("transformer.blocks.9.attn1.to_q.lora_A.weight", (3, 24), "no layer blocks.9"),
        ("transformer.blocks.0.attn1.to_k.lora_A.weight", (3, 24), "half of"),
        ("lora_te_text_model_q.lora_down.weight", (3, 24), "no layer lora_te"),
        ("transformer.blocks.0.attn1.to_q.lokr_w1", (3, 3), "kind .lokr."),
        ("transformer.blocks.0.attn1.to_q.lora_magnitude_vector", (3,), "lora_magnitude"),
        ("blocks.0.attn1.to_q.weight", (24, 24), "holds no LoRA"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, key: str, shape: tuple[int, ...], said: str
) -> None:
    network = build("wan")[0].transformer
    names = {"blocks.0.attn1.to_q": "transformer.blocks.0.attn1.to_q"}
    found = tensors(network, names, "lora_A", "lora_B") | {key: torch.ones(shape)}
    if not shape[0]:
        found["transformer.blocks.0.attn1.to_q.lora_B.weight"] = torch.ones(24, 0)
    lora = write(tmp_path / "a.safetensors", found)
    before = copy.copy(dict(network.named_modules()))
    with pytest.raises(BadRequest, match=said), added(network, [lora], torch.float32, CPU):
        raise AssertionError("it must not be added")
    assert dict(network.named_modules()) == before


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    layers = linear_layers(build("wan")[0].transformer)
    path.write_bytes(b"no tensors at all")
    with pytest.raises(BadRequest, match="cannot be read"):
        check(Lora(path, "", 1.0), layers)
    save_file({}, path)
    with pytest.raises(BadRequest, match="holds no LoRA"):
        check(Lora(path, "", 1.0), layers)


def test_a_compiled_network_notices_it(tmp_path: Path) -> None:
    """When it comes, changes and leaves."""
    network, x = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), torch.randn(2, 4)
    found = tensors(network, {"1": "transformer.1"}, "lora_A", "lora_B")
    loras = [write(tmp_path / f"{weight}.safetensors", found, weight) for weight in (0.5, 1.0)]

    def make(*some: Lora) -> Tensor:
        with added(network, some, torch.float32, CPU), torch.inference_mode():
            result: Tensor = network(x)
        return result

    plain = [make(), make(loras[0]), make(loras[1]), make()]
    network.forward = torch.compile(network.forward, backend="eager")
    compiled = [make(), make(loras[0]), make(loras[1]), make()]
    for ours, wanted in zip(compiled, plain, strict=True):
        torch.testing.assert_close(ours, wanted)
    assert not torch.equal(plain[1], plain[2])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_it_works_within_what_the_denoiser_does(tmp_path: Path) -> None:
    """At real widths and a real size: beside its weights it takes next to nothing."""
    with shapes_only():
        network = transformer("wan2.1-1.3b", layers=2)
        inputs = denoiser_inputs("wan2.1-1.3b", 832, 480, 81, 512)
    lora = write(tmp_path / "a.safetensors", tensors(network, every(network), "lora_A", "lora_B"))
    with shapes_only():
        plain = trace(network, lambda: network(**inputs))
        with added(network, [lora], torch.bfloat16, torch.device("meta")):
            beside = trace(network, lambda: network(**inputs))
    assert plain <= beside < 1.005 * plain
