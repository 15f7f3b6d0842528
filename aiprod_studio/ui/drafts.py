"""Drafts: small and fast looks at a request, one of which is rendered in full afterwards.

A draft keeps what decides the picture: prompt, seed, length and the shape of the frame. The
request for the final clip lies beside the drafts, so it is there after a restart too.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from aiprod_studio.errors import BadRequest, StudioError
from aiprod_studio.graph.extend import continued
from aiprod_studio.jobs.job import Job
from aiprod_studio.jobs.queue import Queue
from aiprod_studio.library.gallery import DRAFTS
from aiprod_studio.media.files import write_bytes
from aiprod_studio.types import ModelCard, Plan, Request, complete

STEPS = 4
SMALLEST_SIDE = 64
LARGE_SIDE = 256
WISH = "final.json"


def queue_drafts(
    queue: Queue,
    outputs: Path,
    request: Request,
    card: ModelCard,
    count: int,
    plan: Callable[[Request], Plan | None],
) -> list[Job]:
    """Queue `count` drafts of a request with seeds that follow each other, and return their jobs.

    Raises `BadRequest` when the engine cannot render the request.
    """
    final = complete(continued(request), card)
    first = secrets.randbelow(2**31) if final.seed is None else final.seed
    small = draft_of(final, card)
    folder = outputs / DRAFTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    write_bytes(folder / WISH, json.dumps(final.to_json(), ensure_ascii=False).encode())
    jobs = []
    for seed in range(first, first + count):
        asked = dataclasses.replace(small, seed=seed)
        jobs.append(queue.add(asked, folder / f"seed{seed}.mp4", plan(asked)))
    return jobs


def draft_of(final: Request, card: ModelCard) -> Request:
    """Return a completed request with few steps, halved in size as often as its shape allows.

    That of two stages is the first of them, from which the final clip goes on.
    """
    assert final.width is not None
    assert final.height is not None
    assert final.steps is not None
    width, height = final.width, final.height
    if final.stages > 1:
        step = card.size_step
        width, height = (max(step, side // 2 // step * step) for side in (width, height))
        return dataclasses.replace(final, width=width, height=height, stages=1)
    while (
        max(width, height) > LARGE_SIDE
        and min(width, height) // 2 >= SMALLEST_SIDE
        and width % (2 * card.size_step) == height % (2 * card.size_step) == 0
    ):
        width, height = width // 2, height // 2
    return dataclasses.replace(final, width=width, height=height, steps=min(STEPS, final.steps))


def final_of(draft: Path, seed: int | None) -> Request:
    """Return the full request behind a draft's file; raises `BadRequest` when it is gone."""
    try:
        wish = json.loads((draft.parent / WISH).read_text(encoding="utf-8"))
        return dataclasses.replace(Request.from_json(wish), seed=seed)
    except (OSError, ValueError, TypeError, StudioError) as error:
        raise BadRequest(
            "The settings for the final clip of this draft are gone. Use the draft's own settings "
            "from the library instead."
        ) from error


def group_of(job: Job, outputs: Path) -> str | None:
    """Return the name of the group that a draft belongs to, None for any other job."""
    folder = job.path.parent
    return folder.name if folder.parent == outputs / DRAFTS else None
