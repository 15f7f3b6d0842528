"""LTX-Video's checkpoints in one file, unpacked once to a folder in diffusers' layout.

Such a file holds the denoiser and the VAE under the names of its authors; text encoder, tokenizer
and scheduler lie in folders beside it, which the new folder refers to.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from diffusers.loaders.single_file_utils import (
    convert_ltx_transformer_checkpoint_to_diffusers,
    convert_ltx_vae_checkpoint_to_diffusers,
)
from safetensors import SafetensorError
from safetensors.torch import load_file

from aiprod_studio.engines.hub.copies import converted_folder
from aiprod_studio.engines.tensors import write_tensors
from aiprod_studio.errors import DoesNotFit, ModelUnavailable

INDEX = {
    "_class_name": "LTXPipeline",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "T5Tokenizer"],
    "transformer": ["diffusers", "LTXVideoTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLLTXVideo"],
}
_BESIDE = ("scheduler", "text_encoder", "tokenizer")
# The VAE last, as the other takes all names that are not the VAE's.
_NETWORKS: dict[str, tuple[Any, Any]] = {
    "transformer": (LTXVideoTransformer3DModel, convert_ltx_transformer_checkpoint_to_diffusers),
    "vae": (AutoencoderKLLTXVideo, convert_ltx_vae_checkpoint_to_diffusers),
}


def unpack(folder: Path, sizes: Mapping[str, Mapping[str, Any]]) -> Path:
    """Return a folder in diffusers' layout: `folder`, or what its one file is unpacked to.

    `sizes` is what each network is built with where it is not diffusers' usual. Raises
    `ModelUnavailable` for a file with other networks inside, `DoesNotFit` when the disk is full.
    """
    files = sorted(folder.glob("ltxv-*.safetensors"))
    if not files:
        return folder
    # Beside what else is made of the same repository: it goes when that is removed.
    target = converted_folder(folder.parent.parent.name) / f"{files[0].stem}-{folder.name[:12]}"
    if target.exists() and not all((target / name).exists() for name in _BESIDE):
        shutil.rmtree(target, ignore_errors=True)  # what it refers to has been moved
    if not target.exists():
        beginning = target.with_name(f"{target.name}.part")
        shutil.rmtree(beginning, ignore_errors=True)
        try:
            _write(files[0], beginning, sizes)
            for name in _BESIDE:
                _refer(beginning / name, folder / name)
            beginning.rename(target)
        except OSError as error:
            if target.exists():  # Another process was faster.
                return target
            raise DoesNotFit(
                f"{files[0].name} cannot be unpacked to {target.parent} ({error.strerror}). Free "
                f"{files[0].stat().st_size / 1e9:.1f} GB there."
            ) from error
        finally:
            shutil.rmtree(beginning, ignore_errors=True)
    return target


def _write(file: Path, folder: Path, sizes: Mapping[str, Mapping[str, Any]]) -> None:
    """Write both networks of a file, each with its configuration, and the index."""
    try:
        tensors = load_file(file)
        parts = {name: rename(tensors) for name, (_, rename) in _NETWORKS.items()}
    except (KeyError, SafetensorError) as error:
        raise _foreign(file) from error
    for name, (kind, _) in _NETWORKS.items():
        with torch.device("meta"):
            network = kind(**sizes.get(name, {}))
        wanted = {key: value.shape for key, value in network.state_dict().items()}
        if {key: value.shape for key, value in parts[name].items()} != wanted:
            raise _foreign(file)
        network.save_config(folder / name)
        write_tensors(folder / name / "diffusion_pytorch_model.safetensors", parts[name])
    (folder / "model_index.json").write_text(json.dumps(INDEX), encoding="utf-8")


def _foreign(file: Path) -> ModelUnavailable:
    return ModelUnavailable(
        f"{file.name} does not hold the networks that this studio knows. Download another variant: "
        "'aiprod-studio models list' shows them."
    )


def _refer(link: Path, folder: Path) -> None:
    """Make a folder's files appear at another place without their bytes, where that can be."""
    try:
        link.symlink_to(folder.resolve(), target_is_directory=True)
    except OSError:  # Windows lets few people do that.
        shutil.copytree(folder, link)
