"""Machines that are not here: what a GPU of so much memory most likely is."""

from __future__ import annotations

import re

from aiprod_studio.errors import BadRequest
from aiprod_studio.types import Hardware

GB = 2**30
# Per memory in GB the card of NVIDIA's recent lines that has it: its name, multiprocessors, and
# 16-bit matrix products a second by its data sheet. Which card it really is, nobody knows.
CARDS = (
    (6, "RTX 4050", 20, 18e12),
    (8, "RTX 4060", 24, 30e12),
    (12, "RTX 4070", 46, 58e12),
    (16, "RTX 4080", 76, 97e12),
    (24, "RTX 4090", 128, 165e12),
    (32, "RTX 5090", 170, 209e12),
    (48, "RTX 6000 Ada", 142, 364e12),
    (80, "H100", 132, 989e12),
)
# What `probe` counts for a multiprocessor.
MULTIPROCESSOR_FLOPS = 128 * 2 * 1.5e9
# As `duration.HALF_RATIO` says of GeForce cards; the faster ones wait for memory more: assumption.
REACHED, REACHED_FROM_48 = 0.7, 0.4
DTYPES = ("float32", "bfloat16", "float16", "float8", "int8")
# Assumptions: what the desktop takes of the GPU, and which share of the RAM is free.
DESKTOP_BYTES = GB
FREE_RAM = 0.8
LEAST_RAM_GB = 32.0
CORES = 8
CORE_FLOPS = 5e10
DISK_BYTES = 10**12


def parse_gigabytes(text: str) -> float:
    """Return the number of "24 GB", "24gb" or "24"; raises `BadRequest` for anything else."""
    found = re.fullmatch(r"(\d{1,4}(?:\.\d+)?)\s*(?:gi?b)?", text.strip().lower())
    if not found or not float(found[1]):
        raise BadRequest(f"{text[:40]!r} is no memory size; give gigabytes, such as '24 GB'.")
    return float(found[1])


def imagine(gpu_gb: float, ram_gb: float | None = None) -> Hardware:
    """Return a machine with a GPU of `gpu_gb` GB (0: none) and `ram_gb` GB of RAM.

    Where no RAM is given it has twice the GPU's memory, and 32 GB at the least.
    """
    ram = ram_gb or max(LEAST_RAM_GB, 2 * gpu_gb)
    ram_bytes, ram_free = int(ram * GB), int(ram * GB * FREE_RAM)
    if not gpu_gb:
        return Hardware(
            device="cpu",
            name=f"an imagined CPU with {ram:g} GB",
            total_bytes=ram_bytes,
            free_bytes=ram_free,
            ram_bytes=ram_bytes,
            ram_free_bytes=ram_free,
            cores=CORES,
            disk_free_bytes=DISK_BYTES,
            dtypes=("float32",),
            because=f"on an imagined machine without a GPU: {CORES} cores, {ram:g} GB of RAM",
            flops=CORES * CORE_FLOPS,
        )
    _, card, processors, products = max(row for row in CARDS if row[0] <= max(gpu_gb, CARDS[0][0]))
    reached = REACHED if gpu_gb < 48 else REACHED_FROM_48
    return Hardware(
        device="cuda",
        name=f"an imagined GPU of {gpu_gb:g} GB",
        total_bytes=int(gpu_gb * GB),
        free_bytes=max(0, int(gpu_gb * GB) - DESKTOP_BYTES),
        ram_bytes=ram_bytes,
        ram_free_bytes=ram_free,
        cores=CORES,
        disk_free_bytes=DISK_BYTES,
        dtypes=DTYPES,
        because=f"on an imagined GPU of {gpu_gb:g} GB with {ram:g} GB of RAM: taken as a recent "
        f"NVIDIA card such as the {card}, compute capability 8.9 or more, with bfloat16, float8 "
        "and int8; no kernels for int4 assumed",
        flops=processors * MULTIPROCESSOR_FLOPS,
        half_flops=products * reached,
    )
