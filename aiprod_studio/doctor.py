"""The doctor: says what this machine is, where things lie, and whether a clip can be made."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from aiprod_studio import __version__
from aiprod_studio.errors import StudioError
from aiprod_studio.media.files import write_bytes
from aiprod_studio.settings import settings
from aiprod_studio.types import Record, Request

PACKAGES = ("torch", "av", "numpy")
LOW_DISK = 2**30
SMOKE_PROMPT = "a red ball bouncing on a beach"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: whether it is as it should be, and what was seen."""

    name: str
    ok: bool
    detail: str

    def to_line(self) -> str:
        """Return the finding as a line."""
        return f"{'ok' if self.ok else 'failed':<7} {self.name:<12} {self.detail}"


def examine(render: bool = True) -> Iterator[Finding]:
    """Yield what is found, each as soon as it is known; `render` adds a short clip at the end."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("hardware", describe_hardware),
        ("memory", describe_memory),
        ("versions", describe_versions),
        ("environment", describe_environment),
        ("settings", describe_folders),
        ("outputs", lambda: describe_space(settings().outputs)),
        ("home", lambda: describe_space(settings().home)),
    ]
    if render:
        checks.append(("render", render_smoke))
    for name, check in checks:
        yield _look(name, check)


def _look(name: str, check: Callable[[], str]) -> Finding:
    """Run one check; what it raises becomes a finding, so that the others still run."""
    try:
        return Finding(name, True, check())
    except StudioError as error:
        return Finding(name, False, str(error))
    except PackageNotFoundError as error:
        return Finding(name, False, f"{error.name} is not installed. Start launcher.py --repair.")
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        return Finding(name, False, f"{reason}. If it stays so, start launcher.py --repair.")


def describe_hardware() -> str:
    """Return the device that renders and why; asks the driver."""
    from aiprod_studio.hardware.probe import probe

    found = probe()
    return f"{found.device}: {found.name}, {found.cores} cores; renders {found.because}"


def describe_memory() -> str:
    """Return total and free memory of the device and of the machine."""
    from aiprod_studio.hardware.probe import probe

    found = probe()
    text = f"{_gib(found.ram_free_bytes)} of {_gib(found.ram_bytes)} RAM free"
    if found.device == "cpu":
        return text
    return f"{text}, {_gib(found.free_bytes)} of {_gib(found.total_bytes)} on the {found.device}"


def describe_versions() -> str:
    """Return the versions of what a render needs; raises `PackageNotFoundError` without it."""
    found = [f"{name} {version(name)}" for name in PACKAGES]
    own = [f"studio {__version__}", f"python {platform.python_version()}", platform.platform()]
    return ", ".join([*own[:2], *found, own[2]])


def describe_environment() -> str:
    """Return who made the environment that this Python runs in: the launcher or somebody else."""
    prefix = Path(sys.prefix)
    stamp = prefix / "aiprod-stamp.json"
    if stamp.is_file():
        try:
            build = json.loads(stamp.read_text(encoding="utf-8"))["build"]
        except (ValueError, KeyError, TypeError):
            return f"{prefix}, made by the launcher, with a stamp that cannot be read"
        return f"{prefix}, made by the launcher, PyTorch build {build}"
    own = sys.prefix != sys.base_prefix
    return f"{prefix}, {'a virtual environment' if own else 'the Python'} that you manage with pip"


def describe_folders() -> str:
    """Return where presets, assets and logs lie; raises `StudioError` if something is missing."""
    found = settings()
    for name, folder in (("presets", found.presets), ("assets", found.assets)):
        if not folder.is_dir():
            raise StudioError(f"The folder of {name} is missing ({folder}). Install a fresh copy.")
    return f"presets {found.presets}, assets {found.assets}, logs {found.logs}"


def describe_space(folder: Path) -> str:
    """Return a folder and its free disk; raises `StudioError` if it is full or unwritable."""
    trial = folder / ".doctor"
    write_bytes(trial, b"ok")
    trial.unlink()
    free = shutil.disk_usage(folder).free
    if free < LOW_DISK:
        raise StudioError(f"{folder} has only {_gib(free)} left. Free some space.")
    return f"{folder}, {_gib(free)} free"


def render_smoke() -> str:
    """Render a short clip into a temporary folder, read it back and return how long it took."""
    from aiprod_studio.library.provenance import read_request
    from aiprod_studio.studio import Studio

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="aiprod-") as folder:
        path = Path(folder) / "smoke.mp4"
        request = Request(prompt=SMOKE_PROMPT, steps=4, seed=1)
        for _, result in Studio().render_all([(request, path)]):
            if not isinstance(result, Record):
                raise result
        if read_request(path).prompt != SMOKE_PROMPT:
            raise StudioError("The clip lost its settings on the disk. Check the disk.")
        size = path.stat().st_size
    return f"a clip of {size / 1024:.0f} KiB in {time.monotonic() - started:.1f} s"


def _gib(count: int) -> str:
    """Return bytes as a person reads them."""
    return f"{count / 2**30:.1f} GiB"
