"""Sentences: in English wherever they go, and with what it takes to say them otherwise."""

from __future__ import annotations

from typing import Any


class Said(str):
    """An English sentence that knows the `key` and the `values` by which a page translates it.

    `english` holds the names of the values in braces. In a log, a file or a terminal it is a text
    like any other; an error keeps it as its message.
    """

    __slots__ = ("english", "key", "values")

    key: str
    english: str
    values: dict[str, Any]

    def __new__(cls, key: str, english: str, **values: Any) -> Said:
        """Return the sentence with its values put in."""
        said = super().__new__(cls, english.format(**values))
        said.key, said.english, said.values = key, english, values
        return said

    def __str__(self) -> str:
        return self  # so that the text of an error is the sentence itself

    def __getnewargs_ex__(self) -> tuple[tuple[str, str], dict[str, Any]]:
        return (self.key, self.english), self.values
