"""Instruments: what this machine's arithmetic, disk and copies reach, and what takes how much.

What needs torch imports it inside; nothing here runs but when it is called.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")

# The sides of the matrices: those of a large model's layers, and of a small one's on a processor.
SIDES = {"cpu": 1536, "cuda": 8192, "mps": 4096}
BLOCK_BYTES = 8 * 2**20
COPY_BYTES = 512 * 2**20
REPEATS = 4


def product_rate(device: str, precision: str, seconds: float) -> float:
    """Return the operations a second of square matrix products, the best of what `seconds` hold."""
    import torch

    side, kind = SIDES[device], getattr(torch, precision)
    left, right = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        wait(device)
        began = time.perf_counter()
        left @ right
        wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def disk_rate(folder: Path, size: int) -> tuple[float, bool]:
    """Return the bytes a second of reading a new file in `folder`, and whether it was cold.

    It is read in order, in blocks of 8 MB; cold says that the system was asked to forget what it
    kept of it. Raises `OSError` when the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".calibrate-", delete=False) as file:
        path = Path(file.name)
        try:
            # Some disks and file systems compress, so that zeros would tell nothing.
            for _ in range(size // BLOCK_BYTES):
                file.write(os.urandom(BLOCK_BYTES))
            file.flush()
            os.fsync(file.fileno())
            file.close()
            return _read_rate(path)
        finally:
            file.close()
            path.unlink()


def _read_rate(path: Path) -> tuple[float, bool]:
    """Return the bytes a second of reading a file once, and whether its cache was dropped."""
    cold, block = hasattr(os, "posix_fadvise"), bytearray(BLOCK_BYTES)
    with path.open("rb", buffering=0) as file:
        if cold:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        count, began = 0, time.perf_counter()
        while read := file.readinto(block):
            count += read
        return count / (time.perf_counter() - began), cold


def copy_rate(pinned: bool) -> float:
    """Return the bytes a second of copying RAM, pinned or not, to the CUDA device."""
    import torch

    source = torch.ones(COPY_BYTES, dtype=torch.uint8, pin_memory=pinned)
    target = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    best = float("inf")
    for _ in range(REPEATS):
        wait("cuda")
        began = time.perf_counter()
        target.copy_(source, non_blocking=pinned)
        wait("cuda")
        best = min(best, time.perf_counter() - began)
    return COPY_BYTES / best


def running_weights(device: str, precision: str) -> tuple[str, ...]:
    """Return the precisions of weights below 16 bits that torchao runs on the device, by trying.

    Importing torchao takes seconds, so that this is for who has them.
    """
    import torch
    from torchao.quantization import (
        Float8WeightOnlyConfig,
        Int4WeightOnlyConfig,
        Int8WeightOnlyConfig,
        quantize_,
    )

    configs = {
        "float8": Float8WeightOnlyConfig,
        "int8": lambda: Int8WeightOnlyConfig(version=2),
        "int4": Int4WeightOnlyConfig,
    }
    kind, found = getattr(torch, precision), []
    for name, config in configs.items():
        layer = torch.nn.Sequential(torch.nn.Linear(256, 256, bias=False)).to(device, kind)
        x = torch.ones(4, 256, device=device, dtype=kind)
        expected = layer(x)
        try:
            quantize_(layer, config())
            close = torch.allclose(layer(x), expected, rtol=0.1, atol=0.3)
        except (ImportError, RuntimeError, NotImplementedError, AssertionError, ValueError):
            continue
        if close:
            found.append(name)
    return tuple(found)


def allocator_peak(device: str, work: Callable[[], Result]) -> tuple[Result, int, int]:
    """Return what `work` does, the bytes that it allocated at most, and those that it keeps.

    Both count from what was allocated before. On a CPU the allocator is watched by the profiler,
    which costs time: nothing is timed here.
    """
    import torch

    if device != "cuda":
        return _profiled_peak(work)
    wait(device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = work()
    wait(device)
    peak = torch.cuda.max_memory_allocated() - before
    return result, peak, torch.cuda.memory_allocated() - before


def _profiled_peak(work: Callable[[], Result]) -> tuple[Result, int, int]:
    """Return what `work` does, and peak and rest of the CPU allocator's bytes."""
    # Else the profiler writes a line to stderr whenever it starts and stops.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        result = work()
    now = peak = 0
    for event in _allocations(watched):
        now += event
        peak = max(peak, now)
    return result, peak, now


def _allocations(watched: torch.profiler.profile) -> list[int]:
    """Return the bytes of every allocation, negative where memory is freed, in order of time."""
    profiler: Any = watched.profiler
    found = profiler.kineto_results.events()
    events = [event for event in found if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


def wait(device: str) -> None:
    """Wait until the device has done all that it was asked to."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()
