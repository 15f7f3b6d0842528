"""Nouns: what subjects are called, with their size, their number and an article."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from aiprod_studio.errors import BadRequest
from aiprod_studio.training.lexicon import (
    languages,
    load_lexicon,
    load_names,
    nearest_written,
    plural,
)
from aiprod_studio.training.world import load_world

_CONSONANT = ("uni", "ufo")  # sound as if they began with one


@dataclass(frozen=True)
class Name:
    """A subject's name and whether phrases agree with it in the feminine."""

    text: str
    feminine: bool


@cache
def list_names(locale: str) -> tuple[tuple[Name, ...], ...]:
    """Return the names of the subjects by class number, in English where the locale has none.

    Raises `BadRequest` for a language that is not known.
    """
    if locale not in languages():
        raise BadRequest(f"No names are known in '{locale}'. Choose one of languages().")
    table, english = load_names()[locale], load_names()["en"]
    near = load_lexicon(nearest_written(locale))
    return tuple(
        tuple(
            Name(text, near.is_feminine(subject.id, text))
            for text in table.get(subject.id) or english[subject.id]
        )
        for subject in load_world().subjects
    )


def write_noun(name: Name, size: str, count: str, locale: str, chance: random.Random) -> str:
    """Return a name in templates of a size and a count, either of them perhaps empty.

    English has an article where it does not count, and a plural where it does.
    """
    text = name.text
    if locale == "en" and count:
        text = plural(text)
    text = size.format(name=text) if size else text
    if count:
        return count.format(name=text)
    return _with_article(text, chance) if locale == "en" else text


def _with_article(name: str, chance: random.Random) -> str:
    article = "an" if name[0] in "aeiouAEIOU" and not name.startswith(_CONSONANT) else "a"
    if name.endswith("ies"):
        article = "some"
    return chance.choice((f"{article} {name}", f"{article} {name}", f"the {name}", name))
