"""A sentence is English everywhere, and keeps what it takes to translate it."""

from __future__ import annotations

import copy
import json
import pickle
from decimal import Decimal

import pytest

from aiprod_studio.errors import BadRequest
from aiprod_studio.sentences import Said, read_sentence, write_sentence

SAID = Said("said.apart", "{what} in {count} parts", what=Said("said.weights", "weights"), count=2)


def test_it_is_an_english_text() -> None:
    assert SAID == "weights in 2 parts"
    assert json.loads(json.dumps([SAID])) == ["weights in 2 parts"]
    assert f"{SAID}." == "weights in 2 parts."


def test_a_copy_and_an_error_keep_what_it_is_made_of() -> None:
    for kept in (copy.deepcopy(SAID), pickle.loads(pickle.dumps(SAID)), str(BadRequest(SAID))):
        assert isinstance(kept, Said)
        assert (kept, kept.key, kept.values) == (SAID, "said.apart", SAID.values)
        assert kept.values["what"].key == "said.weights"


def test_a_kept_text_begins_with_the_english_and_comes_back_as_the_sentence() -> None:
    text = write_sentence(SAID)
    assert text.splitlines()[0] == "weights in 2 parts"
    back = read_sentence(text)
    assert isinstance(back, Said)
    assert (back, back.key, back.values) == (SAID, SAID.key, SAID.values)
    assert back.values["what"].key == "said.weights"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The disk is full.",
        "Two lines\nof English.",
        "5",
        'A list\n["said.gpu", "on {device}"]',
        'Another sentence\n["said.gpu", "on {device}", {"device": "a GPU"}]',
        'A value is missing\n["said.gpu", "on {device}", {}]',
        'None at all\n["said.gpu", "on {device}", 5]',
    ],
)
def test_any_other_text_stays_as_it_is(text: str) -> None:
    assert write_sentence(text) == text
    assert read_sentence(text) == text
    assert not isinstance(read_sentence(text), Said)


def test_a_value_that_json_has_not_leaves_the_english() -> None:
    assert write_sentence(Said("said.half", "{value:.1f}", value=Decimal("0.5"))) == "0.5"
