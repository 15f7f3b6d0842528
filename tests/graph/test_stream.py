"""Pieces that are made ahead of their use: in order, in one thread that ends with them."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch

from aiprod_studio.graph.stream import ahead

SOON = 30.0


class Diary:
    """A maker of numbers, with what it did and in which threads."""

    def __init__(self, count: int = 5, broken: int = -1) -> None:
        self.made = [threading.Event() for _ in range(count)]
        self.broken = broken
        self.threads: set[threading.Thread] = set()
        self.closed = False

    def make(self) -> Iterator[int]:
        """Yield the numbers, in inference mode; there is no memory for the one that is `broken`."""
        try:
            with torch.inference_mode():
                for number, made in enumerate(self.made):
                    if number == self.broken:
                        torch.empty(2**55, dtype=torch.uint8)
                    made.set()
                    self.threads.add(threading.current_thread())
                    yield number
        finally:
            self.closed = True
            self.threads.add(threading.current_thread())

    @property
    def count(self) -> int:
        """How many were made."""
        return sum(made.is_set() for made in self.made)

    def is_over(self) -> bool:
        """Say whether it was closed in its one thread, which has ended and is not ours."""
        [thread] = self.threads
        return self.closed and not thread.is_alive() and thread is not threading.current_thread()


def test_the_next_is_made_while_one_is_used_and_no_more() -> None:
    diary = Diary()
    for number in ahead(diary.make()):
        if number < 4:
            assert diary.made[number + 1].wait(SOON)
        assert diary.count == min(number + 2, 5)
        assert not torch.is_inference_mode_enabled()
    assert number == 4
    assert diary.is_over()


def test_nothing_is_made_before_it_is_asked_for() -> None:
    diary, before = Diary(), threading.active_count()
    with closing(ahead(diary.make())):
        assert threading.active_count() == before
    assert diary.count == 0


@pytest.mark.parametrize("broken", [0, 1, 3])
def test_an_error_comes_in_its_turn(broken: int) -> None:
    diary, taken = Diary(broken=broken), []
    with pytest.raises(RuntimeError, match="allocate"):
        taken.extend(ahead(diary.make()))
    assert diary.count == broken
    assert diary.is_over()


def test_who_stops_early_closes_the_maker() -> None:
    diary = Diary()
    with closing(ahead(diary.make())) as numbers:
        assert next(numbers) == 0
    assert diary.is_over()


def test_an_error_keeps_nothing_once_it_is_handled() -> None:
    """What the maker held, and what waited for its use."""
    alive: list[weakref.ref[torch.Tensor]] = []

    def make() -> Iterator[torch.Tensor]:
        for _ in range(3):
            held = torch.zeros(9)
            alive.append(weakref.ref(held))
            yield held.clone()
        torch.empty(2**55, dtype=torch.uint8)

    said = ""
    try:
        for piece in ahead(make()):
            alive.append(weakref.ref(piece))
    except RuntimeError as error:
        said = str(error)
    del piece
    gc.collect()
    assert "allocate" in said
    assert [one() for one in alive] == [None] * 6
