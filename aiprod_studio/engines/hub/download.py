"""A whole download: every file that is missing, one after the other, into the Hub's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx2
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError, XetDownloadError

from aiprod_studio import __version__
from aiprod_studio.engines.hub.cache import RemoteFile, digest_of, size_of
from aiprod_studio.engines.hub.errors import CorruptFile, DiskFull, explain
from aiprod_studio.engines.hub.pace import Manners, Meter, OnProgress, ShouldStop, Throttle, heed
from aiprod_studio.engines.hub.pins import write_pin
from aiprod_studio.engines.hub.survey import Survey, refuse
from aiprod_studio.engines.hub.transfer import Errand, fetch
from aiprod_studio.errors import DoesNotFit
from aiprod_studio.media.files import explain as explain_disk


def download(
    found: Survey,
    manners: Manners | None = None,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Path:
    """Bring every missing file of a survey to this disk and return the folder to load from.

    What another start or program has brought is not fetched again, to the byte.
    Raises what `refuse` does before the first byte; then `NoNetwork`, `HubBusy`, `GatedRepo`,
    `BadToken`, `RepoGone`, `CorruptFile`, `DiskFull`, `MediaError`, and `Cancelled` soon after
    `should_stop` says so. Whatever it raises, what has arrived stays for the next start.
    """
    refuse(found)
    manners = manners or Manners()
    meter = Meter(found.total_bytes, on_progress)
    throttle = Throttle(manners.bytes_per_second)
    done = found.present_bytes + found.part_bytes
    for one in found.each:
        write_pin(one.source, one.variant, one.pin)
        run = _Run(one, manners, meter, throttle, should_stop or (lambda: False))
        with _explained(one):
            done = run.obtain_all(done)
    return found.folder


@contextmanager
def _explained(found: Survey) -> Iterator[None]:
    """Turn what the network and the disk raise into errors that say what to do."""
    hub, repo = found.hub, found.variant.repo
    try:
        yield
    except (httpx2.HTTPError, LocalEntryNotFoundError, XetDownloadError) as error:
        raise explain(error, hub.endpoint, repo, hub.token) from error
    except OSError as error:
        said = explain_disk(error, hub.cache)
        if isinstance(said, DoesNotFit):
            raise DiskFull(
                f"The disk of {hub.cache} is full; what has arrived of {repo} is kept. "
                "Free some space and start the download again to go on."
            ) from error
        raise said from error


@dataclass(frozen=True)
class _Run:
    """One download under way."""

    found: Survey
    manners: Manners
    meter: Meter
    throttle: Throttle
    should_stop: ShouldStop

    def obtain_all(self, done: int) -> int:
        """Bring every missing file; `done` bytes of all are here, and how many then is returned."""
        found = self.found
        found.cache.remember(found.variant.revision, found.commit)
        for file in found.files:
            if file.path not in found.present:
                done -= size_of(found.cache.part(file))
                self.obtain(file, done)
                done += file.size
            found.cache.place(found.commit, file)
            self.meter.set(done, file.path)
        return done

    def obtain(self, file: RemoteFile, before: int) -> None:
        """Bring one file into the snapshot; `before` are the bytes here of all others."""
        cache, commit = self.found.cache, self.found.commit
        if self.manners.xet and self._by_xet(file, before):
            return

        def wait() -> None:
            heed(self.should_stop)
            self.meter.set(before + min(size_of(cache.part(file)), file.size), file.path, "wait")

        with cache.locked(file, wait):
            if not cache.whole(commit, file):
                self._fetch_right(file, before)
            cache.place(commit, file)

    def _fetch_right(self, file: RemoteFile, before: int) -> None:
        """Fetch one file over HTTP, once more if its digest is wrong; raises `CorruptFile`."""
        found, cache = self.found, self.found.cache
        hub, repo = found.hub, found.variant.repo

        def count(size: int, stage: str, arrived: int) -> None:
            self.meter.set(before + size, file.path, stage, arrived)

        errand = Errand(
            file=file,
            url=f"{hub.endpoint}/{repo}/resolve/{found.commit}/{quote(file.path)}",
            headers=_headers(hub.token),
            manners=self.manners,
            throttle=self.throttle,
            on_bytes=count,
            should_stop=self.should_stop,
        )
        part = cache.part(file)
        for _ in range(2):
            if fetch(part, errand):
                part.replace(cache.blob(file))
                return
            part.unlink()
        raise CorruptFile(
            f"{file.path} of {repo} arrived twice with a wrong checksum. "
            "Check the network's proxy and the disk, then start the download again."
        )

    def _by_xet(self, file: RemoteFile, before: int) -> bool:
        """Fetch one file by the Hub's own downloader, and return whether its digest is right."""
        found, cache = self.found, self.found.cache
        hub, done = found.hub, 0

        def arrive(count: int) -> None:
            nonlocal done
            heed(self.should_stop)
            done += count
            self.meter.set(before + min(done, file.size), file.path, "download", count)

        hf_hub_download(
            found.variant.repo,
            file.path,
            revision=found.commit,
            cache_dir=hub.cache,
            endpoint=hub.endpoint,
            token=hub.token or False,
            tqdm_class=_bar(arrive),
        )
        path = cache.pointer(found.commit, file)
        right = digest_of(path, file, lambda _: heed(self.should_stop)) == file.digest
        if not right:
            cache.discard(found.commit, file, everywhere=True)
        return right


def _headers(token: str | None) -> dict[str, str]:
    """Return what every request for a file says of who asks."""
    agent = {"User-Agent": f"aiprod-studio/{__version__}"}
    return {**agent, "Authorization": f"Bearer {token}"} if token else agent


def _bar(arrive: Callable[[int], None]) -> type[Any]:
    """Return a progress bar class that shows nothing and hands on the bytes of each update."""

    class Bar:
        def __init__(self, *_: Any, **__: Any) -> None: ...
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...
        def update(self, n: float | None = 1) -> None:
            arrive(int(n or 0))

    return Bar
