"""What LoRAs add to the layers of a network, while a `with` lasts.

A LoRA is added to what a layer makes of its input, not to its weights: these may be quantised,
mapped from a file or away from the device, and stay as they are.

Its file names a layer as diffusers does, as the model's first authors did, or either with "_" for
each dot; a layer is found by any of these, behind any of the usual beginnings.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from aiprod_studio.engines.loras import Lora
from aiprod_studio.errors import BadRequest

log = logging.getLogger(__name__)

_BEGINNINGS = re.compile(
    r"(?:base_model\.model\.)?(?:model\.)?(?:transformer\.|diffusion_model\.|lora_unet_)?"
)
_ROLES = {
    r"(?:lora_A|lora_down|lora\.down)(?:\.default)?\.weight": "down",
    r"(?:lora_B|lora_up|lora\.up)(?:\.default)?\.weight": "up",
    r"lora_B(?:\.default)?\.bias": "up_bias",
    r"alpha": "alpha",
    r"diff": "change",
    r"diff_b": "bias",
}
# What a LoRA's file says of the references that it was trained with: how many times smaller their
# sides were than the clip's, and how many times fewer their frames.
_SMALLER = "reference_downscale_factor"
_FEWER = "reference_temporal_scale_factor"
# From the names of diffusers to those of the first authors of Wan, LTX-Video and LTX-2.
_OLDER = (
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_([qkv])$", r".\1"),
    (r"\.to_out\.0$", ".o"),
    (r"\.add_([kv])_proj$", r".\1_img"),
    (r"\.ffn\.net\.0\.proj$", ".ffn.0"),
    (r"\.ffn\.net\.2$", ".ffn.2"),
    (r"^condition_embedder\.time_proj$", "time_projection.1"),
    (r"^condition_embedder\.(text|time)_embedder\.linear_1$", r"\1_embedding.0"),
    (r"^condition_embedder\.(text|time)_embedder\.linear_2$", r"\1_embedding.2"),
    (r"^condition_embedder\.image_embedder\.ff\.net\.0\.proj$", "img_emb.proj.1"),
    (r"^condition_embedder\.image_embedder\.ff\.net\.2$", "img_emb.proj.3"),
    (r"^proj_out$", "head.head"),
    (r"^(audio_)?proj_in$", r"\1patchify_proj"),
    (r"^(audio_)?time_embed\.", r"\1adaln_single."),
    (r"^(audio_)?prompt_adaln\.", r"\1prompt_adaln_single."),
    (r"^av_cross_attn_(video|audio)_scale_shift\.", r"av_ca_\1_scale_shift_adaln_single."),
    (r"^av_cross_attn_(?:video|audio)_(a2v|v2a)_gate\.", r"av_ca_\1_gate_adaln_single."),
)


Layers = Mapping[str, tuple[int, int]]
"""The inputs and outputs of each linear layer of a network, by its name."""


def linear_layers(network: nn.Module) -> Layers:
    """Return the linear layers of a network, which may be on the meta device."""
    return {
        name: (layer.in_features, layer.out_features)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear)
    }


@dataclass
class _Sketch:
    """What a LoRA's file has for one layer: the key and the shape of each role."""

    keys: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


def check(lora: Lora, layers: Layers) -> None:
    """Raise `BadRequest` unless a LoRA's file can be read and fits a network of these layers."""
    with _opened(lora.path) as file:
        _sketch(file, lora.path, layers)


def reference_shrinking(loras: Sequence[Lora]) -> int:
    """Return how many times smaller than the clip's are the sides of a reference for LoRAs.

    Raises `BadRequest` where they disagree, or a file asks for what no reference can be made.
    """
    told: dict[int, Path] = {}
    for lora in (one for one in loras if one.weight):
        with _opened(lora.path) as file:
            notes = file.metadata() or {}
        smaller, fewer = (notes.get(name, "1") for name in (_SMALLER, _FEWER))
        if not re.fullmatch(r"[1-9]\d?", smaller) or fewer != "1":
            raise BadRequest(
                f"{lora.path.name} was trained with references {smaller[:20]} times smaller, of "
                f"{fewer[:20]} times fewer frames, which cannot be made. Choose another LoRA, or "
                "leave the reference out."
            )
        told[int(smaller)] = lora.path
    wanted = sorted(told.keys() - {1})
    if len(wanted) > 1:
        first, second = (f"{told[number].name} by {number}" for number in wanted[:2])
        raise BadRequest(
            f"The LoRAs want the reference shrunk differently: {first}, {second}. Use one of them."
        )
    return wanted[0] if wanted else 1


