"""The verdict and the plan card."""

from __future__ import annotations

import dataclasses
import json

from aiprod_studio.types import Request
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.cards import draw_plan
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.verdict import judge, recall


def test_the_card_says_whether_it_fits_and_why(bench: Bench) -> None:
    hardware = bench.machine.hardware
    assert hardware is not None
    roomy = dataclasses.replace(hardware, free_bytes=2**34, total_bytes=2**34)
    fits = judge(Request("a dog"), roomy, bench.queue)
    assert fits.kind == "fits"
    assert fits.seconds > 0
    card = draw_plan(fits, bench.say)
    assert "of 16.0 GB, about" in card
    assert all(reason in card for reason in fits.reasons)
    tiny = dataclasses.replace(hardware, free_bytes=2**20)
    assert judge(Request("a dog"), tiny, bench.queue).kind == "no"
    wrong = judge(Request("a dog", width=50, height=64), roomy, bench.queue)
    assert (wrong.kind, wrong.plan) == ("wrong", None)
    assert "Use 48" in draw_plan(wrong, bench.say)
    assert judge(Request("a dog"), None, bench.queue).kind == "unknown"


def test_the_reasons_of_a_clip_are_told_in_every_language_where_they_are_known(
    bench: Bench,
) -> None:
    hardware, request = bench.machine.hardware, Request("a dog")
    plan = judge(request, hardware, bench.queue).plan
    assert plan is not None
    because = [*plan.because, "half the frames at once, as memory ran out"]
    kept = {"request": request.to_json(), "plan": {**plan.to_json(), "because": because}}
    settings = json.loads(json.dumps(kept))
    why = recall(settings, hardware, bench.queue)
    assert list(why) == because
    told = [Texts("de").tell(reason) for reason in why]
    assert told[-1] == because[-1]
    assert not {*told[:-1]} & {*because}
    gone = json.loads(json.dumps(kept))
    gone["request"]["engine"] = "hub:nobody/gone"  # as its weights are
    assert list(recall(gone, hardware, bench.queue)) == because
    for other in ({}, {"plan": {"because": [7]}}, {**settings, "request": {"colour": "red"}}):
        assert recall(other, hardware, bench.queue) == tuple(
            map(str, other.get("plan", {}).get("because", ()))
        )
