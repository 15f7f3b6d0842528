import pytest

from aiprod_studio.engines.catalog import cards, find_card
from aiprod_studio.errors import BadRequest


def test_every_card_is_read():
    card = cards()["starter"]
    assert card.size_step == 16
    assert card.frame_step == 4
    assert sum(card.part_bytes.values()) < 64e6


def test_an_unknown_engine_is_refused_with_the_known_ones():
    with pytest.raises(BadRequest, match="starter"):
        find_card("nonesuch")