@contextmanager
def added(
    network: nn.Module, loras: Sequence[Lora], dtype: torch.dtype, device: torch.device
) -> Iterator[None]:
    """Add LoRAs to a network while the `with` lasts, their weights on a device and of a dtype.

    One of weight 0 adds nothing. Raises as `check`.
    """
    layers, places = linear_layers(network) if loras else {}, []
    shares: dict[str, list[dict[str, Tensor]]] = {}
    for lora in (one for one in loras if one.weight):
        for name, tensors in _read(lora, layers):
            here = {role: tensor.to(device, dtype) for role, tensor in tensors.items()}
            shares.setdefault(name, []).append(here)
    try:
        while shares:
            name, found = shares.popitem()
            parent, _, leaf = name.rpartition(".")
            modules = network.get_submodule(parent)._modules
            layer = modules[leaf]
            assert layer is not None
            places.append((modules, leaf, layer))
            modules[leaf] = _Extended(layer, _joined(found))
        yield
    finally:
        for modules, leaf, layer in reversed(places):
            modules[leaf] = layer


def _joined(shares: Sequence[Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """Return what several LoRAs add to a layer as one of all their ranks, which is quicker."""
    if len(shares) == 1:
        return shares[0]
    joins: dict[str, Callable[[list[Tensor]], Any]] = {
        "down": torch.cat,
        "up": partial(torch.cat, dim=1),
        "change": sum,
        "bias": sum,
    }
    rows = {role: [share[role] for share in shares if role in share] for role in joins}
    return {role: join(rows[role]) for role, join in joins.items() if rows[role]}


class _Extended(nn.Module):
    """A layer and what is added to its result: `up` · `down` of its input, `change` of it, `bias`.

    All are buffers, so that they travel with the layer where weights come and go.
    """

    down: Tensor | None
    up: Tensor | None
    change: Tensor | None
    bias: Tensor | None

    def __init__(self, layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.layer = layer
        for role in ("down", "up", "change", "bias"):
            self.register_buffer(role, tensors.get(role), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's result with the rest."""
        found: Tensor = self.layer(x)
        if self.down is not None and self.up is not None:
            _add(found, F.linear(x, self.down.to(x.dtype)), self.up)
        if self.change is not None:
            _add(found, x, self.change)
        if self.bias is not None:
            found += self.bias.to(found.dtype)
        return found


def _add(found: Tensor, x: Tensor, matrix: Tensor) -> None:
    """Add the product of `x` and a matrix to a result, in its place.

    The widest results are what decides a denoiser's peak, and reading them once more takes time.
    """
    rows = x.flatten(0, -2)
    found.view(-1, found.shape[-1]).addmm_(rows, matrix.to(x.dtype).t())


# Quantised layers are moved outside of inference mode, and LoRAs with them.
@torch.inference_mode(False)
def _read(lora: Lora, layers: Layers) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each layer with what a LoRA adds to it, its weight and scale already within `up`."""
    with _opened(lora.path) as file:
        peft = _peft(file, lora)
        for name, sketch in _sketch(file, lora.path, layers).items():
            got = {role: file.get_tensor(key) for role, key in sketch.keys.items()}
            layer: dict[str, Tensor] = {}
            if "down" in got:
                scale = lora.weight * _scale(name, got, peft)
                layer["down"], layer["up"] = got["down"], scale * got["up"].float()
                if "up_bias" in got:
                    layer["bias"] = scale * got["up_bias"].float()
            if "change" in got:
                layer["change"] = lora.weight * got["change"].float()
            if "bias" in got:
                layer["bias"] = lora.weight * got["bias"].float() + layer.get("bias", 0.0)
            yield name, layer


def _scale(name: str, got: Mapping[str, Tensor], peft: Mapping[str, Any]) -> float:
    """Return what a layer's product is multiplied by: alpha / rank, 1 where no alpha is told."""
    rank = len(got["down"])
    if "alpha" in got:
        return got["alpha"].item() / rank
    own = [
        alpha
        for pattern, alpha in (peft.get("alpha_pattern") or {}).items()
        if re.fullmatch(rf"(?:.*\.)?{pattern}", name)
    ]
    alpha: float = own[0] if own else peft.get("lora_alpha", rank)
    return alpha / (math.sqrt(rank) if peft.get("use_rslora") else rank)


def _peft(file: Any, lora: Lora) -> dict[str, Any]:
    """Return PEFT's settings: as diffusers writes them into a file, or as PEFT does beside it."""
    try:
        text = (file.metadata() or {}).get("lora_adapter_metadata")
        if text is None and lora.config is not None:
            text = lora.config.read_text("utf-8")
        table = json.loads(text or "{}")
        return {key.removeprefix("transformer."): value for key, value in table.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise BadRequest(
            f"What {lora.path.name} says of itself cannot be read ({error}). Choose another LoRA."
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Hold a LoRA's file open, mapped; raises `BadRequest` where it is none of safetensors."""
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise BadRequest(
            f"The LoRA {path} cannot be read ({error}). Choose a whole file of the safetensors "
            "format."
        ) from error


def _sketch(file: Any, path: Path, layers: Layers) -> dict[str, _Sketch]:
    """Return what a file has for each layer of a network, checked; raises `BadRequest`."""
    names: dict[str, str] = {}
    for name in layers:
        older = name
        for pattern, instead in _OLDER:
            older = re.sub(pattern, instead, older)
        names |= {older.replace(".", "_"): name, name.replace(".", "_"): name}
    found: dict[str, _Sketch] = {}
    left: list[str] = []
    for key in sorted(file.keys()):
        role, layer = _role(key, path)
        known = names.get(layer.replace(".", "_"))
        if known is not None:
            sketch = found.setdefault(known, _Sketch())
            sketch.keys[role] = key
            sketch.shapes[role] = tuple(file.get_slice(key).get_shape())
        elif role not in ("change", "bias"):
            raise _unfit(path, f"the model has no layer {layer}")
        elif bool(file.get_tensor(key).any()):
            left.append(key)
    for name, sketch in found.items():
        _check_shapes(path, layers, name, sketch)
    if not found:
        raise BadRequest(f"{path} holds no LoRA. Choose another file.")
    if left:
        log.warning("%s changes what is no matrix, which is left out: %s", path.name, left)
    return found


def _role(key: str, path: Path) -> tuple[str, str]:
    """Return the role of a key of a file, and the layer that it names."""
    for ending, role in _ROLES.items():
        match = re.fullmatch(rf"(.+)\.{ending}", key)
        if match:
            return role, _BEGINNINGS.sub("", match[1], count=1)
    kin = re.search(r"\b(dora_scale|lora_magnitude_vector|lokr|loha|hada|oft)", key)
    what = f"is of a kind ({kin[1]}) that this studio cannot add" if kin else "holds no LoRA"
    raise BadRequest(f"{path} {what}: it has {key}. Choose a file that holds a plain LoRA.")


def _check_shapes(path: Path, layers: Layers, name: str, sketch: _Sketch) -> None:
    """Raise `BadRequest` unless a layer's tensors belong together and to the layer."""
    inputs, outputs = layers[name]
    down, up = sketch.shapes.get("down"), sketch.shapes.get("up")
    if (down is None) != (up is None) or (down is None and {"alpha", "up_bias"} & set(sketch.keys)):
        raise _unfit(path, f"half of what belongs to {name} is missing")
    rank = down[0] if down else None
    if rank == 0:
        raise _unfit(path, f"it has rank 0 at {name}")
    wanted = {
        "down": (rank, inputs),
        "up": (outputs, rank),
        "up_bias": (outputs,),
        "change": (outputs, inputs),
        "bias": (outputs,),
    }
    for role, shape in sketch.shapes.items():
        if role in wanted and shape != wanted[role]:
            raise _unfit(path, f"{name} is of {inputs} × {outputs}, and {role} has shape {shape}")


def _unfit(path: Path, why: str) -> BadRequest:
    return BadRequest(
        f"The LoRA {path.name} does not fit the model: {why}. Choose one that was made for "
        "this model."
    )
