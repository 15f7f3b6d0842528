"""A family's networks in one safetensors file, with their sizes and licence inside."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from aiprod_studio.engines.tensors import write_tensors
from aiprod_studio.errors import ModelUnavailable
from aiprod_studio.models.audio_vae import AudioVAE, AudioVAEConfig
from aiprod_studio.models.backbone import Backbone, BackboneConfig
from aiprod_studio.models.text_encoder import TextEncoder, TextEncoderConfig
from aiprod_studio.models.upscaler import Upscaler, UpscalerConfig
from aiprod_studio.models.video_vae import VideoVAE, VideoVAEConfig

FORMAT = "aiprod-v2"
LICENCE = "Apache-2.0"
_SCALE = ".scale_of_rows"
_EIGHT_BIT = ("backbone", "text_encoder")
_KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "backbone": (Backbone, BackboneConfig),
    "video_vae": (VideoVAE, VideoVAEConfig),
    "audio_vae": (AudioVAE, AudioVAEConfig),
    "text_encoder": (TextEncoder, TextEncoderConfig),
    "upscaler": (Upscaler, UpscalerConfig),
}


@dataclass(frozen=True)
class Networks:
    """The networks of the family, in evaluation mode; a bundle may be without the upscaler."""

    backbone: Backbone
    video_vae: VideoVAE
    audio_vae: AudioVAE
    text_encoder: TextEncoder
    upscaler: Upscaler | None = None


def save_bundle(path: Path, networks: Networks, parts: Sequence[str] = tuple(_KINDS)) -> None:
    """Write the networks, or some `parts` of them, small: weight matrices of `_EIGHT_BIT` parts as
    int8 with a scale per row, all else as 16-bit floats; raises as `write_tensors` does.
    """
    tensors = {}
    configs = {}
    for part in parts:
        network: nn.Module | None = getattr(networks, part)
        if network is None:
            continue
        configs[part] = dataclasses.asdict(network.config)  # type: ignore[call-overload]
        for name, value in network.state_dict().items():
            if part in _EIGHT_BIT and value.ndim > 1:
                scale = value.flatten(1).abs().amax(dim=1).clamp(min=1e-8) / 127
                rows = value / scale.view(-1, *[1] * (value.ndim - 1))
                tensors[f"{part}.{name}"] = rows.round().to(torch.int8)
                tensors[f"{part}.{name}{_SCALE}"] = scale
            else:
                tensors[f"{part}.{name}"] = value.half()
    config = json.dumps(configs, ensure_ascii=False)
    header = {"format": FORMAT, "licence": LICENCE, "config": config}
    write_tensors(path, tensors, header)


def load_bundle(path: Path, device: str = "cpu") -> Networks:
    """Read a bundle as float32 networks on `device`; `ModelUnavailable` when it is not one.

    A part in a file of its own beside it, `<bundle>.<part>.safetensors`, stands in for its own: so
    one network can be replaced without all of them.
    """
    files = {part: path.with_suffix(f".{part}.safetensors") for part in _KINDS}
    alone = {part for part, file in files.items() if file.exists()}
    networks = _load_file(path, device, set(_KINDS) - alone)
    for part in alone:
        networks |= _load_file(files[part], device, {part})
    return Networks(**networks)


def _load_file(path: Path, device: str, wanted: set[str]) -> dict[str, Any]:
    """Return the wanted networks in a file by name, each read and widened by itself."""
    try:
        with safe_open(path, "pt", device=device) as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise ModelUnavailable(
                    f"{path.name} holds no {FORMAT} networks. Choose a file made by this studio."
                )
            configs = json.loads(header["config"])
            parts = wanted & configs.keys()
            return {part: _build(part, configs[part], file) for part in parts}
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ModelUnavailable(
            f"The weights in {path} cannot be read ({error}). Install the studio again, or choose "
            "another engine."
        ) from error


def _build(part: str, values: dict[str, Any], file: Any) -> Any:
    """Build one network without allocating it twice and give it its weights."""
    kind, config_kind = _KINDS[part]
    frozen = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    with torch.device("meta"):
        network = kind(config_kind(**frozen))
    own = {name: _read(file, f"{part}.{name}") for name in network.state_dict()}
    network.load_state_dict(own, assign=True)
    return network.requires_grad_(False).eval()


def _read(file: Any, name: str) -> torch.Tensor:
    """Return a stored tensor as float32, int8 rows multiplied by their scales."""
    stored: torch.Tensor = file.get_tensor(name)
    if stored.dtype != torch.int8:
        return stored.float()
    scale: torch.Tensor = file.get_tensor(name + _SCALE)
    return stored.float() * scale.view(-1, *[1] * (stored.ndim - 1))
