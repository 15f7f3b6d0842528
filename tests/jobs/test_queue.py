"""The queue's verbs: what each state allows, whose jobs they are, and who may still write."""

import threading
from collections import Counter
from pathlib import Path

import pytest

from aiprod_studio.errors import BadRequest, Cancelled
from aiprod_studio.jobs.forecast import Earlier
from aiprod_studio.jobs.queue import LeaseLost, Queue
from aiprod_studio.sentences import Said
from aiprod_studio.types import Plan, Progress, Record, Request

PLAN = Plan("cpu", "float32", 16, 16, 1, 1, 0, {"load": 1}, 2.5, ("a test",))


def add(queue: Queue, *prompts: str) -> list[str]:
    """Queue a clip per prompt and return the jobs' ids."""
    return [queue.add(Request(prompt), Path(f"/clips/{prompt}.mp4")).id for prompt in prompts]


def prompts(queue: Queue, *states: str) -> list[str]:
    return [job.request.prompt for job in queue.jobs(*states)]


def test_a_job_keeps_its_request_and_gets_a_seed(queue):
    request = Request("ein Hund 🐕 am Strand", width=64, seconds=0.6)
    job = queue.add(request, Path("/clips/dog.mp4"), PLAN)
    assert queue.find(job.id) == job
    assert job.request.seed is not None
    assert job.request.to_json() | {"seed": None} == request.to_json()
    assert (job.state, job.owner, job.plan["seconds"]) == ("queued", "local", 2.5)
    assert queue.add(Request("a dog", seed=7), Path("/clips/dog.mp4")).request.seed == 7


@pytest.mark.parametrize("name", ["folder", "frames_%05d.png"])
def test_what_is_not_one_file_is_refused(queue, name):
    with pytest.raises(BadRequest, match="not one file"):
        queue.add(Request("a dog"), Path(name))


def test_jobs_are_taken_in_their_order_and_only_once(queue):
    add(queue, "a", "b")
    assert [queue.take("w").request.prompt for _ in range(2)] == ["a", "b"]
    assert queue.take("w") is None
    assert {job.token for job in queue.jobs("running")} == {1}


def test_threads_take_every_job_once(queue):
    ids = add(queue, *[f"{number}" for number in range(40)])
    taken: list[str] = []

    def take() -> None:
        while job := queue.take(threading.current_thread().name):
            taken.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(taken) == Counter(ids)


def test_jobs_are_moved(queue):
    a, b, c = add(queue, "a", "b", "c")
    queue.move(c, before=a)
    assert prompts(queue) == ["c", "a", "b"]
    queue.move(c)
    assert prompts(queue) == ["a", "b", "c"]
    queue.move(a, before=c)
    queue.move(a, before=a)
    assert prompts(queue) == ["b", "a", "c"]
    assert queue.take("w").id == b
    for job, before in ((b, a), ("nonesuch", a), (a, "nonesuch")):
        with pytest.raises(BadRequest):
            queue.move(job, before)
    assert prompts(queue, "queued") == ["a", "c"]


def test_what_waits_is_paused_resumed_cancelled_and_retried_at_once(queue):
    a, b = add(queue, "a", "b")
    assert queue.pause(a).state == "paused"
    assert queue.take("w").id == b
    assert queue.resume(a).state == "queued"
    cancelled = queue.cancel(a)
    assert (cancelled.state, cancelled.wish) == ("cancelled", None)
    assert cancelled.finished is not None
    retried = queue.retry(a)
    assert (retried.state, retried.finished) == ("queued", None)
    assert retried.position > queue.find(b).position


def test_a_running_job_is_told_and_obeys(queue):
    (name,) = add(queue, "a")
    job = queue.take("w")
    assert queue.beat(job) is None
    assert queue.pause(name).state == "running"
    assert queue.beat(job) == "pause"
    assert queue.resume(name).wish is None
    queue.pause(name)
    assert queue.release(job).state == "paused"
    queue.resume(name)
    job = queue.take("w")
    queue.cancel(name)
    with pytest.raises(BadRequest, match="cannot be paused"):
        queue.pause(name)
    assert queue.release(job).state == "cancelled"
    queue.retry(name)
    assert queue.release(queue.take("w")).state == "queued"


def test_what_a_state_does_not_allow_is_refused(queue):
    (name,) = add(queue, "a")
    for verb in (queue.resume, queue.retry):
        with pytest.raises(BadRequest, match="is queued and cannot be"):
            verb(name)
    queue.fail(queue.take("w"), "It did not work. Try another prompt.")
    for verb in (queue.cancel, queue.pause, queue.resume):
        with pytest.raises(BadRequest, match="is failed and cannot be"):
            verb(name)
    with pytest.raises(BadRequest, match="no such job"):
        queue.cancel("nonesuch")


def test_a_job_is_removed_unless_it_runs(queue):
    name, other = add(queue, "a", "b")
    queue.take("w")
    with pytest.raises(BadRequest, match="does not run"):
        queue.remove(name)
    queue.remove(other)
    assert [job.id for job in queue.jobs()] == [name]


