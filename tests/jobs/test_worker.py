"""The worker, proved with real processes that are really killed."""

import os
import platform
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from aiprod_studio.jobs.queue import Queue
from aiprod_studio.jobs.worker import Order, clear, let_go, work
from aiprod_studio.media.files import write_bytes
from aiprod_studio.types import Plan, Progress, Record, Request

PLAN = Plan("cpu", "float32", 16, 16, 1, 1, 0, {"load": 1}, 1.0, ("a test",))
SIZE = 100_000
LEASE = 1.5


def add(queue: Queue, place: Path, *prompts: str) -> list[str]:
    """Queue a clip per prompt and return the jobs' ids."""
    files = [place / "clips" / f"{number}.mp4" for number in range(len(prompts))]
    pairs = zip(prompts, files, strict=True)
    return [queue.add(Request(prompt), file).id for prompt, file in pairs]


def renders(place: Path) -> Counter[str]:
    """Return how often each job was rendered to its end."""
    return Counter((place / "renders.txt").read_text(encoding="utf-8").split())


def states(queue: Queue) -> list[str]:
    return [job.state for job in queue.jobs()]


def check_files(queue: Queue, place: Path) -> None:
    """Check that every job is done, its file is whole, and nothing else is left."""
    jobs = queue.jobs()
    assert {job.state for job in jobs} == {"done"}
    assert {job.path.stat().st_size for job in jobs} == {SIZE}
    # A kill in the middle of writing leaves a hidden file, never one under a final name.
    files = [path for path in (place / "clips").iterdir() if not path.name.startswith(".")]
    assert sorted(files) == sorted(job.path for job in jobs)
    assert list(place.glob("jobs/*")) == []


def quick(order: Order) -> Record:
    """Write a file at once."""
    order.tell(Progress("save", 0, 1))
    write_bytes(order.path, bytes(SIZE))
    return Record(order.path, order.request, PLAN, 0.1)


def test_two_workers_render_each_of_two_hundred_jobs_once(queue, crew, tmp_path):
    ids = add(queue, tmp_path, *["clip"] * 200)
    crew.join(*[crew.start("work", tmp_path) for _ in range(2)])
    assert renders(tmp_path) == Counter(ids)
    assert {job.attempts for job in queue.jobs()} == {0}
    check_files(queue, tmp_path)


def test_killing_page_and_workers_at_any_moment_loses_nothing(queue, crew, tmp_path):
    notes = tmp_path / "asked.txt"
    notes.touch()
    kills = 0
    for seconds in (0.15, 0.4):
        page = crew.start(
            "ask", tmp_path, notes=str(notes), outputs=str(tmp_path / "clips"), count=10_000
        )
        crew.wait(lambda: len(queue.jobs()) > 3)
        workers = [crew.start("work", tmp_path, lease=LEASE) for _ in range(2)]
        time.sleep(seconds)
        crew.kill(page, *workers)
        kills += 2
    asked = notes.read_text(encoding="utf-8").split()
    assert set(asked) <= {job.id for job in queue.jobs()}
    for job in queue.jobs("queued")[20:]:
        queue.remove(job.id)
    time.sleep(LEASE)
    crew.join(crew.start("work", tmp_path, lease=LEASE))
    assert sum(renders(tmp_path).values()) <= len(queue.jobs()) + kills
    clear(queue, tmp_path / "jobs")  # as whoever owns the device does at its start
    check_files(queue, tmp_path)


def test_a_bad_job_and_a_mistake_in_the_code_do_not_stop_the_next(queue, crew, tmp_path):
    add(queue, tmp_path, "bad", "wrong", "fine")
    crew.join(crew.start("work", tmp_path))
    assert states(queue) == ["failed", "failed", "done"]
    bad, wrong, fine = queue.jobs()
    assert bad.error == "This cannot be rendered. Ask for something else."
    assert "ZeroDivisionError" in wrong.error
    assert wrong.error.endswith("report it with the log.")
    assert fine.timings.keys() == {"denoise", "save"}
    assert queue.preview(fine.id) == b"a picture"
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == ["2.mp4"]


def test_a_job_that_kills_its_workers_fails_after_three(queue, crew, tmp_path):
    add(queue, tmp_path, "poison", "fine")
    for _ in range(3):
        crew.join(crew.start("work", tmp_path, lease=0.3))
        time.sleep(0.3)
    crew.join(crew.start("work", tmp_path, lease=0.3))
    assert states(queue) == ["failed", "done"]
    assert "died 3 times" in queue.jobs()[0].error


def test_what_a_worker_rendered_when_it_was_ended_on_purpose_counts_no_death(queue, tmp_path):
    here, elsewhere = add(queue, tmp_path, "here", "elsewhere")
    queue.take(f"{platform.node()} 1")
    queue.take("another machine 1")
    let_go(queue)
    assert (queue.find(here).state, queue.find(here).attempts) == ("queued", 0)
    assert queue.find(elsewhere).state == "running"


