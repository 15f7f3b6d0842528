"""The lexicon: how every language names the world's subjects, and says what they do and where.

`assets/lexicon/names.json.gz` holds subject names from Unicode CLDR: locale -> subject id -> names,
the first one canonical. `assets/lexicon/<locale>.toml` is written by hand:

    comma = ", "                                        # between loosely joined parts
    both = "{first} und {second}"                       # two subjects in the place of one
    stop = "."                                          # at the end of a sentence
    patterns = ["{subject}[ {motion}][ {place}][ {time}]"]
    [names]                                             # optional, replaces names from CLDR
    whale = ["Wal"]
    [motions]
    run = ["rennt", "masculine form|feminine form"]
    run-engine = ["fährt"]                              # for subjects whose gait is `engine`
    [feminine]                                          # optional, which names are feminine
    endings = ["a"]
    also = ["car"]                                      # subject ids; `except` lists the others
    [relations]
    beside = ["{subject} und {other} nebeneinander"]
    [sizes]                                             # [counts] alike; the usual ones go unsaid
    huge = ["Riesen-{name}", "masculine {name}|feminine {name}"]
    [plurals]                                           # English ones that follow no rule
    wolf = "wolves"

A part in brackets goes, with all its letters, when its placeholder has nothing to say. A pattern
fits if it has a place for all that is said and needs nothing else; a plain placeholder needs its
words, and {name} is {subject} without its article. The tables places, times, motions, cameras,
styles and weathers map concept ids to phrases, single words among them. Captions are written to be
read by a network as people type: a name stays as it is, whatever case its place would ask for.
"""

from __future__ import annotations

import gzip
import json
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from aiprod_studio.errors import BadRequest
from aiprod_studio.models.tokens import normalise
from aiprod_studio.settings import settings
from aiprod_studio.training.world import load_world

SLOTS = ("motion", "place", "time")
PHRASE_KINDS = ("places", "times", "motions", "cameras", "styles", "weathers")
NOUN_KINDS = ("sizes", "counts")

_ENDINGS = ((r"([^aeiou])y$", r"\1ies"), (r"(s|x|z|ch|sh)$", r"\1es"), (r"$", "s"))
_WORD = re.compile(r"\w+")
_SLOT = re.compile(r"\{\w+\}")
# Letters of a hint; fewer are a word of many of the languages that are written in cased ones.
_LEAST, _LEAST_CASED = 2, 3

# Whose phrases a locale without its own borrows; the others borrow English ones.
_NEAR = {
    **dict.fromkeys(("gl", "ast", "qu", "quc"), "es"),
    **dict.fromkeys(("br", "oc", "wo", "rw", "lb"), "fr"),
    **dict.fromkeys(("dsb", "hsb", "rm"), "de"),
    **dict.fromkeys(("be", "ba", "cv", "kk", "ky", "mn", "tg", "tt", "hy", "ka"), "ru"),
    **dict.fromkeys(("hr", "sr-Latn", "bs", "sl", "sk", "sr-Latn-BA"), "cs"),
    **dict.fromkeys(("mk", "sr", "sr-Cyrl-BA"), "bg"),
    **dict.fromkeys(("az", "tk", "uz", "ug"), "tr"),
    **dict.fromkeys(("as",), "bn"),
    **dict.fromkeys(("gu", "pa", "ne", "or", "kok"), "hi"),
    **dict.fromkeys(("sd", "ps", "pa-Arab"), "ur"),
    **dict.fromkeys(("kn", "ml", "si"), "ta"),
    **dict.fromkeys(("fo", "is"), "da"),
    **dict.fromkeys(("jv",), "id"),
    **dict.fromkeys(("lo", "shn"), "th"),
    **dict.fromkeys(("yue", "zh-Hant-HK"), "zh-Hant"),
    **dict.fromkeys(("sc", "mt"), "it"),
    "nn": "nb",
    "af": "nl",
    "et": "fi",
    "yue-Hans": "zh",
}


