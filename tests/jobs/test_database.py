"""What opens, what does not, and what is said then."""

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aiprod_studio.jobs.database import VERSION, QueueUnavailable
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.types import Request

ROOT = Path(__file__).resolve().parents[2]
READ_ONLY = """
import os, sys
from pathlib import Path
from aiprod_studio.errors import StudioError
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.types import Request
place = sys.argv[1]
if hasattr(os, "geteuid") and os.geteuid() == 0:
    os.seteuid(65534)
try:
    Queue(place).add(Request("a dog"), Path("dog.mp4"))
except StudioError as error:
    print(error)
"""
FULL = """
import os, resource, sys
from pathlib import Path
from aiprod_studio.errors import StudioError
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.types import Request
queue = Queue(sys.argv[1])
size = max(path.stat().st_size for path in Path(sys.argv[1]).parent.iterdir())
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, hard))
added = []
try:
    while len(added) < 1000:
        added.append(queue.add(Request("a dog"), Path("dog.mp4")))
except StudioError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
added.append(queue.add(Request("a dog"), Path("dog.mp4")))
print(len(added) > 3 and queue.jobs() == added)
"""


def refused(place: str) -> str:
    """Return the sentence with which a queue does not open."""
    with pytest.raises(QueueUnavailable) as caught:
        Queue(place)
    return str(caught.value)


def run(program: str, place: Path) -> str:
    """Return what a program says that uses the queue in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", program, str(place)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_queue_is_what_it_was_when_it_is_opened_again(tmp_path):
    place = str(tmp_path / "new folder" / "100% mine?.db")
    first = Queue(place)
    job = first.add(Request("a dog"), tmp_path / "dog.mp4")
    first.database.close()
    again = Queue(place)
    assert again.jobs() == [job]
    again.database.close()
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["100% mine?.db"]


def test_a_url_opens_as_well(tmp_path):
    queue = Queue(f"sqlite:///{(tmp_path / 'q.db').as_posix()}")
    assert queue.jobs() == []
    queue.database.close()
    assert (tmp_path / "q.db").exists()


def test_many_open_a_new_queue_at_once(tmp_path):
    place, found = str(tmp_path / "q.db"), []

    def use() -> None:
        queue = Queue(place)
        found.append(queue.add(Request("a dog"), tmp_path / "dog.mp4").id)
        queue.database.close()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8
    with sqlite3.connect(place) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(VERSION,)]
    connection.close()


def test_a_newer_queue_is_left_alone(tmp_path):
    place = str(tmp_path / "q.db")
    Queue(place).database.close()
    with sqlite3.connect(place) as connection:
        connection.execute("UPDATE schema_version SET version = version + 1")
    connection.close()
    assert refused(place).startswith(f"The queue in {place} was made by a newer version")


def test_what_is_no_database_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at" * 9)
    (tmp_path / "folder.db").mkdir()
    assert "holds something else or is damaged" in refused(str(tmp_path / "text.db"))
    assert "cannot be opened" in refused(str(tmp_path / "folder.db"))
    assert "cannot be used" in refused(str(tmp_path / "text.db" / "below.db"))
    said = refused("nonesuch://someone:secret@host/db")
    assert "cannot be used" in said
    assert "secret" not in said


def test_a_database_without_write_permission_is_refused_with_a_sentence(tmp_path):
    place = tmp_path / "q.db"
    Queue(str(place)).database.close()
    for path, mode in ((place, 0o444), (tmp_path, 0o555)):
        path.chmod(mode)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    try:
        said = run(READ_ONLY, place)
    finally:
        tmp_path.chmod(0o755)
    assert said.startswith(f"The queue in {place} cannot be ")
    assert "ermissions" in said


def test_a_full_disk_is_a_sentence_and_loses_nothing_that_was_queued(tmp_path):
    said, whole = run(FULL, tmp_path / "q.db").splitlines()
    assert said.startswith(f"The queue in {tmp_path / 'q.db'} cannot ")
    assert "free" in said
    assert whole == "True"
