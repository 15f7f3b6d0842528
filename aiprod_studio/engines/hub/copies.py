"""The copies on this disk: are they right, and how to be rid of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiprod_studio.engines.hub.cache import RemoteFile, digest_of
from aiprod_studio.engines.hub.errors import NotDownloaded
from aiprod_studio.engines.hub.pace import Meter, OnProgress, ShouldStop, heed
from aiprod_studio.engines.hub.pins import drop_pin
from aiprod_studio.engines.hub.survey import Survey
from aiprod_studio.errors import ModelUnavailable
from aiprod_studio.settings import settings


@dataclass(frozen=True)
class Verdict:
    """What checking the copies found: the paths that are right, damaged and missing."""

    right: tuple[str, ...]
    damaged: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every file is there and right."""
        return not self.damaged and not self.missing


def verify(
    found: Survey,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Verdict:
    """Read every file of a survey that is here and compare its digest; raises `Cancelled`."""
    meter, done = Meter(found.present_bytes, on_progress), 0
    lists: dict[str, list[str]] = {"right": [], "damaged": [], "missing": []}
    for one, file in _files(found):
        path = one.cache.whole(one.commit, file)
        if path is None:
            lists["missing"].append(file.path)
            continue

        def count(size: int, name: str = file.path) -> None:
            nonlocal done
            heed(should_stop or (lambda: False))
            done += size
            meter.set(done, name, "check", size)

        try:
            same = digest_of(path, file, count) == file.digest
        except OSError:  # a disk that fails cannot be read everywhere
            same = False
        lists["right" if same else "damaged"].append(file.path)
    return Verdict(**{name: tuple(paths) for name, paths in lists.items()})


def drop_damaged(found: Survey, verdict: Verdict) -> None:
    """Remove the damaged files of a verdict, so that a download fetches them again."""
    for one, file in _files(found):
        if file.path in verdict.damaged:
            with one.cache.locked(file, _refuse_to_wait):
                one.cache.discard(one.commit, file, everywhere=True)


def remove(found: Survey) -> int:
    """Remove the files of a survey that no other commit needs, and return the bytes freed.

    What was converted of them goes too; what another program has downloaded beside them stays.
    Raises `NotDownloaded` when there is nothing, and `ModelUnavailable` when a file is being
    downloaded at this moment.
    """
    if not any(
        one.cache.whole(one.commit, file) or one.cache.part(file).exists()
        for one, file in _files(found)
    ):
        raise NotDownloaded(f"{found.source.name} is not on this disk. There is nothing to remove.")
    return sum(_remove(one) for one in found.each)


def _files(found: Survey) -> Iterator[tuple[Survey, RemoteFile]]:
    """Yield every file of a survey and of what comes along, each with its own survey."""
    return ((one, file) for one in found.each for file in one.files)


def _remove(found: Survey) -> int:
    """Remove the files of one repository and return the bytes freed."""
    cache, commit, freed = found.cache, found.commit, 0
    for file in found.files:
        with cache.locked(file, _refuse_to_wait):
            freed += cache.discard(commit, file)
    converted = converted_folder(cache.folder.name)
    freed += sum(path.stat().st_size for path in converted.rglob("*") if path.is_file())
    shutil.rmtree(converted, ignore_errors=True)
    cache.prune()
    drop_pin(found.source, found.variant)
    return freed


def converted_folder(repo: str) -> Path:
    """Return where weights are converted to, of a repository's folder as models--owner--name."""
    return settings().home / "models" / "converted" / repo


def _refuse_to_wait() -> None:
    raise ModelUnavailable("These files are being downloaded now. Stop the download first.")
