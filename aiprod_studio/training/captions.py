"""Captions: a scene in words of any language, as people type, sometimes saying less than is seen.

The kinds of `labels` are those of the world, and `others` and `thirds`: the second and the third
subject of a relation.
"""

from __future__ import annotations

import random
import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from aiprod_studio.training.lexicon import (
    NOUN_KINDS,
    PHRASE_KINDS,
    Lexicon,
    languages,
    load_lexicon,
    nearest_written,
    written_languages,
)
from aiprod_studio.training.nouns import Name, list_names, write_noun
from aiprod_studio.training.world import ABSENT, load_world

__all__ = ["languages", "write_caption", "written_languages"]

_ENGLISH, _WRITTEN = 0.2, 0.8  # up to where a drawn language is English, or a written one
_MIXED = 0.06  # of drawn captions take their subject's name and the rest from two languages
_NAME_ALONE, _NEAR = 0.4, 0.75  # up to where a locale without phrases says a name, or borrows near
_SILENT = {
    "places": 0.1,
    "times": 0.1,
    "motions": 0.1,
    "cameras": 0.3,
    "styles": 0.5,
    "weathers": 0.2,
    "relations": 0.1,
    "sizes": 0.1,
    "counts": 0.1,
}
# What goes without saying is said less often.
_USUAL = {
    "times": "day",
    "motions": "still",
    "cameras": "still",
    "styles": "glossy",
    "weathers": "clear",
}
_FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_HALF_WIDTH = str.maketrans({"，": ", ", "、": ", ", "。": "."})
_MARKS = re.compile("(?<=[A-Za-zΑ-ωЕе])[\u0300-\u036f]+")  # й and ї are letters of their own
_ALPHABETS_END = "\u0900"  # below it letters are many and a slip of the finger leaves a word


@dataclass(frozen=True)
class _Voice:
    """One language by class numbers; a phrase is a pair of its masculine and feminine form."""

    lexicon: Lexicon
    phrases: dict[str, tuple[tuple[tuple[str, str], ...], ...]]
    engine_motions: tuple[tuple[tuple[str, str], ...], ...]


def write_caption(
    labels: dict[str, int], chance: random.Random, language: str | None = None
) -> tuple[str, dict[str, int]]:
    """Return a caption of a scene, and which concepts it names (`ABSENT`: not said), by kind.

    Without a `language` one is drawn: English for a fifth, a written language for three fifths.
    Nothing to name gives an empty caption; a language that is not known raises BadRequest.
    """
    locale, speech = _draw_languages(chance, language)
    voice = _voice(speech or "en")
    said = dict.fromkeys(labels, ABSENT)
    subject = labels.get("subjects", ABSENT)
    if subject == ABSENT:
        return _describe(None, labels, said, voice, chance), said
    said["subjects"] = subject
    name = chance.choice(list_names(locale)[subject])
    if speech is None:
        return _rough(name.text, voice.lexicon, chance), said
    return _describe(name, labels, said, voice, chance), said


def _draw_languages(chance: random.Random, language: str | None) -> tuple[str, str | None]:
    """Return the language of the name and that of the rest; None where a name is all."""
    written = written_languages()
    locale = language
    if locale is None:
        share = chance.random()
        if share < _ENGLISH:
            locale = "en"
        else:
            locale = chance.choice(_foreign() if share < _WRITTEN else _unwritten())
        if chance.random() < _MIXED:
            other = "en" if locale != "en" and chance.random() < 0.5 else chance.choice(written)
            return (locale, other) if chance.random() < 0.5 else (other, nearest_written(locale))
    near = nearest_written(locale)
    if locale == near or locale.startswith(f"{near}-"):
        return locale, near
    share = chance.random()
    if share < _NAME_ALONE:
        return locale, None
    return locale, near if share < _NEAR else "en"


def _describe(
    name: Name | None,
    labels: dict[str, int],
    said: dict[str, int],
    voice: _Voice,
    chance: random.Random,
) -> str:
    """Return the whole caption and note in `said` what it says besides the name."""
    related = _relate(name, labels, said, voice, chance) if name else ""
    words = {
        kind: _say(kind, name, labels, said, voice, chance)
        for kind in PHRASE_KINDS
        if not (related and kind == "motions")
    }
    motion, place, time = (words.get(kind, "") for kind in ("motions", "places", "times"))
    comma = voice.lexicon.comma
    if name and (not related or chance.random() < 0.5):
        fitting = voice.lexicon.patterns[bool(motion), bool(place), bool(time)]
        subject = related or _call(name, labels, said, voice, chance)
        if related or any(said.get(kind, ABSENT) != ABSENT for kind in NOUN_KINDS):
            fitting = tuple(pattern for pattern in fitting if "{name}" not in pattern)
        text = chance.choice(fitting).format(
            subject=subject, name=name.text, motion=motion, place=place, time=time
        )
    else:
        order = (related or motion, place, time)
        if chance.random() < 0.5:
            order = (place, time, related or motion)
        text = comma.join(filter(None, order))
    parts = [text, words.get("weathers", ""), words.get("cameras", "")]
    parts.insert(chance.choice((0, 3)), words.get("styles", ""))
    return _rough(comma.join(filter(None, parts)), voice.lexicon, chance)


