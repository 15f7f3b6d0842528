"""What machine this is: its device, memory, cores and disk, measured now."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from aiprod_studio.hardware.plan import Hardware
from aiprod_studio.sentences import Said
from aiprod_studio.settings import free_bytes, settings

CGROUP = Path("/sys/fs/cgroup")
# Measured with float32 matrix products on one core of a data-centre CPU.
CORE_FLOPS = 5e10
# A CUDA multiprocessor does 128 multiply-adds a clock, at about 1.5 GHz.
MULTIPROCESSOR_FLOPS = 128 * 2 * 1.5e9
APPLE_FLOPS = 3e12
# Operations of 16-bit matrix products that a CUDA multiprocessor does a clock, summed in 32 bits,
# and the share of them that a model reaches, by the first compute capability that has it. NVIDIA's
# data sheets; the shares are assumptions, as in `imagined`: the faster ones wait for memory more.
MATRIX_UNITS = (
    ((7, 0), 1024, 0.7),
    ((7, 5), 512, 0.7),
    ((8, 0), 2048, 0.4),
    ((8, 6), 512, 0.7),
    ((9, 0), 4096, 0.4),
    ((10, 0), 8192, 0.4),
    ((12, 0), 512, 0.7),
)
# The compute capabilities from which on weights in fewer bits have kernels that are fast.
WEIGHTS_FROM = {"float8": (8, 9), "int8": (8, 0), "int4": (8, 0)}
# The packages without which torchao has no such kernels.
WEIGHTS_NEED = {"float8": ("torchao",), "int8": ("torchao",), "int4": ("torchao", "mslk")}


@dataclass(frozen=True)
class Accelerator:
    """A GPU that PyTorch can use; `total_bytes` and `free_bytes` are its own memory."""

    device: str
    name: str
    total_bytes: int
    free_bytes: int
    dtypes: tuple[str, ...]
    flops: float
    half_flops: float = 0.0


def probe() -> Hardware:
    """Return this machine as it is now; a GPU that cannot be asked means CPU, with the reason."""
    ram, free = count_ram(CGROUP)
    cores = count_cores(CGROUP)
    because: str
    try:
        found = _query_gpu(ram, free)
        because = (
            Said("said.gpu", "on {device}", device=found.name)
            if found
            else Said("said.cpu", "on the CPU, as PyTorch sees no GPU")
        )
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
        disk_free_bytes=free_bytes(settings().outputs),
        because=because,
    )


def with_room(hardware: Hardware) -> Hardware:
    """Return the machine with the RAM and the disk that are free by now.

    Of RAM never less than was free when it was probed: what is missing since may be weights that
    are held for the next clip. GPU memory stays as it was, for the same reason.
    """
    free = max(hardware.ram_free_bytes, count_ram(CGROUP)[1])
    disk = free_bytes(settings().outputs)
    changes = {"ram_free_bytes": free, "disk_free_bytes": disk}
    if hardware.device == "cpu":
        changes["free_bytes"] = free
    return dataclasses.replace(hardware, **changes)  # type: ignore[arg-type]


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


def half_rate(capability: tuple[int, int]) -> float:
    """Return the operations of 16-bit matrix products that a model gets of a multiprocessor a
    clock, by its compute capability; 0 where it has no matrix units.
    """
    rates = [rate * share for first, rate, share in MATRIX_UNITS if first <= capability]
    return rates[-1] if rates else 0.0


def list_weights(capability: tuple[int, int]) -> tuple[str, ...]:
    """Return the precisions of weights below 16 bits that an NVIDIA card has kernels for here."""
    return tuple(
        name
        for name, first in WEIGHTS_FROM.items()
        if capability >= first and all(map(find_spec, WEIGHTS_NEED[name]))
    )


def _query_gpu(ram: int, free: int) -> Accelerator | None:
    """Return the GPU that PyTorch can use, or None; raises what the driver raises."""
    import torch

    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        gpu_free, total = torch.cuda.mem_get_info(0)
        capability = (facts.major, facts.minor)
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        half = ("bfloat16", "float16") if bf16 else ("float16",)
        # AMD's cards, which PyTorch calls CUDA too, count otherwise.
        weights = list_weights(capability) if torch.version.hip is None else ()
        rate = half_rate(capability) if torch.version.hip is None else 0.0
        return Accelerator(
            device="cuda",
            name=facts.name,
            total_bytes=total,
            free_bytes=gpu_free,
            dtypes=("float32", *half, *weights),
            flops=facts.multi_processor_count * MULTIPROCESSOR_FLOPS,
            # The clock comes in kHz.
            half_flops=facts.multi_processor_count * facts.clock_rate * 1e3 * rate,
        )
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
