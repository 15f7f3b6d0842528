"""Subject names from Unicode CLDR: what every locale calls the emoji that draw the world."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path

from aiprod_studio.training.world import load_world

_MIN_COVERAGE = 0.5  # of the subjects, below which a locale is left out
_MIN_DIFFERENT = 10  # names by which a regional locale must differ from its parent
_SURE = 2  # pairs of names that must agree on where a locale puts the noun
_RARE = 3  # emoji that may share a keyword which still is a name

# Other emoji of the same thing: what both are called is the thing's plain name.
_SAME = {
    "dog": "1f436",
    "cat": "1f431",
    "horse": "1f434",
    "whale": "1f40b",
    "rabbit": "1f430",
    "apple": "1f34f",
    "tiger": "1f42f",
    "cow": "1f42e",
    "pig": "1f437",
    "mouse": "1f42d",
    "monkey": "1f435",
    "chick": "1f424",
    "dragon": "1f432",
    "star": "1f31f",
    "heart": "1f9e1",
    "car": "1f698",
    "bus": "1f68d",
    "taxi": "1f696",
    "tram": "1f68b",
    "airplane": "1f6e9",
    "house": "1f3e1",
    "book": "1f4d5",
    "camera": "1f4f8",
    "key": "1f5dd",
    "snowman": "2603",
    "dinosaur": "1f995",
    "tree": "1f332",
    "castle": "1f3ef",
    "cake": "1f370",
    "ball": "1f3d0",
    "ice-cream": "1f368",
    "top-hat": "1f452",
    "umbrella": "1f302",
}
# Emoji whose own name is the subject's plainest name.
_ALSO = {"train": "1f686", "whale": "1f40b", "ice-cream": "1f368"}
# Emoji whose keywords are never the subject's name: a snowman is not snow.
_APART = {
    "snowman": "2744 1f328",
    "umbrella": "1f327",
    "cake": "1f973 1f388",
    "tree": "1f343",
}
# Sprites that show a face, and more emoji from which a locale's word for face can be learnt.
_FACES = (
    *("1f43a", "1f98a", "1f99d", "1f981", "1f439", "1f43b", "1f428", "1f43c", "1f438", "1f984"),
    *("1f916", "1f921"),
)
_MORE_FACES = (
    *("1f436", "1f431", "1f42d", "1f42e", "1f42f", "1f430", "1f434", "1f437", "1f435", "1f432"),
)
# Their emoji's names tell a pose that no prompt does: spouting, without snow, front-facing.
_POSED = ("whale", "snowman", "chick")
# Their noun alone would name something else: a slice, an officer, a bear.
_NO_HEAD = (
    *("brontosaurus", "ice-cream", "pizza", "polar-bear", "police-car", "police-officer"),
    *("santa-claus", "snowman"),
)
_SOUNDS_LIKE = 0.85  # the share of equal letters from which two words are spellings of one
_BREAKS = re.compile(r"[,;:،、，/|]")


@dataclass(frozen=True)
class Annotations:
    """One locale's names and keywords by emoji, without variation selectors."""

    names: dict[str, str]
    keywords: dict[str, tuple[str, ...]]

    @cached_property
    def frequency(self) -> Counter[str]:
        """How many emoji share a keyword."""
        return Counter(word.casefold() for words in self.keywords.values() for word in set(words))

    @cached_property
    def face_words(self) -> frozenset[str]:
        """The words that many names of animal faces share, such as "face" itself."""
        faces = [self.names[f].casefold() for f in map(_emoji, _FACES + _MORE_FACES) if f in self]
        count = Counter(word for name in faces for word in set(name.split()))
        return frozenset(word for word, times in count.items() if times >= max(3, len(faces) / 4))

    @cached_property
    def head(self) -> int | None:
        """Where a name of several words has its noun: 0 first, -1 last, None not known."""
        votes = 0
        sprites = {s.id: s.facts["sprite"] for s in load_world().subjects}
        for subject, same in _SAME.items():
            one, other = _emoji(sprites[subject]), _emoji(same)
            if one not in self or other not in self:
                continue
            name = self.names[one].casefold().split()
            for word in self.keywords[one]:
                shared = word.casefold()
                if len(name) > 1 and shared in map(str.casefold, self.keywords[other]):
                    votes += (name[0] == shared) - (name[-1] == shared)
        if abs(votes) < _SURE:
            return None
        return 0 if votes > 0 else -1

    def __contains__(self, emoji: str) -> bool:
        return emoji in self.names