def _relate(
    name: Name,
    labels: dict[str, int],
    said: dict[str, int],
    voice: _Voice,
    chance: random.Random,
) -> str:
    """Return all subjects in their relation, or nothing where there is none to tell."""
    relation, other = labels.get("relations", ABSENT), labels.get("others", ABSENT)
    if ABSENT in (relation, other) or chance.random() < _SILENT["relations"]:
        return ""
    lexicon = voice.lexicon
    templates = lexicon.relations.get(load_world().relations[relation].id, ())
    if not templates:
        return ""
    names = list_names(lexicon.locale)
    second = chance.choice(names[other])
    subject = _call(name, labels, said, voice, chance)
    others = write_noun(second, "", "", lexicon.locale, chance)
    said["relations"], said["others"] = relation, other
    third = labels.get("thirds", ABSENT)
    if third != ABSENT:
        one = write_noun(chance.choice(names[third]), "", "", lexicon.locale, chance)
        others = lexicon.both.format(first=others, second=one)
        said["thirds"] = third
    return chance.choice(templates).format(subject=subject, other=others)


def _call(
    name: Name,
    labels: dict[str, int],
    said: dict[str, int],
    voice: _Voice,
    chance: random.Random,
) -> str:
    """Return what the first subject is called, with its size and number where they are said."""
    size, count = (_say(kind, name, labels, said, voice, chance) for kind in NOUN_KINDS)
    return write_noun(name, size, count, voice.lexicon.locale, chance)


def _say(
    kind: str,
    name: Name | None,
    labels: dict[str, int],
    said: dict[str, int],
    voice: _Voice,
    chance: random.Random,
) -> str:
    """Return a phrase for what is seen of one kind, or nothing where the caption is silent."""
    concept = labels.get(kind, ABSENT)
    if concept == ABSENT:
        return ""
    engine = kind == "motions" and _has_engine(labels.get("subjects", ABSENT))
    phrases = (voice.engine_motions if engine else voice.phrases[kind])[concept]
    if not phrases or chance.random() < _silence(kind)[concept]:
        return ""
    said[kind] = concept
    return chance.choice(phrases)[name is not None and name.feminine]


@cache
def _foreign() -> tuple[str, ...]:
    return tuple(locale for locale in written_languages() if locale != "en")


@cache
def _unwritten() -> tuple[str, ...]:
    return tuple(locale for locale in languages() if locale not in written_languages())


@cache
def _silence(kind: str) -> tuple[float, ...]:
    """Return how often captions leave a concept out, by its class number."""
    usual = _USUAL.get(kind)
    return tuple(
        _SILENT[kind] + 0.2 * (concept.id == usual) for concept in load_world().kinds[kind]
    )


@cache
def _has_engine(subject: int) -> bool:
    return subject != ABSENT and load_world().subjects[subject].facts.get("gait") == "engine"


@cache
def _voice(locale: str) -> _Voice:
    """Return a written language with its phrases in the order of the world's class numbers."""
    lexicon = load_lexicon(locale)
    kinds = load_world().kinds
    phrases = {
        kind: tuple(_pairs(lexicon, kind, concept.id) for concept in kinds[kind])
        for kind in (*PHRASE_KINDS, *NOUN_KINDS)
    }
    engines = tuple(
        _pairs(lexicon, "motions", f"{motion.id}-engine") or pairs
        for motion, pairs in zip(kinds["motions"], phrases["motions"], strict=True)
    )
    return _Voice(lexicon, phrases, engines)


def _pairs(lexicon: Lexicon, kind: str, concept: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for phrase in lexicon.phrases[kind].get(concept, ()):
        masculine, _, feminine = phrase.partition("|")
        pairs.append((masculine, feminine or masculine))
    return tuple(pairs)


def _rough(text: str, lexicon: Lexicon, chance: random.Random) -> str:
    """Write as people type: other case, width and stops, marks left out, slips of the finger."""
    if not text:
        return text
    style = chance.random()
    if style < 0.2:
        text = text[:1].upper() + text[1:] + lexicon.stop
    elif style < 0.25:
        text = text.upper()
    elif style < 0.35:
        text = text.lower()
    elif style < 0.38:
        text += chance.choice(("!", "!!", "...", " .", lexicon.stop * 2))
    elif style < 0.41 and lexicon.stop == "。":
        text = text.translate(chance.choice((_FULL_WIDTH, _HALF_WIDTH)))
    if chance.random() < 0.08:
        text = _strip_marks(text)
    return _slip(text, chance) if chance.random() < 0.08 else text


def _strip_marks(text: str) -> str:
    """Return Latin and Greek letters and ё without their marks; all other scripts as they are."""
    if text.isascii():
        return text
    bare = _MARKS.sub("", unicodedata.normalize("NFD", text))
    return unicodedata.normalize("NFC", bare)


def _slip(text: str, chance: random.Random) -> str:
    """Return the text with one letter lost, doubled or swapped with its neighbour."""
    if len(text) <= 8:
        return text
    at = chance.randrange(1, len(text) - 1)
    letter, following = text[at], text[at + 1]
    if max(letter, following) >= _ALPHABETS_END:
        return text
    slip = chance.choice((following, letter * 2 + following, following + letter))
    return text[:at] + slip + text[at + 2 :]
