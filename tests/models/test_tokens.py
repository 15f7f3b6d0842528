"""Tokens: what is one token, and what is known by its name in which form."""

import pytest

from aiprod_studio.models.tokens import FIRST_CHARACTER, MARK, Vocabulary, tokenise

WORDS = Vocabulary(
    terms=("zoom in",),
    names=(("dog", "собака", "犬", "강아지", "كلب", "köpek", "hund"), ("hot dog", "bird")),
)


def read(prompt: str) -> list[tuple[str, int]]:
    """Return each character of a prompt with the number of what it names."""
    row = tokenise([prompt], WORDS, 99)[0].tolist()
    return [(chr(token % MARK - FIRST_CHARACTER), token // MARK) for token in row]


def named(prompt: str, number: int = 1) -> str:
    return "".join(letter for letter, thing in read(prompt) if thing == number)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A DOG runs", "dog"),
        ("dogs", ""),
        ("zwei Hunde", "hund"),
        ("вижу собаку", "собак"),
        ("海辺を走る犬", "犬"),
        ("강아지가 달린다", "강아지"),
        ("الكلب يجري", "كلب"),
        ("köpeğin", ""),
        ("dogma", ""),
        ("ｄｏｇ", "dog"),
    ],
)
def test_a_name_is_found_in_its_forms_and_not_inside_other_words(prompt: str, name: str) -> None:
    assert named(prompt) == name


def test_the_longest_name_wins_and_terms_stay_tokens() -> None:
    assert named("a hot dog") == ""
    assert named("a hot dog", 2) == "hot dog"
    assert tokenise(["zoom in", "dog"], WORDS, 99)[0].tolist() == [1, 0, 0]


def test_without_names_nothing_is_marked() -> None:
    assert int(tokenise(["a dog"], Vocabulary(), 99).max()) < MARK
