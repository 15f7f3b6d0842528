"""The Hub's own cache on this disk: where a repository's files lie, so that all programs share.

models--owner--name/blobs/<digest>             the bytes, once
models--owner--name/snapshots/<commit>/<path>  a link to them
models--owner--name/refs/<branch>              the commit of a branch
.locks/models--owner--name/<digest>.lock       held by whoever downloads the bytes
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
from huggingface_hub import constants

from aiprod_studio.errors import ModelUnavailable
from aiprod_studio.media.files import write_bytes

if TYPE_CHECKING:
    from hashlib import _Hash

_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# The Hub's own tools list a file of this ending as an unfinished download.
PART_SUFFIX = ".aiprod.incomplete"
LOCK_POLL_SECONDS = 0.1
READ_BYTES = 2**20


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository: path, size in bytes and digest in hexadecimal.

    The digest is SHA-256 of the bytes for a large file, and git's SHA-1 for one kept in git.
    """

    path: str
    size: int
    digest: str

    def __post_init__(self) -> None:
        """Refuse a digest that could not name a file."""
        if not _DIGEST.fullmatch(self.digest):
            raise ModelUnavailable(
                f"The Hub gives no checksum for {self.path}. Choose another engine."
            )

    def hasher(self) -> _Hash:
        """Return a hash that will equal `digest` after all bytes of the file."""
        if len(self.digest) == 64:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)


@dataclass(frozen=True)
class RepoCache:
    """The folder of one repository in the cache `root`."""

    root: Path
    repo: str

    @property
    def folder(self) -> Path:
        """The repository's own folder."""
        return self.root / ("models--" + self.repo.replace("/", "--"))

    def blob(self, file: RemoteFile) -> Path:
        """Return where the bytes of a file lie when they are whole."""
        return self.folder / "blobs" / file.digest

    def part(self, file: RemoteFile) -> Path:
        """Return where the bytes of a file lie until they are whole."""
        return self.folder / "blobs" / (file.digest + PART_SUFFIX)

    def snapshot(self, commit: str) -> Path:
        """Return the folder of a commit, with the repository's own paths."""
        return self.folder / "snapshots" / commit

    def pointer(self, commit: str, file: RemoteFile) -> Path:
        """Return the path of a file in a commit."""
        return self.snapshot(commit) / file.path

    def whole(self, commit: str, file: RemoteFile) -> Path | None:
        """Return a path with all bytes of a file, by its size, or None."""
        for path in (self.pointer(commit, file), self.blob(file)):
            if _holds(path, file):
                return path
        return None

    def place(self, commit: str, file: RemoteFile) -> Path:
        """Make the whole blob of a file visible in a commit and return that path.

        Where the disk knows no symbolic links, a second name of the same bytes does; where it
        knows neither, the blob itself moves.
        """
        blob, pointer = self.blob(file), self.pointer(commit, file)
        self.part(file).unlink(missing_ok=True)
        if _holds(pointer, file):
            return pointer
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.unlink(missing_ok=True)
        if not constants.HF_HUB_DISABLE_SYMLINKS:
            with suppress(OSError):
                pointer.symlink_to(os.path.relpath(blob, pointer.parent))
                return pointer
        try:
            pointer.hardlink_to(blob)
        except OSError:
            blob.replace(pointer)
        return pointer

    def discard(self, commit: str, file: RemoteFile, everywhere: bool = False) -> int:
        """Remove a file from a commit, and its bytes where no other commit shows them.

        `everywhere` removes it from those too, as for damaged bytes. Returns the bytes that this
        freed; an unfinished download counts too.
        """
        blob, part, pointer = self.blob(file), self.part(file), self.pointer(commit, file)
        freed = size_of(part) + (0 if size_of(blob) else size_of(pointer))
        others = [path for path in self._snapshot_files() if _shows(path, blob)]
        for path in (part, pointer, *(others if everywhere else ())):
            path.unlink(missing_ok=True)
        if everywhere or not set(others) - {pointer}:
            freed += size_of(blob)
            blob.unlink(missing_ok=True)
        return freed

    def _snapshot_files(self) -> Iterator[Path]:
        return (path for path in self.folder.glob("snapshots/*/**/*") if path.is_file())

    def prune(self) -> None:
        """Remove the folders that are empty, and all of the repository's when no file is left."""
        if not any((*self.folder.glob("blobs/*"), *self._snapshot_files())):
            shutil.rmtree(self.folder, ignore_errors=True)
        for folder in sorted(self.folder.glob("snapshots/**/"), reverse=True):
            with suppress(OSError):
                folder.rmdir()

    def remember(self, revision: str, commit: str) -> None:
        """Note which commit a branch means, as the Hub's own downloads do."""
        if revision == commit:
            return
        write_bytes(self.folder / "refs" / revision, commit.encode())

    def remembered(self, revision: str) -> str | None:
        """Return the commit that a branch meant when it was last downloaded, or None."""
        if (self.folder / "snapshots" / revision).is_dir():
            return revision
        try:
            return (self.folder / "refs" / revision).read_text(encoding="utf-8").strip()
        except OSError:
            return None

    @contextmanager
    def locked(self, file: RemoteFile, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the lock of a file's bytes, which ends with its process; call `on_wait` meanwhile.

        It is the lock of the Hub's own downloads, so that they wait for this one and it for them.
        """
        path = self.root / ".locks" / self.folder.name / f"{file.digest}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock: filelock.BaseFileLock = filelock.FileLock(path, mode=0o664)
        while not lock.is_locked:
            try:
                lock.acquire(timeout=LOCK_POLL_SECONDS)
            except filelock.Timeout:
                on_wait()
            except NotImplementedError:  # a network disk without locks: a file must do
                lock = filelock.SoftFileLock(path)
        try:
            yield
        finally:
            lock.release()


def _holds(path: Path, file: RemoteFile) -> bool:
    """Say whether `path` names or points to as many bytes as the file has."""
    return path.is_file() and size_of(path) == file.size


def _shows(path: Path, blob: Path) -> bool:
    """Say whether a path of a snapshot is another name of a blob's bytes."""
    try:
        return path.samefile(blob)
    except OSError:
        return False


def size_of(path: Path) -> int:
    """Return the bytes of the file that `path` names or points to; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def digest_of(path: Path, file: RemoteFile, on_bytes: Callable[[int], None]) -> str:
    """Return the digest of the bytes at `path`; `on_bytes` hears of every stretch read."""
    seen = file.hasher()
    with path.open("rb") as stream:
        while chunk := stream.read(READ_BYTES):
            seen.update(chunk)
            on_bytes(len(chunk))
    return seen.hexdigest()