def test_a_full_disk_fails_one_job_with_a_sentence(queue, crew, tmp_path):
    add(queue, tmp_path, "big", "fine")
    crew.join(crew.start("work", tmp_path, file_limit=2_000_000))
    big, fine = queue.jobs()
    assert (big.state, fine.state) == ("failed", "done")
    assert big.error.startswith("The disk is full")
    assert big.error.endswith("save to another disk.")
    assert [path.name for path in (tmp_path / "clips").iterdir()] == ["1.mp4"]


def test_cancel_and_pause_take_effect_within_a_step(queue, crew, tmp_path):
    first, second, third = add(queue, tmp_path, "slow", "slow", "fine")
    worker = crew.start("work", tmp_path)
    crew.wait(lambda: queue.find(first).done > 2)
    queue.cancel(first)
    stopped = queue.find(first).done
    crew.wait(lambda: queue.find(second).done > 2)
    queue.pause(second)
    crew.join(worker)
    assert states(queue) == ["cancelled", "paused", "done"]
    assert queue.find(first).done <= stopped + 1
    assert queue.resume(second).state == "queued"
    assert queue.cancel(second).state == "cancelled"
    assert queue.find(third).path.stat().st_size == SIZE


def test_a_worker_told_to_stop_gives_its_job_back(queue, crew, tmp_path):
    add(queue, tmp_path, "slow")
    stop = threading.Event()

    def render(order: Order) -> Record:
        stop.set()
        return quick(order)

    work(queue, render, tmp_path / "jobs", stop=stop)
    (job,) = queue.jobs()
    assert (job.state, job.attempts, job.worker) == ("queued", 0, None)


def test_a_worker_that_was_thought_dead_writes_nothing(queue, crew, tmp_path):
    (name,) = add(queue, tmp_path, "slow")
    sleeper = crew.start("work", tmp_path, lease=0.3)
    crew.wait(lambda: queue.find(name).done > 2)
    with queue.database.writing():  # so that it does not fall asleep with the lock in its hand
        os.kill(sleeper, signal.SIGSTOP)
        time.sleep(0.1)
    time.sleep(0.4)
    work(queue, quick, tmp_path / "jobs", drain=True)
    done = queue.find(name)
    made = done.path.stat()
    os.kill(sleeper, signal.SIGCONT)
    crew.join(sleeper)
    assert queue.find(name) == done
    assert done.path.stat().st_mtime_ns == made.st_mtime_ns
    assert not (tmp_path / "renders.txt").exists()
    check_files(queue, tmp_path)


@pytest.mark.parametrize("renamed", [False, True])
def test_a_file_that_only_waits_for_its_name_is_not_rendered_again(queue, tmp_path, renamed):
    (name,) = add(queue, tmp_path, "fine")
    queue.lease = 0.0
    job = queue.take("one that dies")
    write_bytes(job.hidden_path, bytes(SIZE))
    job = queue.stage(job, Record(job.hidden_path, job.request, PLAN, 0.1), {})
    if renamed:
        job.staged_path.replace(job.path)
    queue.lease = 20.0

    def refuse(order: Order) -> Record:
        raise AssertionError("rendered twice")

    work(queue, refuse, tmp_path / "jobs", drain=True)
    assert queue.find(name).state == "done"
    assert queue.find(name).path.stat().st_size == SIZE


def test_a_file_in_the_way_is_kept(queue, tmp_path):
    (name,) = add(queue, tmp_path, "fine")
    write_bytes(tmp_path / "clips" / "0.mp4", b"mine")
    work(queue, quick, tmp_path / "jobs", drain=True)
    assert (tmp_path / "clips" / "0.mp4").read_bytes() == b"mine"
    assert queue.find(name).path.name == "0-2.mp4"
    assert queue.find(name).path.stat().st_size == SIZE


def test_a_worker_waits_while_the_database_is_away(queue, tmp_path):
    (name,) = add(queue, tmp_path, "fine")
    database, away = tmp_path / "q.db", tmp_path / "away.db"

    def render(order: Order) -> Record:
        queue.database.close()
        database.rename(away)
        database.mkdir()
        threading.Timer(0.8, bring_back).start()
        return quick(order)

    def bring_back() -> None:
        database.rmdir()
        away.rename(database)

    work(queue, render, tmp_path / "jobs", drain=True)
    assert queue.find(name).state == "done"
    assert queue.find(name).path.stat().st_size == SIZE


def test_what_ended_and_forgotten_jobs_left_is_cleared(queue, tmp_path):
    kept, gone, ended = add(queue, tmp_path, "fine", "fine", "fine")
    for name in (kept, gone, ended):
        write_bytes(tmp_path / "jobs" / name / "latents", b"")
    for name in (kept, ended):
        write_bytes(queue.find(name).hidden_path, b"")
    queue.remove(gone)
    queue.cancel(ended)
    clear(queue, tmp_path / "jobs")
    assert {path.name for path in (tmp_path / "jobs").iterdir()} == {kept, ended}
    assert {path.name for path in (tmp_path / "clips").iterdir()} == {f".{kept}"}
