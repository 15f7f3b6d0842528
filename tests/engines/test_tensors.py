from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from aiprod_studio.engines.tensors import write_tensors
from aiprod_studio.errors import MediaError

_FULL = """
import resource, signal, sys, torch
from pathlib import Path
from aiprod_studio.engines.tensors import write_tensors
from aiprod_studio.errors import DoesNotFit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
write_tensors(path, {"a": torch.ones(9)})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
try:
    write_tensors(path, {"a": torch.zeros(9_000)})
except DoesNotFit as error:
    print(error)
"""


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.safetensors"
    turned = torch.arange(6.0).view(2, 3).T
    write_tensors(path, {"a": turned}, {"said": "çà"})
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"said": "çà"}
        assert torch.equal(file.get_tensor("a"), turned)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file size limits")
def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(path)], capture_output=True, text=True, check=False
    )
    assert "The disk is full" in done.stdout, done.stderr
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with safe_open(path, "pt") as file:
        assert len(file.get_tensor("a")) == 9


def test_a_folder_in_the_way_is_said(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is a folder"):
        write_tensors(tmp_path, {"a": torch.ones(1)})
