"""Weights in another form than their repository has them: quantised, or of another precision.

Each block is written to a file of its own when it is first converted, and mapped from there then
and ever after: RAM never holds more than one block, and nothing is converted twice.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from aiprod_studio.engines.blocks import blocks_of
from aiprod_studio.engines.hub.copies import converted_folder
from aiprod_studio.engines.tensors import write_tensors
from aiprod_studio.errors import ModelUnavailable, StudioError

log = logging.getLogger(__name__)

# Names in the file begin with this, as torchao wants a dot in each.
_PREFIX = "block."


def convert(
    network: nn.Module, folder: Path, dtype: torch.dtype, quantisation: str, device: torch.device
) -> None:
    """Give a network, loaded from `folder`, weights of `dtype`, its blocks' matrices quantised.

    What its class keeps in float32 stays so. `quantisation` is float8, int8, int4 or "" for none;
    raises `ModelUnavailable` where int4 has no kernel.
    """
    recipe = _recipe(quantisation)
    kept = _kept_in_float32(network, dtype)
    # A snapshot's folder is models--owner--name/snapshots/commit.
    repo = folder.parent.parent.parent.name
    place = converted_folder(repo) / _mark(folder, dtype, quantisation)
    blocks = blocks_of(network)
    for number, block in enumerate(blocks):
        path = place / f"{number:03}.safetensors"
        if not path.exists():
            _change(block, dtype, kept, recipe, device)
            _write(block, path)
        if path.exists():
            _read(block, path)
    inside = {id(weight) for block in blocks for weight in block.parameters()}
    _cast(network, dtype, kept, inside)


def _recipe(quantisation: str) -> Any:
    """Return torchao's settings for a quantisation, None for none."""
    if not quantisation:
        return None
    if quantisation == "int4" and importlib.util.find_spec("mslk") is None:
        raise ModelUnavailable(
            "Weights in int4 need the package mslk, which is not here. Install it, or ask for a "
            "smaller clip, whose plan needs less."
        )
    from torchao.quantization import (
        Float8WeightOnlyConfig,
        Int4WeightOnlyConfig,
        Int8WeightOnlyConfig,
    )

    recipes = {
        "float8": Float8WeightOnlyConfig,
        "int8": Int8WeightOnlyConfig,
        "int4": Int4WeightOnlyConfig,
    }
    return recipes[quantisation]()


def _kept_in_float32(network: nn.Module, dtype: torch.dtype) -> tuple[str, ...]:
    """Return the names of modules that stay in float32: transformers does so for float16 only."""
    from diffusers import ModelMixin

    always = isinstance(network, ModelMixin) or dtype == torch.float16
    return tuple(getattr(network, "_keep_in_fp32_modules", None) or ()) if always else ()


def _mark(folder: Path, dtype: torch.dtype, quantisation: str) -> str:
    """Return a name for what is made of the files in a folder as they are now."""
    import torchao

    files = sorted(folder.glob("*.safetensors"))
    facts = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    text = repr((facts, str(dtype), torchao.__version__))
    return f"{folder.name}-{quantisation}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _cast(module: nn.Module, dtype: torch.dtype, kept: tuple[str, ...], leave: set[int]) -> None:
    """Cast the weights of a module, but for those in `leave`; what is kept becomes float32."""
    for name, weight in module.named_parameters():
        if id(weight) not in leave and weight.is_floating_point():
            long = not set(kept).isdisjoint(name.split("."))
            weight.data = weight.data.to(torch.float32 if long else dtype)


def _change(
    block: nn.Module,
    dtype: torch.dtype,
    kept: tuple[str, ...],
    recipe: Any,
    device: torch.device,
) -> None:
    """Cast a block and quantise its matrices, on the device, which is quicker."""
    _cast(block, dtype, kept, set())
    if recipe is None:
        return
    from torchao.quantization import quantize_

    def wanted(module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Linear) and set(kept).isdisjoint(name.split("."))

    block.to(device)
    quantize_(block, recipe, filter_fn=wanted)
    block.to("cpu")


def _write(block: nn.Module, path: Path) -> None:
    """Write a block's weights; without the file they are converted again the next time."""
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    state = {f"{_PREFIX}{name}": tensor for name, tensor in block.state_dict().items()}
    tensors, facts = flatten_tensor_state_dict(state)
    try:
        write_tensors(path, tensors, facts)
    except StudioError as error:
        log.warning("The converted weights are not kept: %s", error)


def _read(block: nn.Module, path: Path) -> None:
    """Give a block the weights of a file, which stay mapped from it."""
    from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state, _ = unflatten_tensor_state_dict(tensors, file.metadata())
    whole: dict[str, Tensor] = {name.removeprefix(_PREFIX): one for name, one in state.items()}
    block.load_state_dict(whole, assign=True)
    block.requires_grad_(False)
