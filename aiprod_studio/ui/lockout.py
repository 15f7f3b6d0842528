"""The lock-out: wrong passwords cost ever longer pauses, per address and for all together."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass

LONGEST_PAUSE_SECONDS = 3600.0
ALL = ""
ALL_FACTOR = 10
ADDRESSES_KEPT = 10_000


@dataclass
class _Misses:
    """The wrong tries of an address: how many, the latest, and until when it must wait."""

    count: int = 0
    latest: float = 0.0
    until: float = 0.0


class Lockout:
    """Counts wrong tries; after `tries` of them each costs a pause, `pause` seconds and doubling.

    All addresses together have ten times as many tries. What is an hour old is forgotten, as is
    what an address that then knew the password did. `clock` tells seconds.
    """

    def __init__(
        self, tries: int, pause: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tries, self._pause, self._clock = tries, pause, clock
        self._misses: dict[str, _Misses] = {}

    def wait(self, address: str) -> float:
        """Return how many seconds an address has to wait before it may try again."""
        now = self._clock()
        held = (self._misses.get(name) for name in (ALL, _network(address)))
        return max(0.0, *(each.until - now if each else 0.0 for each in held))

    def miss(self, address: str) -> None:
        """Note a wrong try."""
        now = self._clock()
        self._forget(now)
        for name, tries in ((ALL, self._tries * ALL_FACTOR), (_network(address), self._tries)):
            if name not in self._misses and len(self._misses) >= ADDRESSES_KEPT:
                continue  # the count of all together is there from the first one on
            misses = self._misses.setdefault(name, _Misses())
            misses.count, misses.latest = misses.count + 1, now
            # An exponent that grew for days would be too large for a number.
            doublings = min(misses.count - tries, 30)
            if doublings >= 0:
                misses.until = now + min(self._pause * 2.0**doublings, LONGEST_PAUSE_SECONDS)

    def hit(self, address: str) -> None:
        """Note a right try."""
        self._misses.pop(_network(address), None)

    def _forget(self, now: float) -> None:
        over = [
            name
            for name, misses in self._misses.items()
            if now - max(misses.latest, misses.until) > LONGEST_PAUSE_SECONDS
        ]
        for name in over:
            del self._misses[name]


def _network(address: str) -> str:
    """Return what counts as one address: of IPv6 the network, as each of its hosts has many."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address or "?"
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))
