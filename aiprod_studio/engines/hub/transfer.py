"""One file from the Hub over plain HTTP, resumed at any byte and hashed while it arrives."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
from huggingface_hub import get_session, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError

from aiprod_studio.engines.hub.cache import READ_BYTES, RemoteFile
from aiprod_studio.engines.hub.pace import Manners, Patience, ShouldStop, Throttle, heed
from aiprod_studio.engines.hub.survey import TRANSIENT

# Tells how many bytes of the file are here, in which stage, and how many just arrived.
OnBytes = Callable[[int, str, int], None]


@dataclass(frozen=True)
class Errand:
    """One file to fetch: its address with headers, manners, the throttle that files share."""

    file: RemoteFile
    url: str
    headers: Mapping[str, str]
    manners: Manners
    throttle: Throttle
    on_bytes: OnBytes
    should_stop: ShouldStop


class Part:
    """A file that grows at its end, with the hash of all that is in it; held by `with`."""

    def __init__(self, path: Path, errand: Errand) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._errand = errand
        self._hash = errand.file.hasher()
        # Unbuffered: what a write has returned survives the end of this process.
        self._stream = path.open("r+b" if path.exists() else "x+b", buffering=0)
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file; when all went well the bytes are forced to the disk."""
        if error is None:
            os.fsync(self._stream.fileno())
        self._stream.close()

    @property
    def right(self) -> bool:
        """Whether the bytes are those that the Hub promised."""
        return self._hash.hexdigest() == self._errand.file.digest

    def take_up(self) -> None:
        """Hash what earlier starts left; a longer file than the Hub's is begun anew."""
        left = os.fstat(self._stream.fileno()).st_size
        if left > self._errand.file.size:
            self._stream.truncate(0)
        while chunk := self._stream.read(READ_BYTES):
            self._hash.update(chunk)
            self.size += len(chunk)
            self._errand.on_bytes(left, "check", 0)
            heed(self._errand.should_stop)

    def write(self, chunk: bytes) -> None:
        """Append the bytes of `chunk` that belong to the file; raises `OSError` on a full disk."""
        left = memoryview(chunk)[: self._errand.file.size - self.size]
        while left:
            count = self._stream.write(left)
            self._hash.update(left[:count])
            self.size += count
            left = left[count:]


def fetch(part_path: Path, errand: Errand) -> bool:
    """Bring the part to its full size, and return whether its digest is right.

    Raises `HfHubHTTPError` or `httpx2.TransportError` when the Hub refuses or patience ends,
    `Cancelled`, and `OSError` when the disk does not take the bytes; the part stays in each case.
    """
    patience = Patience(errand.manners)
    with Part(part_path, errand) as part:
        part.take_up()
        while part.size < errand.file.size:
            before = part.size
            headers: Mapping[str, str] = {}
            try:
                _stream(part, errand)
            except httpx2.TransportError as error:
                failure: Exception = error
            except HfHubHTTPError as error:
                if error.response.status_code not in TRANSIENT:
                    raise
                failure, headers = error, error.response.headers
            else:
                failure = httpx2.RemoteProtocolError("the answer ended early")
            if part.size == errand.file.size:
                break
            if part.size > before:
                patience.restore()
            if not patience.lasts():
                raise failure
            errand.on_bytes(part.size, "retry", 0)
            patience.pause(headers, errand.should_stop)
        return part.right


def _stream(part: Part, errand: Errand) -> None:
    """Append one answer of the Hub to the part, until it ends or breaks."""
    timeout = httpx2.Timeout(errand.manners.stall_seconds)
    # Bytes as they are: a compressed answer could not be resumed in its middle.
    headers = {**errand.headers, "Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
    with get_session().stream("GET", errand.url, headers=headers, timeout=timeout) as answer:
        hf_raise_for_status(answer)
        skip = part.size - _first_byte(answer, part.size, errand.file.size)
        for chunk in answer.iter_raw():
            part.write(chunk[skip:])
            arrived = max(0, len(chunk) - skip)
            skip = max(0, skip - len(chunk))
            if arrived:
                errand.on_bytes(part.size, "download", arrived)
            heed(errand.should_stop)
            if part.size == errand.file.size:
                return
            errand.throttle.spend(len(chunk), errand.should_stop)


def _first_byte(answer: httpx2.Response, have: int, size: int) -> int:
    """Return the position of an answer's first byte in a file of `size`, of which `have` are here.

    Raises `httpx2.RemoteProtocolError` when the answer cannot be put together with the part.
    """
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise httpx2.RemoteProtocolError("the answer is compressed")
    first, total = 0, int(answer.headers.get("Content-Length", size))
    if answer.status_code == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        first, total = (int(span[1]), int(span[2])) if span else (0, -1)
    # A hotel's login page answers too, in another size.
    if total != size or first > have:
        raise httpx2.RemoteProtocolError("the answer is of another file or range")
    return first
