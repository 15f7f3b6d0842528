"""Which build of PyTorch suits this machine, asked of its driver before anything is installed.

The launcher imports this with whatever Python it was started by: standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aiprod_studio.errors import StudioError

TORCH_INDEX = "https://download.pytorch.org/whl/"
if TYPE_CHECKING:
    # Pythons that are too old must still get far enough to say so.
    Version = tuple[int, ...]


class CudaBuild(NamedTuple):
    """A CUDA build of the pinned PyTorch: the drivers and the compute capabilities it runs on."""

    name: str
    linux: Version
    windows: Version
    oldest: Version
    newest: Version


class Gpu(NamedTuple):
    """What the system says of its GPU; `note` is for people."""

    vendor: str = ""
    driver: Version = ()
    capability: Version = ()
    note: str = "no GPU that PyTorch can use was found"


class Choice(NamedTuple):
    """Which PyTorch to install: its kind, the package index to add (none: pip's own) and why."""

    build: str
    source: str
    reason: str


# PyTorch 2.13's support matrix, best first; any driver since the first of a CUDA major version
# runs all of it. The first build is also pip's default on Linux.
CUDA_BUILDS = (
    CudaBuild("cu130", linux=(580,), windows=(580,), oldest=(7, 5), newest=(99,)),
    CudaBuild("cu126", linux=(525, 60), windows=(528, 33), oldest=(5, 0), newest=(9, 99)),
)
ROCM_BUILD = "rocm7.2"
ROCM_CARDS = r"gfx(900|906|908|90a|942|950|1030|1100|1101|1102|1150|1151|1200|1201)"
# Megabytes to download and on disk. What only pip knows ("any") is as "cuda" at most.
TORCH_MB = {"cpu": (200, 700), "mac": (110, 400), "cuda": (3000, 6000), "rocm": (5000, 16000)}
REST_MB = (200, 700)


def parse_nvidia_smi(text: str) -> Gpu:
    """Return the newest card in nvidia-smi's "driver, capability" lines."""
    rows = re.findall(r"^\s*(\d+(?:\.\d+)+)\s*,\s*(\d+)\.(\d+)\s*$", text, re.MULTILINE)
    if not rows:
        return Gpu(note="nvidia-smi names no usable card")
    driver, major, minor = max(rows, key=lambda row: (int(row[1]), int(row[2])))
    note = f"NVIDIA driver {driver}, compute capability {major}.{minor}"
    return Gpu("nvidia", tuple(map(int, driver.split("."))), (int(major), int(minor)), note)


def query_nvidia(system: str) -> Gpu:
    """Ask nvidia-smi for driver and compute capability; a query that fails means no GPU."""
    usual = r"C:\Windows\System32" if system == "Windows" else "/usr/lib/wsl/lib"
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), usual])
    program = shutil.which("nvidia-smi", path=path)
    if program is None:
        return Gpu()
    command = [program, "--query-gpu=driver_version,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=8, check=True)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Gpu(note=f"nvidia-smi failed ({type(error).__name__})")
    return parse_nvidia_smi(done.stdout)


def query_amd(sys_class: Path) -> Gpu:
    """Read AMD's cards, as far as they have a compute driver, from Linux's `sys_class`."""
    cards = []
    for properties in sorted(sys_class.glob("kfd/kfd/topology/nodes/*/properties")):
        found = re.search(r"^gfx_target_version (\d+)", properties.read_text(), re.MULTILINE)
        if found and int(found[1]):
            major, rest = divmod(int(found[1]), 10000)
            cards.append(f"gfx{major}{rest // 100}{rest % 100:x}")
    for card in cards:
        if re.fullmatch(ROCM_CARDS, card):
            return Gpu("amd", note=f"AMD {card}")
    return Gpu(note=f"PyTorch has no ROCm build for AMD {', '.join(cards)}") if cards else Gpu()


def query_gpu(system: str) -> Gpu:
    """Return this machine's GPU; a failing query means none, and its note says so."""
    gpu = query_nvidia(system)
    if gpu != Gpu() or system != "Linux":
        return gpu
    try:
        return query_amd(Path("/sys/class"))
    except OSError as error:
        return Gpu(note=f"the query for AMD cards failed ({error.strerror})")


def choose_cuda(system: str, gpu: Gpu) -> Choice:
    """Return the best CUDA build that driver and card both run, else the CPU build."""
    cpu = TORCH_INDEX + "cpu"
    fitting = [b for b in CUDA_BUILDS if b.oldest <= gpu.capability <= b.newest]
    if not fitting:
        return Choice("cpu", cpu, f"{gpu.note}: too old a card for PyTorch, so the CPU build")
    for build in fitting:
        if gpu.driver >= (build.linux if system == "Linux" else build.windows):
            if system == "Linux" and build is CUDA_BUILDS[0]:
                return Choice("cuda", "", f"{gpu.note}: pip's default build")
            return Choice("cuda", TORCH_INDEX + build.name, f"{gpu.note}: the {build.name} build")
    reason = f"{gpu.note}: the CPU build, until the driver is updated and --repair run"
    return Choice("cpu", cpu, reason)


def choose_torch(system: str, machine: str, gpu: Gpu, override: str) -> Choice:
    """Return the PyTorch for this machine; `override` is AIPROD_TORCH_INDEX."""
    if override:
        index = "" if override == "pip" else override
        return Choice("any", index, f"AIPROD_TORCH_INDEX is {hide_password(override)}")
    if system == "Darwin":
        if machine != "arm64":
            raise StudioError(
                "PyTorch is no longer built for Intel Macs or Intel builds of Python. Next: on an"
                " Apple-silicon Mac install Python from python.org; else use Linux or Windows."
            )
        return Choice("mac", "", "macOS: pip's default build, which uses Apple's GPU")
    if gpu.vendor == "nvidia":
        return choose_cuda(system, gpu)
    if gpu.vendor == "amd":
        return Choice("rocm", TORCH_INDEX + ROCM_BUILD, f"{gpu.note}: the {ROCM_BUILD} build")
    return Choice("cpu", TORCH_INDEX + "cpu", f"{gpu.note}: the CPU build")


def settle_index(choice: Choice, system: str, answers: Callable[[str], bool]) -> Choice:
    """Return `choice`, or what remains of it if PyTorch's own index does not answer."""
    if not choice.source.startswith(TORCH_INDEX) or answers(choice.source):
        return choice
    if choice.build != "cpu":
        raise StudioError(
            f"{choice.reason}, but {choice.source} does not answer. Next: start again when it does,"
            " or set AIPROD_TORCH_INDEX to a mirror of it, or to 'pip' for what pip finds itself."
        )
    reason = f"{choice.reason} that pip finds, as {TORCH_INDEX} does not answer"
    return Choice("any" if system == "Linux" else "cpu", "", reason)


def probe_index(index: str) -> bool:
    """Return whether the package index lists torch, within a few seconds and without a retry."""
    # Only an install needs this import, which costs more than a whole later start.
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        with urlopen(f"{index}/torch/", timeout=4) as page:
            return b"torch-" in page.read(1 << 16)
    except (OSError, ValueError, HTTPException):
        return False


def hide_password(url: str) -> str:
    """Return `url` without the user and password that it may carry."""
    return re.sub(r"//[^/@]*@", "//", url)


def name_source(override: str) -> str:
    """Return what a stamp calls the source that AIPROD_TORCH_INDEX names."""
    return "" if override == "pip" else hide_password(override)


def describe_size(choice: Choice, env: Path) -> str:
    """Return how much will be downloaded and stored."""
    torch = TORCH_MB.get(choice.build, TORCH_MB["cuda"])
    download, disk = torch[0] + REST_MB[0], torch[1] + REST_MB[1]
    about = "up to" if choice.build == "any" else "about"
    return f"{about} {download / 1000:.1f} GB to download, {disk / 1000:.1f} GB in all in {env}"


def check_space(choice: Choice, free_bytes: int, held_bytes: int) -> None:
    """Raise StudioError if the disk cannot hold what is still missing."""
    torch = TORCH_MB.get(choice.build, TORCH_MB["cpu"])
    missing = (torch[1] + REST_MB[1]) * 10**6 - held_bytes
    if free_bytes < missing:
        raise StudioError(
            f"The disk has {free_bytes / 1e9:.1f} GB free and {missing / 1e9:.1f} GB are needed."
            " Next: free some space, or set AIPROD_HOME to a folder on a larger disk."
        )
