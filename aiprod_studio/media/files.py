"""Whole files or none: write under a hidden name in the same folder, rename when complete."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aiprod_studio.errors import DoesNotFit, MediaError, StudioError
from aiprod_studio.sentences import Said

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a hidden temporary file with the suffix of `path`; rename it to `path` at the end.

    On any exception, `KeyboardInterrupt` included, the temporary file is removed and `path` stays
    as it was. Raises `DoesNotFit` when the disk is full and `MediaError` when `path` cannot be
    written, before the body runs where that can be known.
    """
    with _explained(path):
        _check_target(path)
        temporary = _hidden(path)
        temporary.touch()
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def hidden_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden temporary folder beside `path`, removed at the end with what is left in it.

    The body moves what is whole to its place. Raises as `replacing` does.
    """
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _hidden(path)
        temporary.mkdir()
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, *parts: bytes | memoryview) -> None:
    """Write `parts` one after the other to `path`, whole or not at all; raises as `replacing`."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        for part in parts:
            file.write(part)


def _hidden(path: Path) -> Path:
    """Return a fresh name beside `path`, hidden from galleries, with the same suffix."""
    return path.with_name(f".{secrets.token_hex(8)}{path.suffix}")


def _check_target(path: Path) -> None:
    """Make the folder of `path`; raise `MediaError` or `OSError` where no file can go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        path.lstat()
    if path.is_dir():
        raise MediaError(f"{path} is a folder. Give the name of a file inside it.")
    if os.path.lexists(path) and not path.is_file():
        raise MediaError(f"{path} is not an ordinary file. Choose another name.")


def _flush(path: Path) -> None:
    """Force the bytes of `path` to the disk, so that a power cut leaves no empty file behind."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn every `OSError` of the body into a `StudioError` that says what to do about `path`."""
    try:
        yield
    except StudioError:
        raise
    except OSError as error:
        raise explain(error, path) from error


def explain(error: OSError, path: Path) -> StudioError:
    """Return the `StudioError` that tells a person why `path` could not be written."""
    if error.errno in _FULL:
        return DoesNotFit(
            Said(
                "said.disk_out",
                "The disk is full, so {path} was not written. Free some space or save to another "
                "disk.",
                path=str(path),
            )
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return MediaError(
            f"There is no permission to write {path}. Choose a folder of your own, "
            "or change its permissions."
        )
    if error.errno == errno.EROFS:
        return MediaError(f"{path} is on a read-only disk. Save to another folder.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return MediaError(f"A part of {path} is a file, not a folder. Save to another folder.")
    if error.errno == errno.ENAMETOOLONG:
        return MediaError(f"The name {path.name[:40]}… is too long. Choose a shorter one.")
    reason = error.strerror or str(error) or type(error).__name__
    return MediaError(f"{path} could not be written ({reason}). Try another folder or name.")
