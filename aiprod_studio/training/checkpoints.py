"""Checkpoints: a run's state in one file, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from aiprod_studio.errors import ModelUnavailable
from aiprod_studio.media.files import replacing


def read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """Return a checkpoint; raises `ModelUnavailable` for a damaged file."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, UnpicklingError) as error:
        raise ModelUnavailable(
            f"The checkpoint {path} cannot be read. Delete it to begin again."
        ) from error
    return state


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint under another name first, so that a kill never leaves half of one."""
    with replacing(path) as temporary:
        torch.save(state, temporary)
