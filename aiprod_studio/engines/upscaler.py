"""The network that doubles the sides of LTX-2's latents, one file beside the model's folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aiprod_studio.errors import ModelUnavailable


@contextmanager
def load_upscaler(folder: Path, device: torch.device, dtype: torch.dtype) -> Iterator[Any]:
    """Hold the upscaler whose file is in a folder on the device while the `with` lasts.

    Its sizes are read off its tensors. Raises `ModelUnavailable` where there is none, or one that
    does not double.
    """
    from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel

    files = sorted(folder.glob("*spatial-upscaler-x2*.safetensors"))
    try:
        tensors = load_file(files[-1])
        with torch.device("meta"):
            network = LTX2LatentUpsamplerModel(**_sizes(tensors))
        network.load_state_dict(tensors, assign=True)
    except (IndexError, KeyError, OSError, RuntimeError, SafetensorError) as error:
        raise ModelUnavailable(
            f"{folder} holds no upscaler of latents that fits ({error}). Download it again, or "
            "render without a second stage."
        ) from error
    yield network.requires_grad_(False).eval().to(device, dtype)


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what an upscaler with these tensors is built with."""
    first = tensors["initial_conv.weight"]
    blocks = {name.split(".")[1] for name in tensors if name.startswith("res_blocks.")}
    return {
        "in_channels": first.shape[1],
        "mid_channels": first.shape[0],
        "num_blocks_per_stage": len(blocks),
        "dims": first.ndim - 2,
        "use_rational_resampler": "upsampler.conv.weight" in tensors,
    }
