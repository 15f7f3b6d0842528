"""Files of tensors, written whole or not at all."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from aiprod_studio.media.files import replacing


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str] | None = None
) -> None:
    """Write tensors, and what is told about them, as safetensors; raises as `replacing` does."""
    with replacing(path) as temporary:
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        try:
            save_file(whole, temporary, dict(facts or {}))
        except SafetensorError as error:
            # It tells the system's reason in words only.
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error