def pack_names(cldr: Path, target: Path) -> None:
    """Write the subjects' names in all locales of the package cldr-annotations-full to `target`.

    `cldr` is the unpacked package's folder; the gzip file holds locale -> subject id -> names.
    """
    tables = {path.name: _read_table(path) for path in sorted((cldr / "annotations").iterdir())}
    english = set(_read_annotations(tables["en"]).names.items())
    packed = {}
    for locale, table in tables.items():
        parent = tables.get(_parent(locale), {})
        rows = {key: parent.get(key, {}) | table.get(key, {}) for key in parent | table}
        found = _read_annotations(rows)
        names = name_subjects(found)
        foreign = len(english & set(found.names.items())) > len(found.names) / 2
        poor = len(names) < _MIN_COVERAGE * len(load_world().subjects)
        if poor or (foreign and not locale.startswith("en")):
            continue
        if parent and _difference(names, name_subjects(_read_annotations(parent))) < _MIN_DIFFERENT:
            continue
        packed["nb" if locale == "no" else locale] = names
    text = json.dumps(packed, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    target.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def name_subjects(found: Annotations) -> dict[str, list[str]]:
    """Return the names of the world's subjects in one locale, no name given to two of them."""
    names = {}
    for subject in load_world().subjects:
        emoji = _emoji(subject.facts["sprite"])
        if emoji in found:
            names[subject.id] = _name_subject(subject.id, emoji, found)
    return _resolve(names)


def _name_subject(subject: str, emoji: str, found: Annotations) -> list[str]:
    """Return the names of one subject, the plainest first."""
    name, words = found.names[emoji], found.keywords[emoji]
    if emoji in map(_emoji, _FACES):
        plain = [word for word in words if _is_faced(word, name, found)]
        order = sorted(plain, key=len) or [_lose_face(name, words, found)]
    else:
        plain = [word for word in words if _is_plain(word, subject, emoji, found)]
        spellings = [word for word in words if _is_spelling(word, subject, name, found)]
        plain = sorted(plain, key=len, reverse=True)[:1]
        order = plain if plain and subject in _POSED else [*plain, name, *spellings]
    also = found.names.get(_emoji(_ALSO.get(subject, "")))
    unique: dict[str, str] = {}
    for word in [also, *order] if also else order:
        unique.setdefault(word.casefold(), word)
    return list(unique.values())


def _is_faced(word: str, name: str, found: Annotations) -> bool:
    """Return whether a keyword is the animal in the name of its face, such as "lion face"."""
    key = word.casefold()
    if key in found.face_words or found.frequency[key] > _RARE or key == name.casefold():
        return False
    parts = name.casefold().split()
    if len(parts) == 1:
        return key in parts[0]
    return any(part.startswith(key) and len(key) > 0.6 * len(part) for part in parts)


def _lose_face(name: str, words: tuple[str, ...], found: Annotations) -> str:
    """Return the keyword closest to what the name inflects, or the name less its face words."""
    rest = [part for part in name.split() if part.casefold() not in found.face_words]
    if not rest or len(rest) == len(name.split()):
        return name
    whole = " ".join(rest)
    rare = [w for w in words if found.frequency[w.casefold()] <= _RARE and w != name]
    alike = [(SequenceMatcher(None, w.casefold(), whole.casefold()).ratio(), w) for w in rare]
    alike = [(r, w) for r, w in alike if r > 0.7 or (r > 0.55 and w[0] == whole[0])]
    return max(alike)[1] if alike else whole


def _is_apart(key: str, subject: str, found: Annotations) -> bool:
    """Return whether a keyword belongs to something that the subject must not be taken for."""
    others = map(_emoji, _APART.get(subject, "").split())
    return any(key in map(str.casefold, found.keywords.get(other, ())) for other in others)


def _is_plain(word: str, subject: str, emoji: str, found: Annotations) -> bool:
    """Return whether a keyword is the thing's plain name, such as "dog" of "dog face"."""
    key, name = word.casefold(), found.names[emoji].casefold()
    if _BREAKS.search(word) or key == name or found.face_words.intersection(key.split()):
        return False
    if _is_apart(key, subject, found):
        return False
    same = _emoji(_SAME.get(subject, ""))
    if not same or same not in found:
        return False
    twin = found.names[same].casefold()
    shared = key == twin or key in map(str.casefold, found.keywords[same])
    if subject == "dinosaur":  # its two emoji have no word in common but this
        return shared and found.frequency[key] <= _RARE and " " not in key
    if key in name and key in twin:
        return shared
    return shared and found.frequency[key] <= _RARE + 1 and (key in name or key == twin)


def _is_spelling(word: str, subject: str, name: str, found: Annotations) -> bool:
    """Return whether a keyword is the name's noun alone, or the name spelt in another way."""
    key, parts = word.casefold(), name.casefold().split()
    if _BREAKS.search(word) or "(" in word or found.frequency[key] > _RARE:
        return False
    if len(parts) > 1 and found.head is not None and key == parts[found.head]:
        return subject not in _NO_HEAD
    alike = SequenceMatcher(None, key, name.casefold()).ratio()
    return len(key.split()) == len(parts) and alike > _SOUNDS_LIKE


def _resolve(names: dict[str, list[str]]) -> dict[str, list[str]]:
    """Leave every name to the subject that it fits best: the one that puts it first."""
    claims = defaultdict(list)
    for subject, words in names.items():
        for rank, word in enumerate(words):
            claims[word.casefold()].append((rank, len(words), subject))
    owner = {word: min(claim)[2] for word, claim in claims.items()}
    kept = {s: [w for w in words if owner[w.casefold()] == s] for s, words in names.items()}
    return {subject: words for subject, words in kept.items() if words}


def _difference(names: dict[str, list[str]], parent: dict[str, list[str]]) -> int:
    return sum(words != parent.get(subject) for subject, words in names.items())


def _parent(locale: str) -> str:
    """Return the locale that a regional one adds to, or nothing."""
    special = {"es-MX": "es-419", "es-US": "es-419", "nn": "no", "zh-Hant": "", "yue-Hans": ""}
    special |= {"sr-Latn": "", "kk-Arab": "", "pa-Arab": "", "ff-Adlm": "", "hi-Latn": ""}
    return special.get(locale, locale.rpartition("-")[0])


def _read_table(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Return a locale's annotations by emoji without variation selectors."""
    table = json.loads((folder / "annotations.json").read_text("utf-8"))["annotations"]
    return {_plain_emoji(key): row for key, row in table.get("annotations", {}).items()}


def _read_annotations(table: dict[str, dict[str, list[str]]]) -> Annotations:
    names = {key: _clean(row["tts"][0]) for key, row in table.items() if row.get("tts")}
    words = {key: tuple(map(str.strip, table[key].get("default", ()))) for key in names}
    return Annotations({key: name for key, name in names.items() if name}, words)


def _clean(name: str) -> str:
    """Return a name without what stands in brackets or after a comma."""
    name = re.sub(r"\(.*?\)|（.*?）|\[.*?\]", "", name)
    return " ".join(_BREAKS.split(name)[0].strip(" .।“”\"'").split())


def _emoji(codes: str) -> str:
    return _plain_emoji("".join(chr(int(code, 16)) for code in codes.split("-") if code))


def _plain_emoji(emoji: str) -> str:
    return emoji.replace("\ufe0f", "")
