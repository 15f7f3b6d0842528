"""Folders and environment variables, read once."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    """Where the studio reads and writes; every path is absolute.

    `database` holds the queue: the path of an SQLite file, or an SQLAlchemy URL.
    """

    home: Path
    outputs: Path
    assets: Path
    presets: Path
    database: str

    @property
    def logs(self) -> Path:
        """The folder of log files."""
        return self.home / "logs"

    @property
    def jobs(self) -> Path:
        """The folder of what unfinished jobs keep, to go on after a kill."""
        return self.home / "jobs"

    @property
    def training(self) -> Path:
        """The folder of training checkpoints and metrics."""
        return self.home / "training"


def _shipped(name: str) -> Path:
    """Return the folder `name` of a wheel (inside the package) or of a checkout (beside it)."""
    inside = Path(__file__).resolve().parent / name
    return inside if inside.is_dir() else _ROOT / name


@cache
def settings() -> Settings:
    """Return the settings of this process.

    `AIPROD_HOME` and `AIPROD_OUTPUTS` move the folders, `AIPROD_DATABASE` the queue.
    """
    default = platformdirs.user_data_path("AIPROD Studio", appauthor=False)
    home = Path(os.environ.get("AIPROD_HOME") or default).expanduser().absolute()
    outputs = Path(os.environ.get("AIPROD_OUTPUTS") or home / "outputs").expanduser().absolute()
    database = os.environ.get("AIPROD_DATABASE") or str(home / "studio.db")
    if "://" not in database:
        database = str(Path(database).expanduser().absolute())
    return Settings(home, outputs, _shipped("assets"), _shipped("presets"), database)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk on which `folder` lies or will lie; 0 of a drive that is
    not there.
    """
    for each in (folder, *folder.parents):
        if each.exists():
            return shutil.disk_usage(each).free
    return 0
