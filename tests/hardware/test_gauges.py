"""The instruments, on work whose answer is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aiprod_studio.hardware.gauges import (
    allocator_peak,
    copy_rate,
    disk_rate,
    product_rate,
)

MB = 2**20


def work() -> torch.Tensor:
    """Take 12 MB at once and keep the last 4."""
    first, second = torch.ones(MB), torch.ones(MB)
    return first + second


def test_sees_what_the_allocator_held_and_holds() -> None:
    kept, peak, rest = allocator_peak("cpu", work)
    assert kept[0] == 2
    assert peak == pytest.approx(12 * MB, rel=0.01)
    assert rest == pytest.approx(4 * MB, rel=0.01)


def test_reads_a_new_file_and_takes_it_away(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    rate, cold = disk_rate(folder, 16 * MB)
    assert rate > 1e6
    assert isinstance(cold, bool)
    assert list(folder.iterdir()) == []


def test_products_reach_what_a_processor_can() -> None:
    assert 1e8 < product_rate("cpu", "float32", 0.0) < 1e14


@pytest.mark.gpu
def test_the_gpu_is_watched_too() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    _, peak, rest = allocator_peak("cuda", lambda: torch.ones(MB, device="cuda") + 1)
    assert (peak, rest) == (8 * MB, 4 * MB)
    assert copy_rate(pinned=True) > 1e9
    assert product_rate("cuda", "bfloat16", 0.1) > product_rate("cuda", "float32", 0.1)
