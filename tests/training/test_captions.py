import random
import unicodedata
from collections import Counter

import pytest

from aiprod_studio.errors import BadRequest
from aiprod_studio.training.captions import ABSENT, languages, write_caption, written_languages
from aiprod_studio.training.lexicon import load_names, nearest_written
from aiprod_studio.training.world import load_world

SCRIPTS = [
    *(("ar", "ARABIC"), ("fa", "ARABIC"), ("ur", "ARABIC"), ("he", "HEBREW"), ("el", "GREEK")),
    *(("hi", "DEVANAGARI"), ("mr", "DEVANAGARI"), ("bn", "BENGALI"), ("ta", "TAMIL")),
    *(("te", "TELUGU"), ("ru", "CYRILLIC"), ("uk", "CYRILLIC"), ("bg", "CYRILLIC")),
    *(("th", "THAI"), ("ko", "HANGUL"), ("zh", "CJK"), ("zh-Hant", "CJK")),
]


@pytest.fixture
def chance():
    return random.Random(7)


def draw_labels(chance):
    return {kind: chance.randrange(len(rows)) for kind, rows in load_world().kinds.items()}


def names_of(locale, subject):
    concept = load_world().subjects[subject].id
    return load_names()[locale].get(concept, load_names()["en"][concept])


def test_the_same_seed_writes_the_same_captions():
    def write(seed):
        chance = random.Random(seed)
        return [write_caption(draw_labels(chance), chance) for _ in range(50)]

    assert write(3) == write(3)
    assert write(3) != write(4)


def test_captions_name_only_what_is_seen(chance):
    for _ in range(2000):
        labels = draw_labels(chance)
        text, said = write_caption(labels, chance)
        assert text
        assert said["subjects"] == labels["subjects"]
        assert said.keys() == labels.keys()
        assert all(said[kind] in (ABSENT, labels[kind]) for kind in labels)


@pytest.mark.parametrize("locale", written_languages())
def test_captions_are_clean_and_complete(locale, chance):
    for _ in range(60):
        labels = draw_labels(chance)
        text, said = write_caption(labels, chance, locale)
        assert not set("[]{}|_").intersection(text)
        assert text.strip() == text
        assert len(text) >= min(map(len, names_of(locale, labels["subjects"]))) - 1
        if said["places"] != ABSENT:
            assert len(text) > len(min(names_of(locale, labels["subjects"]), key=len))


@pytest.mark.parametrize(("locale", "script"), SCRIPTS)
def test_captions_keep_to_their_script(locale, script, chance):
    captions = [write_caption(draw_labels(chance), chance, locale)[0] for _ in range(40)]
    letters = [letter for letter in "".join(captions) if letter.isalpha()]
    native = sum(script in unicodedata.name(letter, "") for letter in letters)
    assert native > 0.9 * len(letters)


def test_every_locale_writes(chance):
    for locale in languages():
        text, said = write_caption(draw_labels(chance), chance, locale)
        assert text
        assert said["subjects"] != ABSENT


def test_drawn_languages_have_their_shares(chance):
    subject = next(i for i, s in enumerate(load_world().subjects) if s.id == "butterfly")
    owners = {}
    for locale in ("en", *written_languages()):
        for name in names_of(locale, subject):
            owners.setdefault(name.casefold(), locale)
    found = Counter()
    for _ in range(4000):
        text = write_caption({"subjects": subject}, chance)[0].casefold()
        found[next((owner for name, owner in owners.items() if name in text), "other")] += 1
    assert 0.15 < found["en"] / 4000 < 0.3
    assert len(found) > 30


def test_labels_may_be_absent_or_lacking(chance):
    for locale in written_languages():
        text, said = write_caption({"subjects": 0, "places": ABSENT}, chance, locale)
        assert text
        assert said == {"subjects": 0, "places": ABSENT}
        text, said = write_caption({"subjects": ABSENT, "places": 2}, chance, locale)
        assert bool(text) == (said["places"] != ABSENT)


def test_a_relation_names_both_subjects_and_no_motion(chance):
    relations = [concept.id for concept in load_world().relations]
    labels = {"subjects": 0, "others": 1, "motions": 1, "relations": relations.index("beside")}
    for locale in written_languages():
        text, said = write_caption(labels, chance, locale)
        while said["relations"] == ABSENT:
            assert said["others"] == ABSENT
            text, said = write_caption(labels, chance, locale)
        assert said == labels | {"motions": ABSENT}
        assert len(text) > len(min(names_of(locale, 0), key=len))


@pytest.mark.parametrize("locale", written_languages())
def test_sizes_and_counts_are_said_and_what_is_usual_is_not(locale, chance):
    labels = {"subjects": 0, "sizes": 2, "counts": 1}
    words = {kind: set() for kind in labels}
    for _ in range(60):
        text, said = write_caption(labels, chance, locale)
        assert text
        for kind in ("sizes", "counts"):
            assert said[kind] in (ABSENT, labels[kind])
            words[kind].add(said[kind])
    assert words["sizes"] == {ABSENT, 2}
    assert words["counts"] == {ABSENT, 1}
    usual = {"subjects": 0, "sizes": 0, "counts": 0}
    assert write_caption(usual, chance, locale)[1] == {"subjects": 0, "sizes": -1, "counts": -1}


def test_three_are_named_with_their_relation(chance):
    relations = [concept.id for concept in load_world().relations]
    labels = {"subjects": 0, "others": 1, "thirds": 3, "relations": relations.index("beside")}
    for locale in written_languages():
        text, said = write_caption(labels, chance, locale)
        while said["relations"] == ABSENT:
            assert said["others"] == said["thirds"] == ABSENT
            text, said = write_caption(labels, chance, locale)
        assert said == labels
        assert len(text) > len(min(names_of(locale, 3), key=len))


def test_english_says_sizes_and_counts_as_people_do():
    chance = random.Random(2)
    cats = {"subjects": 1, "counts": 2, "sizes": 4}
    captions = {write_caption(cats, chance, "en")[0] for _ in range(200)}
    assert {"three huge cats", "a group of three giant kittens"} <= captions
    assert not any(" a three" in text or "cat " in text for text in captions)


def test_phrases_agree_with_feminine_names():
    subject = next(i for i, s in enumerate(load_world().subjects) if s.id == "butterfly")
    run = next(i for i, m in enumerate(load_world().motions) if m.id == "fly")
    chance = random.Random(1)
    labels = {"subjects": subject, "motions": run}
    captions = [write_caption(labels, chance, "ar")[0] for _ in range(60)]
    assert any("تطير" in text for text in captions)
    assert not any("يطير" in text for text in captions)


def test_a_locale_with_names_only_borrows_the_rest(chance):
    captions = [write_caption(draw_labels(chance), chance, "sk") for _ in range(200)]
    alone = [said for _, said in captions if set(said.values()) - {ABSENT} == {said["subjects"]}]
    assert nearest_written("sk") == "cs"
    assert 40 < len(alone) < 140


def test_an_unknown_language_is_refused(chance):
    with pytest.raises(BadRequest, match=r"languages\(\)"):
        write_caption({"subjects": 0}, chance, "xx")
