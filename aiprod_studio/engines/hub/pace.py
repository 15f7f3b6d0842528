"""How fast bytes come and may come: speed with the time left, a limit, and patience."""

from __future__ import annotations

import email.utils
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiprod_studio.errors import Cancelled

SPEED_SECONDS = 5.0
TELL_SECONDS = 0.1
NAP_SECONDS = 0.1
LONGEST_PAUSE = 120.0

ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class Manners:
    """How to download: at most `bytes_per_second` (None: no limit), by Xet or by plain HTTP.

    `stall_seconds` without a byte break a connection; `tries` in a row without a byte end the
    download, with pauses from `pause_seconds` that double, or as long as the Hub asks.
    """

    bytes_per_second: float | None = None
    xet: bool = False
    stall_seconds: float = 10.0
    tries: int = 6
    pause_seconds: float = 1.0


@dataclass(frozen=True)
class DownloadProgress:
    """How far a download is: `done` of `total` bytes, `speed` a second, `eta` in seconds or None.

    `stage` is download, wait (another program downloads this file), check or retry; `file` is
    the path in the repository.
    """

    stage: str
    file: str
    done: int
    total: int
    speed: float
    eta: float | None


OnProgress = Callable[[DownloadProgress], None]


@dataclass
class Meter:
    """Counts the bytes of a whole download and tells of them, ten times a second at most."""

    total: int
    on_progress: OnProgress | None = None
    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    _told: float = 0.0

    def set(self, done: int, file: str, stage: str = "download", arrived: int = 0) -> None:
        """Note `done` bytes in all, of which `arrived` came from the network just now."""
        now = time.monotonic()
        self._seen.append((now, arrived))
        while self._seen and now - self._seen[0][0] > SPEED_SECONDS:
            self._seen.popleft()
        if self.on_progress and (now - self._told >= TELL_SECONDS or done >= self.total):
            self._told = now
            speed = self._speed(now)
            eta = (self.total - done) / speed if speed else None
            self.on_progress(DownloadProgress(stage, file, done, self.total, speed, eta))

    def _speed(self, now: float) -> float:
        """Return the bytes a second of the last seconds."""
        seconds = max(now - self._seen[0][0], TELL_SECONDS)
        return sum(count for _, count in self._seen) / seconds


@dataclass
class Throttle:
    """A bucket that fills with `bytes_per_second` and from which every byte is taken."""

    bytes_per_second: float | None
    _due: float = 0.0

    def spend(self, count: int, should_stop: ShouldStop) -> None:
        """Wait until `count` more bytes are within the limit; raises `Cancelled`."""
        if self.bytes_per_second:
            now = time.monotonic()
            self._due = max(self._due, now) + count / self.bytes_per_second
            nap(self._due - now, should_stop)


@dataclass
class Patience:
    """Tries that are left before a download gives up; a byte that arrives restores them."""

    manners: Manners
    _failed: int = 0

    def restore(self) -> None:
        """Note that something arrived."""
        self._failed = 0

    def lasts(self) -> bool:
        """Count a failure and say whether another try is due."""
        self._failed += 1
        return self._failed < self.manners.tries

    def pause(self, headers: Mapping[str, str], should_stop: ShouldStop) -> None:
        """Wait as long as the Hub asks, or longer after each failure; raises `Cancelled`.

        No wait is longer than two minutes.
        """
        asked = _asked_seconds(headers.get("Retry-After", ""))
        own = self.manners.pause_seconds * 2.0 ** (self._failed - 1)
        nap(min(own if asked is None else asked, LONGEST_PAUSE), should_stop)


def _asked_seconds(text: str) -> float | None:
    """Return the seconds that a Retry-After header asks for, which may be a date, or None."""
    if re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def heed(should_stop: ShouldStop) -> None:
    """Raise `Cancelled` if the user wants to stop."""
    if should_stop():
        raise Cancelled("Stopped. What has arrived is kept; start the download to go on.")


def nap(seconds: float, should_stop: ShouldStop) -> None:
    """Sleep, waking often enough to raise `Cancelled` soon after `should_stop` says so."""
    end = time.monotonic() + seconds
    heed(should_stop)
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, NAP_SECONDS))
        heed(should_stop)