@dataclass(frozen=True)
class Lexicon:
    """One written language: its patterns by which slots are filled, and its phrases by concept."""

    locale: str
    comma: str
    stop: str
    both: str
    patterns: dict[tuple[bool, ...], tuple[str, ...]]
    phrases: dict[str, dict[str, tuple[str, ...]]]
    names: dict[str, tuple[str, ...]]
    relations: dict[str, tuple[str, ...]]
    feminine: dict[str, tuple[str, ...]]
    plurals: dict[str, str]

    def is_feminine(self, subject: str, name: str) -> bool:
        """Return whether phrases written `m|f` take their second form for this name."""
        if subject in self.feminine.get("except", ()):
            return False
        return subject in self.feminine.get("also", ()) or name.endswith(
            self.feminine.get("endings", ())
        )


@cache
def written_languages() -> tuple[str, ...]:
    """Return the locales whose phrases and patterns are written by hand."""
    return tuple(sorted(path.stem for path in (settings().assets / "lexicon").glob("*.toml")))


@cache
def languages() -> tuple[str, ...]:
    """Return all locales that can name the world's subjects."""
    return tuple(sorted({*load_names(), *written_languages()}))


def nearest_written(locale: str) -> str:
    """Return the written language that a locale's own speakers would mix in."""
    while locale not in written_languages():
        if locale in _NEAR:
            return _NEAR[locale]
        locale = locale.rpartition("-")[0] or "en"
    return locale


@cache
def load_lexicon(locale: str) -> Lexicon:
    """Read one written language; raises BadRequest for any other."""
    if locale not in written_languages():
        raise BadRequest(f"No phrases are written in '{locale}'. Choose from written_languages().")
    path = settings().assets / "lexicon" / f"{locale}.toml"
    table = tomllib.loads(path.read_text("utf-8"))
    return Lexicon(
        locale,
        table["comma"],
        table["stop"],
        table["both"],
        {
            filled: _fill_in(table["patterns"], filled)
            for filled in product((False, True), repeat=3)
        },
        {kind: _read_phrases(table.get(kind, {})) for kind in (*PHRASE_KINDS, *NOUN_KINDS)},
        _read_phrases(table.get("names", {})),
        _read_phrases(table.get("relations", {})),
        _read_phrases(table.get("feminine", {})),
        table.get("plurals", {}),
    )


@cache
def load_names() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the subjects' names: locale -> subject id -> names, the canonical one first."""
    path = settings().assets / "lexicon" / "names.json.gz"
    packed = json.loads(gzip.decompress(path.read_bytes()))
    names = {locale: _read_phrases(table) for locale, table in packed.items()}
    names["en"] = {concept.id: concept.words for concept in load_world().subjects}
    for locale in written_languages():
        names[locale] = {**names.get(locale, {}), **load_lexicon(locale).names}
    return names


@cache
def plural(name: str) -> str:
    """Return the plural of a subject's English name; any other word as it is."""
    if name not in _english():
        return name
    irregular = load_lexicon("en").plurals
    head, of, rest = name.partition(" of ")
    before, space, noun = head.rpartition(" ")
    if name in irregular:
        return irregular[name]
    if noun in irregular:
        noun = irregular[noun]
    else:
        pattern, ending = next(pair for pair in _ENDINGS if re.search(pair[0], noun))
        noun = re.sub(pattern, ending, noun, count=1)
    return before + space + noun + of + rest


@cache
def _english() -> frozenset[str]:
    return frozenset(word for words in load_names()["en"].values() for word in words)


@cache
def known_names() -> tuple[tuple[str, ...], ...]:
    """Return what all languages call each concept: subjects, then the kinds that phrases name.

    Both stand in the order of class numbers. A name of two concepts goes to the one that more
    languages call so. A subject's name is left out where phrases use the word for something else,
    as "and", which is a duck in Danish; English ones stay, plurals among them.
    """
    called: dict[str, Counter[tuple[str, str]]] = {}
    used = _words_between()
    for kind, concept, phrase in _phrases():
        used.update(_WORD.findall(phrase))
        called.setdefault(phrase, Counter())[kind, concept] += 1
    for locale, table in load_names().items():
        for subject, names in table.items():
            if locale == "en":
                spelt = {normalise(each) for one in names for each in (one, plural(one))}
            else:
                spelt = {each for one in names for each in _spellings(one)} - used
            for name in sorted(spelt):
                called.setdefault(name, Counter())["subjects", subject] += 1
    kinds = load_world().kinds
    order = [(kind, each.id) for kind in ("subjects", *PHRASE_KINDS) for each in kinds[kind]]
    groups: dict[tuple[str, str], list[str]] = {concept: [] for concept in order}
    for name, concepts in sorted(called.items()):
        if len(name) > 1 or not name.isascii():
            groups[concepts.most_common(1)[0][0]].append(name)
    return tuple(tuple(names) for names in groups.values())