def test_owners_see_and_steer_only_their_own_jobs(queue):
    ann, bob = queue.seen_by("ann"), queue.seen_by("bob")
    add(ann, "a")
    (name,) = add(bob, "b")
    assert (prompts(ann), prompts(bob), prompts(queue)) == (["a"], ["b"], ["a", "b"])
    verbs = (ann.find, ann.cancel, ann.pause, ann.retry, ann.move, ann.remove)
    for verb in verbs:
        with pytest.raises(BadRequest):
            verb(name)
    with pytest.raises(BadRequest):
        ann.move(ann.jobs()[0].id, before=name)
    assert ann.preview(name) is None
    assert bob.find(name).owner == "bob"
    assert queue.find(name).state == "queued"


def test_progress_and_previews_are_written(queue):
    (name,) = add(queue, "a")
    job = queue.take("w")
    queue.beat(job, Progress("denoise", 3, 8), 12.5, b"picture")
    seen = queue.find(name)
    assert (seen.phase, seen.done, seen.total, seen.eta) == ("denoise", 3, 8, 12.5)
    assert queue.preview(name) == b"picture"
    assert seen.preview_time is not None
    queue.beat(job)
    assert queue.find(name).done == 3


def test_a_stale_token_writes_nothing(queue, tmp_path):
    (name,) = add(queue, "a")
    queue.lease = -1.0
    stale = queue.take("w")
    assert queue.sweep() == 1
    assert queue.find(name).attempts == 1
    queue.lease = 20.0
    fresh = queue.take("w")
    before = queue.find(name)
    record = Record(tmp_path / "x.mp4", stale.request, PLAN, 1.0)
    for write in (
        lambda: queue.beat(stale, Progress("denoise", 1, 2)),
        lambda: queue.stage(stale, record, {}),
        lambda: queue.fail(stale, "It did not work. Try again."),
        lambda: queue.release(stale),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert queue.find(name) == before
    assert queue.sweep() == 0
    assert queue.fail(fresh, "It did not work. Try again.").state == "failed"


def test_a_stale_token_publishes_nothing(queue, tmp_path):
    job = queue.add(Request("a"), tmp_path / "a.mp4")
    queue.lease = -1.0
    job = queue.take("w")
    job.hidden_path.parent.mkdir()
    job.hidden_path.write_bytes(b"whole")
    job = queue.stage(job, Record(job.hidden_path, job.request, PLAN, 1.0), {"save": 1.0})
    queue.sweep()
    with pytest.raises(LeaseLost):
        queue.publish(job)
    assert not job.path.exists()
    assert job.hidden_path.exists()


def test_a_cancel_that_comes_before_the_rename_holds(queue, tmp_path):
    queue.add(Request("a"), tmp_path / "a.mp4")
    job = queue.take("w")
    job.hidden_path.parent.mkdir()
    job.hidden_path.write_bytes(b"whole")
    job = queue.stage(job, Record(job.hidden_path, job.request, PLAN, 1.0), {})
    queue.cancel(job.id)
    with pytest.raises(Cancelled):
        queue.publish(job)
    assert not job.path.exists()
    assert queue.release(job).state == "cancelled"


def test_two_finished_files_never_get_one_name(queue, tmp_path):
    for prompt in ("a", "b"):
        queue.add(Request(prompt), tmp_path / "clip.mp4")
    jobs = [queue.take("w"), queue.take("w")]
    for number, job in enumerate(jobs):
        job.hidden_path.parent.mkdir()
        job.hidden_path.write_text(job.request.prompt)
        record = Record(job.hidden_path, job.request, PLAN, 1.0)
        jobs[number] = queue.stage(job, record, {"save": 1.0})
    done = [queue.publish(job) for job in jobs]
    assert [job.path.name for job in done] == ["clip.mp4", "clip-2.mp4"]
    assert [job.path.read_text() for job in done] == ["a", "b"]
    assert queue.recent("starter") == [Earlier({"save": 1.0}, PLAN.seconds)] * 2
    assert queue.recent("another") == []


def test_why_a_job_failed_is_english_in_the_table_and_can_be_translated(queue):
    a, b = add(queue, "a", "b")
    why = Said("said.gpu", "on {device}", device="a GPU")
    assert queue.fail(queue.take("w"), why).error == why
    queue.fail(queue.take("w"), "It did not work. Try again.")
    told, plain = queue.find(a).error, queue.find(b).error
    assert (told, told.key, told.values) == (why, why.key, why.values)
    assert (plain, type(plain)) == ("It did not work. Try again.", str)
    with queue.database.reading() as connection:
        kept = set(connection.exec_driver_sql("SELECT error FROM jobs").scalars())
    assert {text.splitlines()[0] for text in kept} == {why, plain}


def test_a_job_whose_workers_die_fails_in_the_end_and_wishes_are_obeyed_even_then(queue):
    a, b, c = add(queue, "a", "b", "c")
    queue.lease = -1.0
    for _ in range(3):
        queue.take("w")
        queue.sweep()
    failed = queue.find(a)
    assert (failed.state, failed.attempts) == ("failed", 3)
    assert failed.error.endswith("or retry it.")
    assert (failed.error.key, failed.error.values) == ("said.crashed", {"count": 3})
    assert queue.retry(a).attempts == 0
    assert queue.take("w").id == b
    queue.cancel(b)
    assert queue.take("w").id == c
    queue.pause(c)
    queue.sweep()
    assert (queue.find(b).state, queue.find(c).state) == ("cancelled", "paused")
    assert queue.find(b).finished is not None
