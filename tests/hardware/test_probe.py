"""The probe, on this machine and on the files that a container's limits live in."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import psutil
import pytest
import torch

from aiprod_studio.hardware.probe import (
    MULTIPROCESSOR_FLOPS,
    count_cores,
    count_ram,
    half_rate,
    list_weights,
    probe,
    with_room,
)
from aiprod_studio.settings import free_bytes


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


def test_room_that_came_since_counts_and_what_is_held_does_not() -> None:
    hardware = probe()
    tight = dataclasses.replace(hardware, ram_free_bytes=1, disk_free_bytes=1)
    assert with_room(tight).ram_free_bytes > 2**20
    assert with_room(tight).disk_free_bytes > 2**20
    much = dataclasses.replace(hardware, ram_free_bytes=2**60)
    assert with_room(much).ram_free_bytes == 2**60


def test_a_drive_that_is_not_there_has_no_room(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0
    assert free_bytes(_NoDrive("nowhere")) == 0


class _NoDrive(type(Path())):  # type: ignore[misc]
    """A path on a drive that is not there: none of its parents exists."""

    def exists(self) -> bool:
        return False


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
    if hardware.device == "cuda":
        assert hardware.half_flops >= hardware.flops


@pytest.mark.parametrize(
    ("capability", "processors", "clock", "sheet", "share"),
    [
        ((7, 0), 80, 1.53e9, 125e12, 0.7),
        ((8, 0), 108, 1.41e9, 312e12, 0.4),
        ((8, 9), 128, 2.52e9, 165e12, 0.7),
        ((9, 0), 132, 1.83e9, 989e12, 0.4),
        ((12, 0), 170, 2.41e9, 209e12, 0.7),
    ],
    ids=["V100", "A100", "RTX 4090", "H100", "RTX 5090"],
)
def test_a_share_of_the_data_sheets_rate_is_expected(
    capability: tuple[int, int], processors: int, clock: float, sheet: float, share: float
) -> None:
    expected = processors * clock * half_rate(capability)
    assert expected == pytest.approx(sheet * share, rel=0.02)
    assert expected > processors * MULTIPROCESSOR_FLOPS


def test_old_cards_have_no_kernels_for_fewer_bits() -> None:
    assert half_rate((6, 1)) == 0
    assert list_weights((7, 5)) == ()
    assert list_weights((8, 6)) == ("int8",)
    assert list_weights((8, 9))[:2] == ("float8", "int8")


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
