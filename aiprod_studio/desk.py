"""The desk: the worker process, in which the studio renders what is in the queue."""

from __future__ import annotations

import io
import logging
import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

from aiprod_studio.errors import StudioError
from aiprod_studio.jobs.device import own_device
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.jobs.worker import Order, Render, clear, work
from aiprod_studio.options import Parser
from aiprod_studio.settings import settings
from aiprod_studio.studio import Studio
from aiprod_studio.types import Progress, Record

if TYPE_CHECKING:
    from aiprod_studio.engines.engine import Frame

log = logging.getLogger(__name__)

PREVIEW_SIDE = 256
KEEP_SECONDS = 2.0


def main(words: Sequence[str]) -> int:
    """Work through the queue until the process is told to stop; returns the exit code.

    One worker a machine renders: another one waits for its end, or with --drain leaves the queue
    to it. Raises `QueueUnavailable` when the queue's database cannot be opened.
    """
    parser = Parser(
        "aiprod-studio worker", description="Render the jobs of the queue, one after the other."
    )
    parser.add_argument("--drain", action="store_true", help="end when no job waits any more")
    options = parser.parse_args(words)
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), end)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    queue = Queue(settings().database)
    studio = Studio(hold=True)
    try:
        with own_device(settings().home / "worker.lock", stop, not options.drain) as mine:
            if mine:
                log.info("The worker is waiting for jobs in %s.", settings().database)
                clear(queue, settings().jobs)
                work(queue, render_with(studio), settings().jobs, stop=stop, drain=options.drain)
    finally:
        studio.close()
        queue.database.close()
    return 0


def render_with(studio: Studio, keep_seconds: float = KEEP_SECONDS) -> Render:
    """Return a renderer for the worker; latents are kept at most every `keep_seconds`."""

    def render(order: Order) -> Record:
        order.tell(Progress("load", 0, 1))
        from aiprod_studio.graph.trail import Trail  # torch starts with the first job

        def show(frame: Frame) -> None:
            order.show(encode_preview(frame))

        trail = Trail(order.folder, show, keep_seconds)
        jobs = [(order.request, order.path)]
        for _, outcome in studio.render_all(jobs, lambda _, told: order.tell(told), {0: trail}):
            if isinstance(outcome, StudioError):
                raise outcome
            record = outcome
        return record

    return render


def encode_preview(frame: Frame) -> bytes:
    """Return a frame `[H, W, 3]` as a WebP picture of at most `PREVIEW_SIDE` pixels a side."""
    from PIL import Image

    picture = Image.fromarray(frame)
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=80)
    return file.getvalue()
