"""What a download would be, known before its first byte: files, sizes, disk, licence, access."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError
from huggingface_hub.hf_api import ModelInfo

from aiprod_studio import __version__
from aiprod_studio.engines.hub import licences
from aiprod_studio.engines.hub.cache import RemoteFile, RepoCache, size_of
from aiprod_studio.engines.hub.choices import chosen_folder
from aiprod_studio.engines.hub.errors import (
    BadToken,
    DiskFull,
    GatedRepo,
    NoNetwork,
    NotDownloaded,
    explain,
    unlock,
)
from aiprod_studio.engines.hub.pace import Manners, Patience, ShouldStop
from aiprod_studio.engines.hub.pins import Pin, adopt, read_pin
from aiprod_studio.engines.hub.source import Source, Variant, choose_files
from aiprod_studio.settings import free_bytes

RESERVE_BYTES = 256 * 2**20
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Hub:
    """Where models come from and go to: the Hub's address, the cache folder, token, offline."""

    endpoint: str
    cache: Path
    token: str | None = None
    offline: bool = False

    @property
    def free_bytes(self) -> int:
        """The space that is free on the disk of the cache, which need not exist yet."""
        return free_bytes(self.cache)


def this_hub() -> Hub:
    """Return the Hub as a person chose it, else as the environment has it (HF_HOME, HF_TOKEN …)."""
    return Hub(
        endpoint=constants.ENDPOINT,
        cache=chosen_folder() or Path(constants.HF_HUB_CACHE).expanduser().absolute(),
        token=get_token(),
        offline=constants.is_offline_mode(),
    )


@dataclass(frozen=True)
class Survey:
    """Everything about a download before its first byte; sizes are bytes.

    `present` are the paths of `files` that are on this disk, in whichever program's download;
    `begun_bytes` have arrived of others; `free_bytes` has the disk of the cache. `access` is open,
    granted, no token, token refused, not accepted, or local when the Hub was not asked. `also` are
    the surveys of what the variant needs from elsewhere, as far as it is known; all sizes are of
    everything together.
    """

    source: Source
    variant: Variant
    hub: Hub
    commit: str
    files: tuple[RemoteFile, ...]
    present: frozenset[str]
    begun_bytes: int
    free_bytes: int
    access: str
    also: tuple[Survey, ...] = ()

    @property
    def each(self) -> tuple[Survey, ...]:
        """This survey and all that come along."""
        return (self, *self.also)

    @property
    def cache(self) -> RepoCache:
        """The folder of the repository."""
        return RepoCache(self.hub.cache, self.variant.repo)

    @property
    def pin(self) -> Pin:
        """The commit and files to note when the download starts."""
        return Pin(self.variant.repo, self.variant.revision, self.commit, self.files)

    @property
    def folder(self) -> Path:
        """The folder from which the engine loads: the snapshot of the commit."""
        return self.cache.snapshot(self.commit)

    @property
    def total_bytes(self) -> int:
        """The size of all files that are needed."""
        return sum(file.size for one in self.each for file in one.files)

    @property
    def present_bytes(self) -> int:
        """The size of the files that are whole on this disk."""
        return sum(file.size for one in self.each for file in one.files if file.path in one.present)

    @property
    def part_bytes(self) -> int:
        """The bytes that have arrived of files that are not whole."""
        return sum(one.begun_bytes for one in self.each)

    @property
    def missing_bytes(self) -> int:
        """The bytes that must still come."""
        return self.total_bytes - self.present_bytes - self.part_bytes

    @property
    def complete(self) -> bool:
        """Whether every file is whole on this disk, by its size."""
        known = len(self.also) == len(self.variant.also)
        return known and all(len(one.present) == len(one.files) for one in self.each)


def survey(
    source: Source,
    variant: Variant,
    hub: Hub,
    update: bool = False,
    manners: Manners | None = None,
    should_stop: ShouldStop | None = None,
) -> Survey:
    """Return what downloading `variant` would be; `update` takes the newest commit of its branch.

    The Hub is asked only for what is not on this disk yet. Raises `NoNetwork`, `HubBusy`,
    `RepoGone`, `BadToken`, `GatedRepo`, `NotDownloaded` in offline mode, and `Cancelled`.
    """
    here = local_survey(source, variant, hub)
    if here and here.complete and (hub.offline or not update):
        return here
    if hub.offline:
        raise NotDownloaded(
            f"{source.name} is not whole on this disk and offline mode is on. "
            "Unset HF_HUB_OFFLINE and download it once."
        )
    known = None if update else read_pin(source, variant)
    revision = known.commit if known else variant.revision
    try:
        asked = _Asked(variant, hub, revision, manners or Manners(), should_stop or (lambda: False))
        info, hub, access = asked.info()
    except NoNetwork:
        if here and here.complete:
            return here
        raise
    sizes = {file.rfilename: file for file in info.siblings or []}
    files = []
    for path in choose_files(sizes, variant):
        found = sizes[path]
        digest = (found.lfs.sha256 if found.lfs else found.blob_id) or ""
        files.append(RemoteFile(path, found.size or 0, digest))
    pin = Pin(variant.repo, variant.revision, info.sha or revision, tuple(files))
    also = tuple(
        survey(source, source.variant(name), hub, update, manners, should_stop)
        for name in variant.also
    )
    return _look(source, variant, hub, pin, access, also)


