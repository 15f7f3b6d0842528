from collections import defaultdict
from itertools import product

import pytest

from aiprod_studio.errors import BadRequest
from aiprod_studio.training.lexicon import (
    NOUN_KINDS,
    PHRASE_KINDS,
    SLOTS,
    known_hints,
    known_names,
    languages,
    load_lexicon,
    load_names,
    nearest_written,
    written_languages,
)
from aiprod_studio.training.world import load_world

FUTURE = {
    "places": ("mountains", "river", "jungle", "room"),
    "motions": ("walk", "roll", "orbit", "swing"),
    "cameras": ("orbit", "follow"),
    "styles": ("glossy", "flat"),
    "weathers": ("clear", "rain", "snowfall", "fog"),
}
MAJOR = (
    *("en", "zh", "zh-Hant", "hi", "es", "ar", "bn", "pt", "ru", "ja", "de", "fr", "ko", "it"),
    *("tr", "vi", "pl", "uk", "nl", "th", "id", "fa", "ur", "ta", "te", "mr", "sw", "el", "cs"),
    *("sv", "ro", "hu", "he", "fi", "da", "nb", "bg", "ms", "fil", "ca"),
)


def test_the_major_languages_are_written():
    assert set(MAJOR) <= set(written_languages())


@pytest.mark.parametrize("locale", written_languages())
def test_every_concept_has_phrases(locale):
    lexicon = load_lexicon(locale)
    world = load_world().kinds
    for kind in PHRASE_KINDS:
        wanted = {concept.id for concept in world.get(kind, ())} | set(FUTURE.get(kind, ()))
        assert wanted <= set(lexicon.phrases[kind])
        for phrases in lexicon.phrases[kind].values():
            assert phrases
            assert all(p == p.strip() and "  " not in p and p.count("|") < 2 for p in phrases)
    assert set(lexicon.relations) == {"beside", "behind", "above", "chasing"}
    for template in sum(lexicon.relations.values(), ()):
        assert template.count("{subject}") == template.count("{other}") == 1


@pytest.mark.parametrize("locale", written_languages())
def test_all_but_the_usual_sizes_and_counts_have_templates(locale):
    lexicon = load_lexicon(locale)
    for kind in NOUN_KINDS:
        _, *unusual = load_world().kinds[kind]
        assert set(lexicon.phrases[kind]) == {concept.id for concept in unusual}
        templates = [one for row in lexicon.phrases[kind].values() for one in row]
        forms = [form for template in templates for form in template.split("|")]
        assert all(form.count("{name}") == 1 and form == form.strip() for form in forms)
        assert all(template.count("|") < 2 for template in templates)
    assert lexicon.both.format(first="ONE", second="TWO").startswith("ONE")
    assert lexicon.both.endswith("{second}")


@pytest.mark.parametrize("locale", written_languages())
def test_every_subset_of_parts_has_clean_patterns(locale):
    lexicon = load_lexicon(locale)
    assert len(lexicon.patterns[True, True, True]) >= 3
    for filled in product((False, True), repeat=len(SLOTS)):
        words = {slot: slot.upper() for slot in SLOTS}
        assert lexicon.patterns[filled]
        for pattern in lexicon.patterns[filled]:
            text = pattern.format(subject="SUBJECT", name="SUBJECT", **words)
            assert "SUBJECT" in text
            assert not set("[]{}").intersection(text)
            assert "  " not in text
            assert text == text.strip(" ,:;，、،")
            assert [slot.upper() in text for slot in SLOTS] == list(filled)


def test_a_hundred_locales_name_nearly_all_subjects():
    subjects = len(load_world().subjects)
    rich = [locale for locale, names in load_names().items() if len(names) >= 0.9 * subjects]
    assert len(rich) >= 100
    assert set(load_names()) == set(languages())


def test_no_name_stands_for_two_subjects():
    for locale, names in load_names().items():
        owners = defaultdict(set)
        for subject, words in names.items():
            for word in words:
                owners[word.casefold()].add(subject)
        assert not {word: ids for word, ids in owners.items() if len(ids) > 1}, locale


def test_written_languages_name_every_existing_subject():
    for locale in written_languages():
        missing = [s.id for s in load_world().subjects if s.id not in load_names()[locale]]
        assert not missing, locale


@pytest.mark.parametrize(
    ("locale", "subject", "name"),
    [
        ("de", "lion", "Löwe"),
        ("fr", "wolf", "loup"),
        ("ja", "panda", "パンダ"),
        ("gl", "dog", "can"),
        ("sk", "cat", "mačka"),
        ("af", "horse", "perd"),
        ("hr", "fox", "lisica"),
    ],
)
def test_canonical_names_are_plain(locale, subject, name):
    assert load_names()[locale][subject][0] == name


def test_locales_borrow_from_a_language_near_by():
    assert nearest_written("es-MX") == "es"
    assert nearest_written("nn") == "nb"
    assert nearest_written("zh-Hant-HK") == "zh-Hant"
    assert nearest_written("zu") == "en"


def test_a_language_without_phrases_is_refused():
    with pytest.raises(BadRequest, match=r"written_languages\(\)"):
        load_lexicon("zu")


def test_names_are_grouped_by_concept_and_common_words_are_left_out():
    world = load_world()
    concepts = [each.id for kind in ("subjects", *PHRASE_KINDS) for each in world.kinds[kind]]
    groups = dict(zip(concepts, known_names(), strict=True))
    assert {"dog", "perro", "犬", "собака"} <= set(groups["dog"])
    assert "sur la plage" in groups["beach"]
    assert "and" not in groups["duck"]
    assert not {"tre", "dua"} & set(groups["tree"])
    assert all("plage" not in name for name in groups["bee"])
    assert len({name for group in known_names() for name in group}) > 20_000


def test_hints_are_what_stands_around_subjects_and_belong_to_one_concept():
    hints = known_hints()
    assert {kind for kind, _ in hints} == {"relations", *NOUN_KINDS}
    assert {"next to", "neben", "à côté de", "рядом с", "के पास"} <= set(
        hints["relations", "beside"]
    )
    assert {"three", "drei", "trois", "三只", "तीन"} <= set(hints["counts", "three"])
    assert {"huge", "riesiger", "énorme", "огромная"} <= set(hints["sizes", "huge"])
    words = [each for group in hints.values() for each in group]
    assert len(words) == len(set(words)) > 1000
    assert not {"and", "und", "y", "to", "が", "her"} & set(words)
    assert not {name for group in known_names() for name in group} & set(words)
