"""The tab Models without a browser: what it says of an engine, an error and a token."""

from __future__ import annotations

import dataclasses
import json

import pytest

from aiprod_studio.engines.catalog import rows
from aiprod_studio.engines.hub.errors import DiskFull, GatedRepo
from aiprod_studio.engines.hub.source import find_source
from aiprod_studio.errors import BadRequest, ModelUnavailable
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.machine import Machine
from aiprod_studio.ui.offers import draw_offers, list_offers
from aiprod_studio.ui.stock import Stock, draw_stock
from aiprod_studio.ui.tabs.models import try_token
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.weights import Task, Ware
from tests.loopback_hub import File, LoopbackHub, Repo
from tests.ui.conftest import FILES

GATED = "Lightricks/LTX-2.5-Diffusers"
SAY = Texts("en")


class Pinned(Repo):
    """A repository at the commit that the catalogue names."""

    commit = "a6de4b5354f078db24d9cf4778c14846788aea3d"


def on_gpu(bench: Bench, gigabytes: float) -> Bench:
    """Return the bench of a machine with such a GPU."""
    file = bench.home / "imagined.json"
    file.write_text(json.dumps(dataclasses.asdict(imagine(gigabytes, 64.0))), encoding="utf-8")
    return dataclasses.replace(bench, machine=Machine(file))


def test_every_engine_is_offered_with_its_terms(bench: Bench, hub: LoopbackHub) -> None:
    offers = list_offers(bench)
    drawn = draw_offers(offers, SAY)
    assert {offer.card.id for offer in offers} == rows().keys()
    assert offers[0].card.id == "starter"
    for offer in offers:
        assert f'data-engine="{offer.card.id}"' in drawn
        if offer.source:
            assert offer.source.licence.page in drawn
            assert offer.source.licence.allows in drawn
    assert "Not on this disk, about 28.9 GB" in drawn
    assert not hub.log, "nobody is asked before a person asks"


def test_an_engine_that_does_not_fit_says_why(bench: Bench, hub: LoopbackHub) -> None:
    offers = {offer.card.id: offer for offer in list_offers(on_gpu(bench, 2.0))}
    large = offers["wan2.2-a14b"]
    assert large.verdict.kind == "no"
    assert "Will not fit" in draw_offers([large], SAY)
    assert large.verdict.reasons[0].split(".")[0] in draw_offers([large], SAY)
    assert not any(offer.suggested for offer in offers.values())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GatedRepo(), "then enter a token of that account below"),
        (DiskFull(), "choose a folder on another disk below"),
        (ModelUnavailable("<b>No.</b> Wait."), "&lt;b&gt;No.&lt;/b&gt; Wait."),
        (KeyError("x"), "was not foreseen"),
    ],
)
def test_a_failure_says_what_to_do_on_this_page(error: Exception, said: str) -> None:
    source = find_source("ltx-2")
    variant = source.variant("2.5")
    failed = Task("failed", error=error)
    drawn = draw_stock(source, Stock(variant, Ware("ltx-2", "2.5"), None, failed), SAY)
    assert said in drawn
    assert 'role="alert"' in drawn
    # The size and the licence come first, as nothing has begun.
    assert 'data-do="ask"' in drawn


def test_a_token_is_tried_where_it_is_needed(hub: LoopbackHub) -> None:
    files = {name: File(name, data) for name, data in FILES.items()}
    hub.repos[GATED] = Pinned(GATED, files, gated=True, token="hf_good")
    hub.bad_tokens.add("hf_bad")
    assert try_token("hf_good", SAY) == ["The token opens LTX-2 2.5."]
    [told] = try_token("hf_other", SAY)
    assert f"accept the terms at {hub.url}/{GATED} first" in told
    with pytest.raises(BadRequest, match="refuses this token"):
        try_token("hf_bad", SAY)
