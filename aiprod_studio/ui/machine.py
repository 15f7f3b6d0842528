"""The machine: what renders here, learned in a process of its own, and the memory that is free.

Asking a GPU takes PyTorch, which the page's process never loads.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

from aiprod_studio.errors import StudioError
from aiprod_studio.hardware.probe import CGROUP, count_ram
from aiprod_studio.media.files import write_bytes
from aiprod_studio.sentences import Said
from aiprod_studio.settings import free_bytes, settings
from aiprod_studio.types import Hardware

log = logging.getLogger(__name__)

_PROGRAM = (
    "from aiprod_studio.hardware.probe import probe; from aiprod_studio.ui.machine import write; "
    "print(write(probe()))"
)


class Machine:
    """This machine; what was learned is kept in `file`, for the next start's first moments."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._learned = _recall(file)
        self._thread = threading.Thread(target=self._learn, name="machine", daemon=True)

    def start(self) -> None:
        """Begin to look at the machine, beside everything else."""
        self._thread.start()

    @property
    def hardware(self) -> Hardware | None:
        """The machine with the memory and disk that are free now; None until it is known."""
        if self._learned is None:
            return None
        ram, free = count_ram(CGROUP)
        disk = free_bytes(settings().outputs)
        changes = {"ram_bytes": ram, "ram_free_bytes": free, "disk_free_bytes": disk}
        if self._learned.device == "cpu":
            changes |= {"total_bytes": ram, "free_bytes": free}
        # On a GPU the memory that the worker holds is there for the next clip, so what was free
        # before it began is what counts.
        return dataclasses.replace(self._learned, **changes)  # type: ignore[arg-type]

    def _learn(self) -> None:
        command = [sys.executable, "-c", _PROGRAM]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            self._learned = _read(done.stdout)
            write_bytes(self._file, done.stdout.encode())
        except (ValueError, TypeError, KeyError):
            log.error("the hardware could not be asked: %s", done.stderr[-2000:])
        except StudioError as error:
            log.warning("%s", error)


def _recall(file: Path) -> Hardware | None:
    """Return what an earlier start learned, or None."""
    try:
        return _read(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write(hardware: Hardware) -> str:
    """Return what another process reads a machine from."""
    values, why = dataclasses.asdict(hardware), hardware.because
    if isinstance(why, Said):
        values["because"] = why.to_json()
    return json.dumps(values)


def _read(text: str) -> Hardware:
    values = json.loads(text)
    if isinstance(values["because"], list):
        values["because"] = Said.from_json(values["because"])
    return Hardware(**{**values, "dtypes": tuple(values["dtypes"])})
