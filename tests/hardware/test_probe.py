"""The probe, on this machine and on the files that a container's limits live in."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
import torch

from aiprod_studio.hardware.probe import count_cores, count_ram, probe


def test_sees_this_machine() -> None:
    hardware = probe()
    assert hardware.device in ("cuda", "mps", "cpu")
    assert hardware.name
    assert 0 < hardware.free_bytes <= hardware.total_bytes
    assert 0 < hardware.ram_free_bytes <= hardware.ram_bytes <= psutil.virtual_memory().total
    assert 1 <= hardware.cores <= (os.cpu_count() or 1)
    assert hardware.disk_free_bytes > 0
    assert hardware.dtypes[0] == "float32"
    assert hardware.flops > 0
    assert hardware.because.startswith("on ")


def test_falls_back_to_the_cpu_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bool:
        raise RuntimeError("the driver is broken\nat line 3")

    # No test machine has a broken driver.
    monkeypatch.setattr(torch.cuda, "is_available", fail)
    hardware = probe()
    assert hardware.device == "cpu"
    assert hardware.because == "on the CPU, as asking the GPU failed (the driver is broken)"


@pytest.mark.gpu
def test_sees_the_gpu() -> None:
    hardware = probe()
    assert hardware.device in ("cuda", "mps")
    assert len(hardware.dtypes) > 1


def test_counts_cores_within_the_quota(tmp_path: Path) -> None:
    free = count_cores(tmp_path)
    assert free >= 1
    for text, expected in (("max 100000", free), ("50000 100000", 1), ("9900000 100000", free)):
        (tmp_path / "cpu.max").write_text(text + "\n")
        assert count_cores(tmp_path) == expected


def test_counts_ram_within_the_limit(tmp_path: Path) -> None:
    total, _ = count_ram(tmp_path)
    assert total == psutil.virtual_memory().total
    (tmp_path / "memory.current").write_text("1000000\n")
    (tmp_path / "memory.max").write_text("3000000\n")
    assert count_ram(tmp_path) == (3_000_000, 2_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert count_ram(tmp_path)[0] == total
