"""A sentence is English everywhere, and keeps what it takes to translate it."""

from __future__ import annotations

import copy
import json
import pickle

from aiprod_studio.errors import BadRequest
from aiprod_studio.sentences import Said

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
