import random

import pytest

from aiprod_studio.errors import BadRequest
from aiprod_studio.training.lexicon import load_names
from aiprod_studio.training.nouns import Name, list_names, plural, write_noun


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("dog", "dogs"),
        ("puppy", "puppies"),
        ("monkey", "monkeys"),
        ("fox", "foxes"),
        ("bus", "buses"),
        ("wolf", "wolves"),
        ("mouse", "mice"),
        ("tropical fish", "tropical fish"),
        ("slice of pizza", "slices of pizza"),
        ("woman dancing", "women dancing"),
        ("cherries", "cherries"),
        ("perro", "perro"),
    ],
)
def test_plurals(one, many):
    assert plural(one) == many


def test_every_english_name_has_a_plural():
    for names in load_names()["en"].values():
        for name in names:
            assert len(plural(name)) >= len(name) - 2
            assert not plural(name).endswith(("sss", "yss"))


def test_english_counts_in_the_plural_and_has_articles_else():
    chance = random.Random(1)
    assert write_noun(Name("fox", False), "small {name}", "two {name}", "en", chance) == (
        "two small foxes"
    )
    sized = {
        write_noun(Name("panda", False), "enormous {name}", "", "en", chance) for _ in range(30)
    }
    assert sized == {"an enormous panda", "the enormous panda", "enormous panda"}
    plain = {write_noun(Name("unicorn", False), "", "", "en", chance) for _ in range(30)}
    assert plain == {"a unicorn", "the unicorn", "unicorn"}


def test_other_languages_put_both_around_the_name():
    assert write_noun(Name("狗", False), "巨大的{name}", "两个{name}", "zh", random.Random(1)) == (
        "两个巨大的狗"
    )


def test_unknown_languages_are_refused():
    with pytest.raises(BadRequest, match=r"languages\(\)"):
        list_names("xx")
