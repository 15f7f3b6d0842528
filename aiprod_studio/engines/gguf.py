"""Denoisers from GGUF files, whose matrices stay in blocks of fewer bits until they work.

Each is unpacked for its own product and dropped again, so that any device can run them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from aiprod_studio.errors import ModelUnavailable


def find_gguf(folder: Path) -> Path:
    """Return the one GGUF file in a folder; raises `ModelUnavailable` where there is none."""
    files = sorted(folder.glob("*.gguf"))
    if len(files) != 1:
        raise ModelUnavailable(
            f"{folder} has {len(files)} GGUF files instead of one. Download the model again: "
            "'aiprod-studio models --help'."
        )
    return files[0]


def load_gguf(kind: Any, file: Path, config: Path, dtype: torch.dtype) -> nn.Module:
    """Return a network of diffusers' class `kind` with the weights of a file, mapped from it.

    `config` is the folder of its configuration, `dtype` that of the arithmetic. Raises
    `ModelUnavailable` for a file that is damaged or of another network.
    """
    from diffusers import GGUFQuantizationConfig

    try:
        network: nn.Module = kind.from_single_file(
            _read(file),
            config=str(config),
            quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
            dtype=dtype,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError, IndexError, NotImplementedError) as error:
        # Weights that the file has not cannot be moved, which is the last of these.
        why = "weights are missing" if isinstance(error, NotImplementedError) else error
        raise ModelUnavailable(
            f"{file} cannot be loaded ({why}). Check the files with 'aiprod-studio models verify' "
            "and repair them."
        ) from error
    return network


def _read(file: Path) -> dict[str, torch.Tensor]:
    """Return a file's tensors, mapped; diffusers' own reading would copy all of them to RAM."""
    from diffusers.quantizers.gguf.utils import SUPPORTED_GGUF_QUANT_TYPES, GGUFParameter
    from gguf import GGMLQuantizationType, GGUFReader

    plain = (GGMLQuantizationType.F32, GGMLQuantizationType.F16)
    found = {}
    # "c" is private to this process: torch wants to be allowed to write, and nobody does.
    for one in GGUFReader(file, "c").tensors:
        tensor = torch.from_numpy(one.data)
        if one.tensor_type in plain:
            found[one.name] = tensor
        elif one.tensor_type in SUPPORTED_GGUF_QUANT_TYPES:
            found[one.name] = GGUFParameter(tensor, quant_type=one.tensor_type)
        else:
            raise ValueError(f"{one.name} is of the kind {one.tensor_type.name}")
    return found
