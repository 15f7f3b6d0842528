"""Streams: what is made piece by piece, in a thread of its own, one piece ahead of its use."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Piece = TypeVar("Piece")


def ahead(pieces: Generator[Piece, None, None]) -> Generator[Piece, None, None]:
    """Yield the pieces, the next being made while one is used; at most one waits.

    One thread runs the generator from its beginning to its end, as a mode of torch that it enters
    holds in the thread alone. What it raises is raised here. Once this generator is closed, so is
    that one, and the thread has ended.
    """
    with ThreadPoolExecutor(1, "ahead") as thread:
        try:
            coming = thread.submit(next, pieces, None)
            while (piece := coming.result()) is not None:
                coming = thread.submit(next, pieces, None)
                yield piece
                del piece
        finally:
            thread.submit(pieces.close).result()
