"""What machine this is: its device, memory, cores and disk, measured now."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from aiprod_studio.hardware.plan import Hardware
from aiprod_studio.settings import settings

CGROUP = Path("/sys/fs/cgroup")
# Measured with float32 matrix products on one core of a data-centre CPU.
CORE_FLOPS = 5e10
# A CUDA multiprocessor does 128 multiply-adds a clock, at about 1.5 GHz.
MULTIPROCESSOR_FLOPS = 128 * 2 * 1.5e9
APPLE_FLOPS = 3e12


@dataclass(frozen=True)
class Accelerator:
    """A GPU that PyTorch can use; `total_bytes` and `free_bytes` are its own memory."""

    device: str
    name: str
    total_bytes: int
    free_bytes: int
    dtypes: tuple[str, ...]
    flops: float


def probe() -> Hardware:
    """Return this machine as it is now; a GPU that cannot be asked means CPU, with the reason."""
    ram, free = count_ram(CGROUP)
    cores = count_cores(CGROUP)
    try:
        found = _query_gpu(ram, free)
        because = f"on {found.name}" if found else "on the CPU, as PyTorch sees no GPU"
    except (RuntimeError, AssertionError, ImportError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        found, because = None, f"on the CPU, as asking the GPU failed ({reason})"
    if found is None:
        found = Accelerator("cpu", _name_cpu(), ram, free, _cpu_dtypes(), cores * CORE_FLOPS)
    return Hardware(
        **dataclasses.asdict(found),
        ram_bytes=ram,
        ram_free_bytes=free,
        cores=cores,
        disk_free_bytes=_free_disk(settings().outputs),
        because=because,
    )


def count_cores(cgroup: Path) -> int:
    """Return the cores this process may use: its affinity, cut by the quota of `cgroup`."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, math.ceil(int(quota) / int(period))))


def count_ram(cgroup: Path) -> tuple[int, int]:
    """Return the RAM in bytes that this process may use, and how much of it is free."""
    memory = psutil.virtual_memory()
    total, free = int(memory.total), int(memory.available)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):
        return total, free
    return min(total, limit), max(0, min(free, limit - used))


def _query_gpu(ram: int, free: int) -> Accelerator | None:
    """Return the GPU that PyTorch can use, or None; raises what the driver raises."""
    import torch

    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        gpu_free, total = torch.cuda.mem_get_info(0)
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        half = ("bfloat16", "float16") if bf16 else ("float16",)
        flops = facts.multi_processor_count * MULTIPROCESSOR_FLOPS
        return Accelerator("cuda", facts.name, total, gpu_free, ("float32", *half), flops)
    if torch.backends.mps.is_available():
        # Apple's GPU shares the RAM; beyond this share the system begins to swap.
        total = int(torch.mps.recommended_max_memory())
        dtypes = ("float32", "float16")
        return Accelerator(
            "mps", "Apple GPU", min(total, ram), min(total, free), dtypes, APPLE_FLOPS
        )
    return None


def _cpu_dtypes() -> tuple[str, ...]:
    """Return the precisions that this CPU computes fast: bfloat16 only with its own arithmetic."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ("float32",)
    return (
        ("float32", "bfloat16") if "amx_bf16" in flags or "avx512_bf16" in flags else ("float32",)
    )


def _name_cpu() -> str:
    """Return the CPU's name as its maker gives it, or else its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "CPU"


def _free_disk(folder: Path) -> int:
    """Return the free bytes of the disk on which `folder` lies or will lie."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