def local_survey(source: Source, variant: Variant, hub: Hub) -> Survey | None:
    """Return what is on this disk without asking the Hub, or None when it is not known."""
    pin = read_pin(source, variant) or adopt(variant, RepoCache(hub.cache, variant.repo))
    others = (local_survey(source, source.variant(name), hub) for name in variant.also)
    also = tuple(one for one in others if one)
    return _look(source, variant, hub, pin, "local", also) if pin else None


def refuse(found: Survey) -> None:
    """Raise what forbids the download before its first byte, if anything does.

    `TermsNotAccepted`, and when files are still missing `GatedRepo`, `BadToken` or `DiskFull`.
    """
    licences.require(found.source)
    if found.complete:
        return
    for one in found.each:
        _refuse_access(one)
    if found.missing_bytes + RESERVE_BYTES > found.free_bytes:
        raise DiskFull(
            f"{found.source.name} needs {gigabytes(found.missing_bytes)} more and the disk of "
            f"{found.hub.cache} has {gigabytes(found.free_bytes)} free. Free some space, or set "
            "HF_HOME to a folder on another disk."
        )


def _refuse_access(found: Survey) -> None:
    """Raise `BadToken` or `GatedRepo` when the files of one repository may not be read."""
    page = f"{found.hub.endpoint}/{found.variant.repo}"
    if found.access == "token refused":
        raise BadToken(
            f"The Hub refuses the token, and {found.variant.repo} needs one. Get a new one at "
            f"{found.hub.endpoint}/settings/tokens and set HF_TOKEN."
        )
    if found.access in ("no token", "not accepted"):
        token = found.hub.token if found.access == "not accepted" else None
        raise GatedRepo(
            f"{found.variant.repo} asks for its terms to be accepted. {unlock(page, token)}"
        )


def gigabytes(size: float) -> str:
    """Return `size` in bytes as people and the Hub read it, in powers of ten."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _look(
    source: Source,
    variant: Variant,
    hub: Hub,
    pin: Pin,
    access: str,
    also: tuple[Survey, ...],
) -> Survey:
    """Return the survey of the files of `pin` with what of them is on this disk."""
    cache = RepoCache(hub.cache, variant.repo)
    present = {file.path for file in pin.files if cache.whole(pin.commit, file)}
    missing = [file for file in pin.files if file.path not in present]
    parts = sum(min(size_of(cache.part(file)), file.size) for file in missing)
    return Survey(
        source,
        variant,
        hub,
        pin.commit,
        pin.files,
        frozenset(present),
        parts,
        hub.free_bytes,
        access,
        also,
    )


@dataclass(frozen=True)
class _Asked:
    """A question to the Hub about one revision of a repository."""

    variant: Variant
    hub: Hub
    revision: str
    manners: Manners
    should_stop: ShouldStop

    def info(self) -> tuple[ModelInfo, Hub, str]:
        """Return what the Hub says, the Hub without a token that it refuses, and the access."""
        anonymous = dataclasses.replace(self.hub, token=None)
        try:
            try:
                found, hub = self._model_info(self.hub), self.hub
            except HfHubHTTPError as error:
                if error.response.status_code != 401 or not self.hub.token:
                    raise
                # A bad token must not cost what is open to everybody.
                with suppress(HfHubHTTPError):
                    found = self._model_info(anonymous)
                    return found, anonymous, "token refused" if found.gated else "open"
                raise
            return found, hub, self._access() if found.gated else "open"
        except (httpx2.HTTPError, ValueError) as error:  # ValueError: a portal's page, no JSON
            raise explain(error, self.hub.endpoint, self.variant.repo, self.hub.token) from error

    def _api(self) -> HfApi:
        return HfApi(self.hub.endpoint, library_name="aiprod-studio", library_version=__version__)

    def _model_info(self, hub: Hub) -> ModelInfo:
        """Return the commit of the revision with its files."""
        return self._patiently(
            lambda: self._api().model_info(
                self.variant.repo,
                revision=self.revision,
                files_metadata=True,
                timeout=self.manners.stall_seconds,
                token=hub.token or False,
            )
        )

    def _access(self) -> str:
        """Return whether a gated repository's files may be read."""
        token = self.hub.token
        try:
            self._patiently(lambda: self._api().auth_check(self.variant.repo, token=token or False))
        except GatedRepoError:
            return "not accepted" if token else "no token"
        return "granted"

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Return what `ask` does; a busy Hub is asked again, one that is out of reach once."""
        patience, reached = Patience(self.manners), True
        while True:
            try:
                return ask()
            except httpx2.TransportError:
                if not reached or not patience.lasts():
                    raise
                reached = False
                patience.pause({}, self.should_stop)
            except HfHubHTTPError as error:
                if error.response.status_code not in TRANSIENT or not patience.lasts():
                    raise
                patience.pause(error.response.headers, self.should_stop)
