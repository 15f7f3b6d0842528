"""The board: what it shows of the queue, and what its buttons do."""

from __future__ import annotations

from html import escape

import pytest

from aiprod_studio.errors import BadRequest
from aiprod_studio.sentences import Said
from aiprod_studio.types import Progress, Request
from aiprod_studio.ui import board as board_module
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.board import act, look, prune, queue_clip
from aiprod_studio.ui.cards import draw_board, percent_of
from aiprod_studio.ui.texts import Texts

EVIL = "<script>alert('x')</script> & \"friends\""


def test_a_clip_waits_runs_and_ends_on_the_board(bench: Bench) -> None:
    assert "as-empty" in draw_board(look(bench), bench.say)
    first, second = (queue_clip(bench, Request(text)) for text in ("a dog", "a cat"))
    assert [shot.job.id for shot in look(bench).waiting] == [first.id, second.id]
    assert first.plan is not None
    act(bench, "first", second.id)
    job = bench.queue.take("a test")
    assert job is not None
    assert job.id == second.id
    bench.queue.beat(job, Progress("denoise", 5, 10), 12.0, b"picture")
    view = look(bench)
    assert view.running[0].preview == b"picture"
    assert percent_of(view.running[0].job) == 50
    drawn = draw_board(view, bench.say)
    assert "Imagining" in drawn
    assert "12 s left" in drawn
    bench.queue.fail(job, "It broke. Try a smaller clip.")
    assert "It broke. Try a smaller clip." in draw_board(look(bench), bench.say)
    act(bench, "retry", job.id)
    act(bench, "pause", job.id)
    assert "Paused" in draw_board(look(bench), bench.say)
    act(bench, "resume", job.id)
    act(bench, "cancel", job.id)
    act(bench, "forget", job.id)
    assert [each.id for each in bench.queue.jobs()] == [first.id]


def test_why_a_clip_failed_is_told_in_the_language_of_the_page(bench: Bench) -> None:
    why = Said("said.crashed", "The worker died {count} times.", count=3)
    for sentence in (why, "It broke. Try a smaller clip."):
        queue_clip(bench, Request("a dog"))
        job = bench.queue.take("a test")
        assert job is not None
        bench.queue.fail(job, sentence)
    german = Texts("de")
    drawn = draw_board(look(bench), german)
    assert escape(german("said.crashed", count=3)) in drawn
    assert why not in drawn
    assert "It broke. Try a smaller clip." in drawn
    assert why in draw_board(look(bench), bench.say)


def test_once_more_takes_a_new_seed(bench: Bench) -> None:
    job = queue_clip(bench, Request("a dog", seed=5))
    act(bench, "again", job.id)
    seeds = [each.request.seed for each in bench.queue.jobs()]
    assert seeds[0] == 5
    assert seeds[1] not in (None, 5)


def test_what_a_person_wrote_stays_text(bench: Bench) -> None:
    queue_clip(bench, Request(EVIL))
    drawn = draw_board(look(bench), bench.say)
    assert "<script" not in drawn
    assert "&lt;script&gt;" in drawn


def test_an_engine_that_cannot_make_it_is_refused_before_the_queue(bench: Bench) -> None:
    with pytest.raises(BadRequest, match="multiples"):
        queue_clip(bench, Request("a dog", width=50, height=50))
    with pytest.raises(BadRequest, match="Reload"):
        act(bench, "explode", "")
    assert bench.queue.jobs() == []


def test_old_jobs_are_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "ENDED_KEPT", 1)
    jobs = [queue_clip(bench, Request(text)) for text in ("one", "two", "three")]
    for job in jobs[:2]:
        bench.queue.cancel(job.id)
    prune(bench.queue)
    assert [job.request.prompt for job in bench.queue.jobs()] == ["two", "three"]