@cache
def known_hints() -> dict[tuple[str, str], tuple[str, ...]]:
    """Return what stands around subjects where a relation, a size or a number is told.

    By kind and concept. Left out are names, what joins any two subjects, what is too short, and
    what as many languages use for another concept.
    """
    told: dict[str, Counter[tuple[str, str]]] = {}
    for kind, concept, templates in _templates():
        for words in sorted({words for each in templates for words in _around(each)}):
            told.setdefault(words, Counter())[kind, concept] += 1
    joins = {words for each in _joins() for words in _around(each)}
    names = {name for group in known_names() for name in group}
    hints: dict[tuple[str, str], list[str]] = {}
    for words, concepts in sorted(told.items()):
        (meant, most), *others = concepts.most_common()
        if words not in names | joins and all(count < most for _, count in others):
            hints.setdefault(meant, []).append(words)
    return {concept: tuple(words) for concept, words in hints.items()}


def _around(template: str) -> set[str]:
    """Return the longest words around a template's subjects, with and without their marks."""
    parts = (part.strip(" ,，、،:：×") for part in _SLOT.split(normalise(template)))
    words = max(parts, key=len)
    cased = words.isascii() or words[:1].islower()
    least = _LEAST_CASED if cased else _LEAST
    return _spellings(words) if len(words) >= least or words.isdecimal() else set()


def _words_between() -> set[str]:
    """Return the words that stand around subjects: in relations, sizes, counts and lists."""
    templates = [*_joins(), *(each for _, _, several in _templates() for each in several)]
    return {word for template in templates for word in _WORD.findall(normalise(template))}


def _joins() -> list[str]:
    """Return how every language puts two subjects in the place of one."""
    return [load_lexicon(locale).both for locale in written_languages()]


def _templates() -> Iterator[tuple[str, str, list[str]]]:
    """Yield how every language tells of each relation, size and number: kind, concept, forms."""
    for lexicon in map(load_lexicon, written_languages()):
        nouns = {kind: lexicon.phrases[kind] for kind in NOUN_KINDS}
        for kind, table in {"relations": lexicon.relations, **nouns}.items():
            for concept, written in table.items():
                yield kind, concept, [form for each in written for form in each.split("|")]


def _phrases() -> Iterator[tuple[str, str, str]]:
    """Yield every written phrase with its kind and concept."""
    for locale in written_languages():
        lexicon = load_lexicon(locale)
        for kind in PHRASE_KINDS:
            for key, written in lexicon.phrases[kind].items():
                forms = [form for phrase in written for form in phrase.split("|")]
                for spelling in sorted({each for form in forms for each in _spellings(form)}):
                    yield kind, key.removesuffix("-engine"), spelling


def _spellings(name: str) -> set[str]:
    """Return a name as the tokeniser reads it, with and without its marks."""
    return {normalise(name), _bare(normalise(name))}


def _bare(text: str) -> str:
    """Return Latin letters without their marks, as many people type them."""
    if text.isascii() or "LATIN" not in unicodedata.name(text[0], ""):
        return text
    plain = unicodedata.normalize("NFD", text)
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def _read_phrases(table: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(phrases) for key, phrases in table.items()}


def _fill_in(patterns: list[str], filled: tuple[bool, ...]) -> tuple[str, ...]:
    """Return the patterns that fit when just these slots have words, without their brackets."""
    wanted = {"subject", *(slot for slot, full in zip(SLOTS, filled, strict=True) if full)}

    def choose(part: re.Match[str]) -> str:
        return part[1] if part[2] in wanted else ""

    fitting = []
    for pattern in patterns:
        text = re.sub(r"\[([^\[\]]*\{(\w+)\}[^\[\]]*)\]", choose, pattern).strip()
        if set(re.findall(r"\{(\w+)\}", text.replace("{name}", "{subject}"))) == wanted:
            fitting.append(text)
    return tuple(dict.fromkeys(fitting))
