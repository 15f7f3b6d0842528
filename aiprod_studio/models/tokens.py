"""Tokens: a prompt as characters, with terms that are one token and names that are marked.

A token's lower bits are 0 for padding, 1…512 for a term, or 513 and the code point of a character;
above them stands which thing it names, from 1, or 0. Names are found as whole words, with a few
letters of inflection behind them; where a script puts no spaces between words, anywhere.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

PADDING = 0
TERM_ROWS = 512
FIRST_CHARACTER = 1 + TERM_ROWS
MARK = 2**21  # tokens are counted below it, what they name above it
_INFLECTION = 3  # letters that may follow a name of at least four, or its stem
_LEAST_NAME, _LEAST_WITH_STEM = 4, 6
# Articles and conjunctions that are written as one word with what follows.
_JOINED = ("ال", "وال", "بال", "لل", "ה")
# Thai, Lao, Myanmar, Khmer, kana, Chinese characters.
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x9FFF))
_HANGUL = ((0xAC00, 0xD7A3),)


@dataclass(frozen=True)
class Vocabulary:
    """The terms that are tokens of their own, at most 512, and the names of each known thing."""

    terms: tuple[str, ...] = ()
    names: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def terms_by_text(self) -> dict[str, int]:
        """The numbers of the terms, from 1."""
        return {term: 1 + index for index, term in enumerate(self.terms)}

    @cached_property
    def things_by_name(self) -> dict[str, int]:
        """The numbers of the things, from 1, by every name and stem."""
        things = {
            normalise(name): number for number, names in enumerate(self.names, 1) for name in names
        }
        for name, number in list(things.items()):
            if len(name) >= _LEAST_WITH_STEM and not _among(name[-1], _UNSPACED):
                things.setdefault(name[:-1], number)
        return things

    @cached_property
    def longest(self) -> tuple[int, int]:
        """The characters of the longest term and of the longest name."""
        terms, names = self.terms_by_text, self.things_by_name
        return max(map(len, terms), default=0), max(map(len, names), default=0)


def normalise(text: str) -> str:
    """Return a text without differences of case, width and composition, spaces once."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def tokenise(prompts: Sequence[str], vocabulary: Vocabulary, longest: int) -> Tensor:
    """Return tokens `[B, L]` of at most `longest` a prompt, padded with 0."""
    rows = [_tokens(normalise(prompt), vocabulary)[:longest] for prompt in prompts]
    length = max(1, *map(len, rows)) if rows else 1
    return torch.tensor([row + [PADDING] * (length - len(row)) for row in rows])


def _tokens(text: str, vocabulary: Vocabulary) -> list[int]:
    marks = _marks(text, vocabulary)
    tokens: list[int] = []
    at = 0
    while at < len(text):
        end = None
        if not (at and text[at - 1].isalnum()):
            end = _end_of_term(text, at, vocabulary.terms_by_text, vocabulary.longest[0])
        token = vocabulary.terms_by_text[text[at:end]] if end else FIRST_CHARACTER + ord(text[at])
        tokens.append(token + MARK * marks[at])
        at = end or at + 1
    return tokens


def _end_of_term(text: str, at: int, known: Mapping[str, int], longest: int) -> int | None:
    """Return the end of the longest known term that begins here and ends with its word."""
    for end in range(min(len(text), at + longest), at + 1, -1):
        whole = end == len(text) or not text[end].isalnum()
        if whole and text[at:end] in known:
            return end
    return None


def _marks(text: str, vocabulary: Vocabulary) -> list[int]:
    """Return for each character the number of the thing that its name names, or 0."""
    known, longest = vocabulary.things_by_name, vocabulary.longest[1]
    marks = [0] * len(text)
    at = 0
    while known and at < len(text):
        end = at
        if _begins_word(text, at):
            joined = [len(one) for one in _JOINED if text.startswith(one, at)]
            for start in (at, *(at + skipped for skipped in joined)):
                end = _end_of_name(text, start, known, longest)
                if end > start:
                    marks[start:end] = [known[text[start:end]]] * (end - start)
                    break
        at = max(at + 1, end)
    return marks


def _end_of_name(text: str, at: int, known: Mapping[str, int], longest: int) -> int:
    """Return the end of the longest known name that begins here, or `at`."""
    for end in range(min(len(text), at + longest), at, -1):
        if text[at:end] in known and _ends_name(text, at, end):
            return end
    return at


def _ends_name(text: str, at: int, end: int) -> bool:
    """Say whether a name may end here: with its word, or before a few letters of inflection."""
    if end == len(text) or not _is_letter(text[end]) or _among(text[end - 1], _UNSPACED):
        return True
    if end - at < _LEAST_NAME and not _among(text[end - 1], _HANGUL):
        return False
    rest = text[end : end + _INFLECTION + 1]
    return len(rest) <= _INFLECTION or not all(map(_is_letter, rest))


def _begins_word(text: str, at: int) -> bool:
    """Say whether a name may begin here."""
    return at == 0 or not _is_letter(text[at - 1]) or _among(text[at], _UNSPACED)


def _is_letter(character: str) -> bool:
    """Say whether a character is part of a word; vowel signs of Indic scripts are marks."""
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def _among(character: str, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= ord(character) <= last for first, last in ranges)
