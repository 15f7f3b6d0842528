"""The lock-out: who has to wait after wrong passwords, and for how long."""

from __future__ import annotations

from aiprod_studio.ui.lockout import LONGEST_PAUSE_SECONDS, Lockout


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def test_pauses_grow_for_one_address_and_end() -> None:
    clock = Clock()
    lockout = Lockout(3, 10.0, clock)
    for _ in range(2):
        lockout.miss("10.0.0.1")
        assert lockout.wait("10.0.0.1") == 0.0
    pauses = []
    for _ in range(3):
        lockout.miss("10.0.0.1")
        pauses.append(lockout.wait("10.0.0.1"))
        clock.now += pauses[-1]
        assert lockout.wait("10.0.0.1") == 0.0
    assert pauses == [10.0, 20.0, 40.0]
    assert lockout.wait("10.0.0.2") == 0.0
    lockout.hit("10.0.0.1")
    lockout.miss("10.0.0.1")
    assert lockout.wait("10.0.0.1") == 0.0


def test_many_addresses_together_are_locked_out() -> None:
    lockout = Lockout(3, 10.0, Clock())
    for number in range(30):
        lockout.miss(f"10.0.1.{number}")
    assert lockout.wait("10.0.0.1") == 10.0


def test_the_addresses_of_one_network_are_one_in_ipv6() -> None:
    lockout = Lockout(1, 10.0, Clock())
    lockout.miss("2001:db8::1")
    assert lockout.wait("2001:db8::ffff:2") == 10.0
    assert lockout.wait("2001:db8:1::1") == 0.0
    lockout.miss("::ffff:10.0.0.7")
    assert lockout.wait("10.0.0.7") == 10.0
    assert lockout.wait("10.0.0.8") == 0.0


def test_a_pause_has_an_end_and_an_hour_is_enough_to_forget() -> None:
    clock = Clock()
    lockout = Lockout(1, 10.0, clock)
    for _ in range(2000):
        lockout.miss("10.0.0.1")
    assert lockout.wait("10.0.0.1") == LONGEST_PAUSE_SECONDS
    clock.now += 2 * LONGEST_PAUSE_SECONDS + 1
    lockout.miss("10.0.0.2")
    assert lockout.wait("10.0.0.2") == 10.0
    assert lockout.wait("10.0.0.3") == 0.0
