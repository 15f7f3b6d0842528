"""Visitors: sessions that hold and end, and benches that show no one else's things."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np
import pytest

from aiprod_studio.engines.catalog import find_card
from aiprod_studio.errors import BadRequest, StudioError
from aiprod_studio.library.provenance import PICTURES, save_clip
from aiprod_studio.media.clip import Clip
from aiprod_studio.types import Plan, Request
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.board import act, look, queue_clip
from aiprod_studio.ui.cards import draw_board
from aiprod_studio.ui.drafts import queue_drafts
from aiprod_studio.ui.limits import Limits
from aiprod_studio.ui.tabs.library import again
from aiprod_studio.ui.visitors import SESSION, Visitors, show_picture, store_upload

LIMITS = Limits(jobs=3, visitors=2)
PLAN = Plan("cpu", "float32", 48, 32, 5, 1, 0, {"denoise": 1}, 1.0, ())


@pytest.fixture
def visitors(bench: Bench) -> Iterator[Visitors]:
    visitors = Visitors(bench, LIMITS)
    yield visitors
    visitors.close()


def sign_in(visitors: Visitors) -> tuple[str, Bench]:
    """Return the name and the bench of a new visitor."""
    visitor = visitors.find(visitors.open())
    assert visitor is not None
    return visitor, visitors.bench(visitor)


def test_a_session_survives_a_restart_and_no_forgery(bench: Bench, visitors: Visitors) -> None:
    cookie, other = visitors.open(), visitors.open()
    name, _, signature = cookie.partition(".")
    later = Visitors(bench, LIMITS)
    assert later.find(cookie) == name
    forged = ["", ".", name, f"{name}.", f"{name}.{other.partition('.')[2]}", f"../{name}"]
    forged += [f"{name}.{signature[:-1]}", f"{name}.{signature}.", f"{name}.é", f"key.{signature}"]
    assert [later.find(each) for each in forged] == [None] * len(forged)
    later.end(name)
    assert visitors.find(cookie) is None
    assert visitors.find(other) is not None


def test_only_so_many_may_be_here_and_the_idle_leave(visitors: Visitors, bench: Bench) -> None:
    first = visitors.open()
    visitors.open()
    with pytest.raises(BadRequest, match="too many"):
        visitors.open()
    session = bench.home / "visitors" / first.partition(".")[0] / SESSION
    os.utime(session, (0, 0))
    assert visitors.find(visitors.open()) is not None
    assert visitors.find(first) is None


def test_a_damaged_key_is_told(visitors: Visitors, bench: Bench) -> None:
    (bench.home / "visitors" / "key").write_bytes(b"short")
    with pytest.raises(StudioError, match="Delete it"):
        Visitors(bench, LIMITS)


def test_the_owner_sees_what_visitors_wait_for_and_not_what_became_of_it(
    bench: Bench, visitors: Visitors
) -> None:
    visitor, anna = sign_in(visitors)
    wish, card = Request("a dog"), find_card("starter")
    drafts = queue_drafts(anna.queue, anna.gallery.outputs, wish, card, 2, lambda _: None)
    queue_clip(anna, Request("a dog at sea"))
    mine = queue_clip(bench, Request("a cat"))
    job = bench.queue.take("a test")
    assert job is not None
    assert job.owner == visitor
    seen = look(bench)
    assert [shot.guest for shot in (*seen.running, *seen.waiting)] == ["draft", "draft", "clip", ""]
    assert seen.groups == {}
    drawn = draw_board(seen, bench.say)
    assert [drawn.count(escape(f"A visitor's {kind}")) for kind in ("draft", "clip")] == [2, 1]
    bench.queue.fail(job, "It broke. Try again.")
    bench.queue.cancel(mine.id)
    assert [shot.job.id for shot in look(bench).ended] == [mine.id]
    [group] = look(anna).groups.values()
    assert [shot.job.id for shot in group] == [draft.id for draft in drafts]
    assert "A visitor" not in draw_board(look(anna), anna.say)


def test_visitors_see_and_steer_their_own_jobs_alone(bench: Bench, visitors: Visitors) -> None:
    (_, anna), (_, ben) = sign_in(visitors), sign_in(visitors)
    job = queue_clip(anna, Request("a dog"))
    assert [shot.job.id for shot in look(anna).waiting] == [job.id]
    assert look(ben).waiting == []
    for do in ("cancel", "pause", "resume", "retry", "forget", "again", "final"):
        with pytest.raises(BadRequest):
            act(ben, do, job.id)
    queue_clip(ben, Request("a cat"))
    with pytest.raises(BadRequest):
        act(ben, "first", job.id)
    assert {shot.job.request.prompt for shot in look(bench).waiting} == {"a dog", "a cat"}
    assert job.path.is_relative_to(bench.gallery.outputs)
    assert not job.path.is_relative_to(ben.gallery.outputs)


def test_the_queue_takes_no_more_than_the_limit_at_once(visitors: Visitors) -> None:
    _, anna = sign_in(visitors)
    refused: list[str] = []

    def add() -> None:
        try:
            queue_clip(anna, Request("a dog"))
        except BadRequest as error:
            refused.append(str(error))

    def together(count: int, work: object) -> None:
        assert callable(work)
        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    together(20, add)
    assert len(anna.queue.jobs("queued")) == LIMITS.jobs
    assert len(refused) == 20 - LIMITS.jobs
    assert "no more may wait" in refused[0]
    # What was cancelled makes room, and coming back needs room again.
    old = [anna.queue.cancel(job.id) for job in anna.queue.jobs()]
    together(2, add)
    waiting = iter(old)

    def retry() -> None:
        try:
            anna.queue.retry(next(waiting).id)
        except BadRequest as error:
            refused.append(str(error))

    together(3, retry)
    assert len(anna.queue.jobs("queued")) == LIMITS.jobs
    with pytest.raises(BadRequest, match="no more may wait"):
        queue_clip(anna, Request("one more"))


def test_who_leaves_takes_everything_along_but_the_clips(
    bench: Bench, visitors: Visitors, tmp_path: Path
) -> None:
    name, anna = sign_in(visitors)
    job = queue_clip(anna, Request("a dog"))
    clip = anna.gallery.outputs / "made.mp4"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"clip")
    store_upload(anna, "a.png", io.BytesIO(b"picture"), 100)
    visitors.end(name)
    assert bench.queue.find(job.id).state == "cancelled"
    assert clip.exists()
    assert not anna.home.exists()
    assert not anna.uploads.exists()
    with pytest.raises(BadRequest, match="signed out"):
        visitors.bench(name)


@pytest.mark.parametrize(
    "name", ["a.png", "../../a.png", "/etc/a.png", "C:\\a.png", "..\\..\\a.PNG", "a.png\0", "a.p/g"]
)
def test_an_upload_lies_where_it_belongs(visitors: Visitors, name: str) -> None:
    _, anna = sign_in(visitors)
    path = store_upload(anna, name, io.BytesIO(b"picture"), 100)
    assert path.parent.parent == anna.uploads
    assert path.name in ("file.png", "file")


def test_uploads_have_a_limit_a_day(visitors: Visitors) -> None:
    _, anna = sign_in(visitors)
    first = store_upload(anna, "a.png", io.BytesIO(b"0" * 60), 100)
    with pytest.raises(BadRequest, match="in a day"):
        store_upload(anna, "b.png", io.BytesIO(b"0" * 60), 100)
    assert [file.parent for file in anna.uploads.glob("*/*")] == [first.parent]
    yesterday = time.time() - 90_000
    os.utime(first, (yesterday, yesterday))
    store_upload(anna, "b.png", io.BytesIO(b"0" * 60), 100)
    assert not first.exists()


def test_a_picture_of_someone_else_is_never_shown(visitors: Visitors) -> None:
    (_, anna), (_, ben) = sign_in(visitors), sign_in(visitors)
    kept = anna.home / "pictures" / "a.png"
    kept.parent.mkdir()
    kept.write_bytes(b"picture")
    shown = show_picture(anna, str(kept))
    assert shown is not None
    assert Path(shown).is_relative_to(anna.uploads)
    assert show_picture(ben, str(kept)) is None
    assert show_picture(anna, str(anna.home / "pictures" / ".." / SESSION)) is None


def test_a_page_belongs_to_who_came_first(visitors: Visitors) -> None:
    assert visitors.claims("abc", "anna")
    assert visitors.claims("abc", "anna")
    assert not visitors.claims("abc", "ben")


def test_a_clip_that_is_taken_along_tells_no_folder_and_can_be_made_again(
    bench: Bench, visitors: Visitors
) -> None:
    visitor, anna = sign_in(visitors)
    picture = anna.home / PICTURES / "cafe.png"
    picture.parent.mkdir()
    picture.write_bytes(b"picture")
    clip = anna.gallery.outputs / "dog.mp4"
    request = Request("a dog", image=str(picture), width=48, height=32, seconds=0.6)
    save_clip(clip, Clip(np.zeros((5, 32, 48, 3), np.uint8), 8.0), request, PLAN)
    for folder in (bench.home, bench.gallery.outputs):
        assert str(folder).encode() not in clip.read_bytes()
    anna.gallery.scan()
    assert again(anna, "dog.mp4", "vary") == request
    # The owner makes it again with a copy of the picture.
    bench.gallery.scan()
    own = again(bench, f"visitors/{visitor}/dog.mp4", "vary").image
    assert own is not None
    assert Path(own).parent == bench.home / PICTURES
    assert Path(own).read_bytes() == b"picture"
    picture.unlink()
    assert again(bench, f"visitors/{visitor}/dog.mp4", "vary").image == "cafe.png"
