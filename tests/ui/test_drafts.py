"""Drafts and the final clip behind them."""

from __future__ import annotations

import dataclasses

import pytest

from aiprod_studio.engines.catalog import find_card
from aiprod_studio.errors import BadRequest
from aiprod_studio.types import Request, complete
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.board import act, look
from aiprod_studio.ui.drafts import draft_of, queue_drafts

CARD = find_card("starter")


def test_a_draft_is_small_and_fast_and_keeps_its_shape() -> None:
    final = complete(Request("a dog", width=1024, height=512, seed=3), CARD)
    draft = draft_of(final, CARD)
    assert (draft.width, draft.height, draft.steps) == (256, 128, 4)
    assert (draft.prompt, draft.seed, draft.seconds) == (final.prompt, 3, final.seconds)
    odd = complete(Request("a dog", width=272, height=272, steps=2), CARD)
    assert (draft_of(odd, CARD).width, draft_of(odd, CARD).steps) == (272, 2)


def test_a_draft_of_two_stages_is_the_first_of_them() -> None:
    card = find_card("ltx-2")
    final = complete(Request("a dog", "ltx-2", stages=2), card)
    draft = draft_of(final, card)
    assert (draft.width, draft.height, draft.stages, draft.steps) == (768, 512, 1, 8)
    odd = draft_of(dataclasses.replace(final, width=1120), card)
    assert complete(odd, card).width == 544


def test_the_picked_draft_is_rendered_in_full(bench: Bench) -> None:
    wish = Request("a dog", width=512, height=512, seed=40)
    jobs = queue_drafts(bench.queue, bench.gallery.outputs, wish, CARD, 3, lambda _: None)
    assert [job.request.seed for job in jobs] == [40, 41, 42]
    [(_, shots)] = look(bench).groups.items()
    assert [shot.job.id for shot in shots] == [job.id for job in jobs]
    act(bench, "final", jobs[1].id)
    final = bench.queue.jobs()[-1]
    assert final.request == complete(Request("a dog", width=512, height=512, seed=41), CARD)
    assert final.path.parent == bench.gallery.outputs
    (jobs[2].path.parent / "final.json").unlink()
    with pytest.raises(BadRequest, match="gone"):
        act(bench, "final", jobs[2].id)


def test_a_group_of_drafts_can_be_put_away(bench: Bench) -> None:
    queue_drafts(bench.queue, bench.gallery.outputs, Request("a dog"), CARD, 2, lambda _: None)
    [group] = look(bench).groups
    act(bench, "clear", group)
    assert look(bench).groups == {}
    assert bench.queue.jobs() == []
