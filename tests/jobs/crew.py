"""Real processes for the tests of the queue: a parent that is ready forks one for every line.

`python crew.py` reads a JSON object a line, forks a child that works as it says, and answers with
the child's process number. Forking from one warm parent spares each child seconds of imports.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiprod_studio.errors import BadRequest
from aiprod_studio.jobs.device import own_device
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.jobs.worker import Order, Render, work
from aiprod_studio.media.files import write_bytes
from aiprod_studio.types import Plan, Progress, Record, Request

log = logging.getLogger(__name__)

PLAN = Plan("cpu", "float32", 16, 16, 1, 1, 0, {"load": 1}, 1.0, ("a test",))
SIZE = 100_000
# Networks without weights yet pull in torch._dynamo, the slowest import of all.
WARM = (
    "torch._dynamo",
    "aiprod_studio.desk",
    "aiprod_studio.engines.native",
    "aiprod_studio.graph.generate",
)


def die() -> None:
    """End this process as hard as a process can end."""
    os.kill(os.getpid(), signal.SIGKILL)


def write(order: Order) -> Record:
    """Make a small file and note it; what the prompt says may go wrong does."""
    begin = time.monotonic()
    prompt = order.request.prompt
    steps = 400 if prompt == "slow" else 2
    for step in range(1, steps + 1):
        order.tell(Progress("denoise", step, steps))
        if prompt == "slow":
            time.sleep(0.02)
    if prompt == "bad":
        raise BadRequest("This cannot be rendered. Ask for something else.")
    if prompt == "wrong":
        raise ZeroDivisionError("a mistake in the code")
    if prompt == "poison":
        die()
    order.show(b"a picture")
    order.tell(Progress("save", 0, 1))
    write_bytes(order.path, bytes(SIZE * (30 if prompt == "big" else 1)))
    order.folder.mkdir(parents=True, exist_ok=True)
    with (order.folder.parent.parent / "renders.txt").open("a") as notes:
        notes.write(f"{order.folder.name}\n")
    return Record(order.path, order.request, PLAN, time.monotonic() - begin)


def starter(prompt: str, kill: str) -> Render:
    """Return the real renderer, which dies in the phase `kill` of one prompt ("" for none)."""
    from aiprod_studio.desk import render_with
    from aiprod_studio.studio import Studio

    render = render_with(Studio(hold=True), keep_seconds=0)

    def deadly(order: Order) -> Record:
        with (order.folder.parent.parent / "steps.txt").open("a") as notes:

            def tell(progress: Progress) -> None:
                order.tell(progress)
                notes.write(f"{progress.stage} {progress.done}\n")
                notes.flush()
                if (order.request.prompt, progress.stage) != (prompt, kill):
                    return
                # In "save" all frames are written, to a file without its final name.
                if kill != "denoise" or progress.done == 2:
                    die()

            return render(Order(order.request, order.path, order.folder, tell, order.show))

    return deadly


def work_as(task: dict[str, Any]) -> None:
    """Be a worker."""
    if limit := task.get("file_limit"):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    queue = Queue(task["database"], lease=task.get("lease", 20.0))
    render = starter(*task["kill"]) if "kill" in task else write
    work(queue, render, Path(task["folder"]), drain=True)


def ask_as(task: dict[str, Any]) -> None:
    """Be a page on which someone queues a clip after the other, and note each that is queued."""
    queue = Queue(task["database"])
    with Path(task["notes"]).open("a") as notes:
        for number in range(task["count"]):
            job = queue.add(Request(f"clip {number}"), Path(task["outputs"]) / f"{number}.mp4")
            notes.write(f"{job.id}\n")
            notes.flush()


def hold_as(task: dict[str, Any]) -> None:
    """Be a worker that has the device."""
    with own_device(Path(task["lock"]), threading.Event()):
        Path(task["database"]).with_name("held").touch()
        time.sleep(600)


ROLES: dict[str, Callable[[dict[str, Any]], None]] = {
    "work": work_as,
    "ask": ask_as,
    "hold": hold_as,
}


def main() -> None:
    """Fork a child a line until the input ends."""
    for name in WARM if "warm" in sys.argv else ():
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if child:
            sys.stdout.write(f"{child}\n")
            sys.stdout.flush()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        place = Path(task["database"]).with_name("log")
        logging.basicConfig(level=logging.INFO, filename=place, format="%(asctime)s %(message)s")
        log.info("%s begins", task["role"])
        try:
            ROLES[task["role"]](task)
        except BaseException:
            log.exception("the child ended")
        # Leave as it is: what the parent would tidy up is not this process's.
        os._exit(0)


if __name__ == "__main__":
    main()
