"""Sentences: in English wherever they go, and with what it takes to say them otherwise."""

from __future__ import annotations

import json
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

    def to_json(self) -> list[Any]:
        """Return the sentence as a plain list that `from_json` reads back."""
        values = {
            name: value.to_json() if isinstance(value, Said) else value
            for name, value in self.values.items()
        }
        return [self.key, self.english, values]

    @classmethod
    def from_json(cls, kept: list[Any]) -> Said:
        """Build a sentence from a plain list; raises `ValueError` for what is none."""
        try:
            key, english, values = kept
            named = {
                name: cls.from_json(value) if isinstance(value, list) else value
                for name, value in values.items()
            }
            return cls(key, english, **named)
        except (TypeError, LookupError, AttributeError) as error:
            raise ValueError(f"{kept!r:.80} is no sentence.") from error


def write_sentence(sentence: str) -> str:
    """Return a sentence as a text to keep: under its English stands what translates it, as JSON."""
    if not isinstance(sentence, Said):
        return sentence
    text = f"{sentence}\n{json.dumps(sentence.to_json(), default=str)}"
    # A value that JSON has not may not come back as it was; then the English alone is kept.
    return text if isinstance(read_sentence(text), Said) else sentence


def read_sentence(text: str) -> str:
    """Return the sentence that was kept; a text that is only English stays as it is."""
    english, _, kept = text.rpartition("\n")
    try:
        said = Said.from_json(json.loads(kept))
    except ValueError:
        return text
    return said if said == english else text
