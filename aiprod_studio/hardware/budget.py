"""How much of this machine a plan may take: free memory, less what others need."""

from __future__ import annotations

import dataclasses

from aiprod_studio.hardware.memory import basis_of, pinned_bytes
from aiprod_studio.types import Hardware, Plan

# The rest is what allocators lose between blocks and what other programs take meanwhile.
MEMORY_SHARE = 0.9
# Assumption: what a browser may still take of the GPU for this page and its player.
BROWSER_BYTES = 256 * 2**20
# Windows lends a GPU at most half of the RAM, and any system slows down when more is pinned.
PINNED_SHARE = 0.5


def device_limit(hardware: Hardware) -> int:
    """Return the bytes that a plan may take of the device."""
    limit = int(hardware.free_bytes * MEMORY_SHARE)
    return max(0, limit - BROWSER_BYTES) if hardware.device == "cuda" else limit


def ram_limit(hardware: Hardware) -> int:
    """Return the bytes that a plan may take of the RAM."""
    return int(hardware.ram_free_bytes * MEMORY_SHARE)


def pinned_limit(hardware: Hardware) -> int:
    """Return the bytes of RAM that a plan may pin."""
    return int(min(hardware.ram_bytes * PINNED_SHARE, ram_limit(hardware)))


def pin(plan: Plan) -> Plan:
    """Return `plan` with the RAM pinned from which its denoiser streams, if that may be."""
    # The other parts are needed once a clip, too seldom to pay for it.
    pinned = dataclasses.replace(plan, pinned=plan.placement["denoise"] == "group")
    if pinned_bytes(pinned) <= pinned_limit(basis_of(plan).hardware):
        return pinned
    return dataclasses.replace(plan, pinned=False)


def fits(plan: Plan) -> bool:
    """Say whether a plan stays within all its budgets by its own prediction."""
    hardware = basis_of(plan).hardware
    return (
        max(plan.peak_bytes.values()) <= device_limit(hardware)
        and max(plan.ram_bytes.values()) <= ram_limit(hardware)
        and pinned_bytes(plan) <= pinned_limit(hardware)
    )
