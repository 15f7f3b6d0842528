"""The API: what the page does, by name, for the Gradio client; `docs/api.md` is its manual.

Whoever asks has the same bench as on the page, so that a visitor finds the same limits and the
same clips. What is asked for and what is told of are the JSON of a `Request`; its files are sent
along, or go by the names that the studio gave them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from aiprod_studio.engines.catalog import find_card
from aiprod_studio.errors import BadRequest
from aiprod_studio.graph.extend import continued
from aiprod_studio.jobs.job import Job
from aiprod_studio.library.gallery import Entry, Query
from aiprod_studio.library.provenance import PICTURES
from aiprod_studio.types import FILES, Request, complete
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.board import act, queue_clip
from aiprod_studio.ui.cards import percent_of
from aiprod_studio.ui.form import keep_file, longest_seconds
from aiprod_studio.ui.media import locate, media_url
from aiprod_studio.ui.offers import Offer, list_offers
from aiprod_studio.ui.tabs.create import uploaded
from aiprod_studio.ui.verdict import judge

MOST_CLIPS = 100
_SAID = ("id", "state", "phase", "done", "total", "eta", "error", "created", "finished")

Json = dict[str, Any]


def publish(bench: Bench) -> None:
    """Give the page that is being built its endpoints, the only ones with a name."""

    def render(request: Json, asker: gr.Request) -> Json:
        """Queue a clip and return its job."""
        own = bench.asked_by(asker)
        return tell_job(queue_clip(own, read(request, own)), own)

    def plan(request: Json, asker: gr.Request) -> Json:
        """Return whether a clip fits this machine, how long it takes and why."""
        own = bench.asked_by(asker)
        return tell_plan(read(request, own), own)

    def jobs(asker: gr.Request, do: str = "", job: str = "") -> list[Json]:
        """Return the jobs, after doing something with one of them if that is asked."""
        own = bench.asked_by(asker)
        if do:
            act(own, do, job)
        return [tell_job(each, own) for each in own.queue.jobs()]

    def library(
        asker: gr.Request, words: str = "", engine: str = "", first: int = 0, most: int = 24
    ) -> Json:
        """Return a page of the finished clips, the newest first, and how many there are."""
        own = bench.asked_by(asker)
        own.gallery.scan()
        query = Query(words, engine, drafts=None)
        entries, total = own.gallery.find(query, max(0, first), max(0, min(most, MOST_CLIPS)))
        return {"total": total, "clips": [tell_clip(entry, own) for entry in entries]}

    def models(asker: gr.Request) -> list[Json]:
        """Return what can render here, with the request that each makes of nothing but a prompt."""
        own = bench.asked_by(asker)
        return [tell_model(offer, own) for offer in list_offers(own)]

    for answer in (render, plan, jobs, library, models):
        gr.api(_spoken(bench, answer), api_name=answer.__name__)


def _spoken(bench: Bench, answer: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what answers an endpoint: an error becomes a sentence at the client."""

    @wraps(answer)
    def guarded(*args: Any) -> Any:
        try:
            return answer(*args)
        except Exception as error:
            raise gr.Error(bench.explain(error), print_exception=False) from error

    return guarded


def read(values: Any, bench: Bench) -> Request:
    """Return the request that was sent, with its files at their place in the studio.

    Raises `BadRequest` for what is no request, and for a file that is not the sender's, such as a
    visitor's LoRAs.
    """
    if not isinstance(values, dict):
        raise BadRequest('This is no request. Send an object such as {"prompt": "a red balloon"}.')
    files = {name: values[name] for name in FILES if values.get(name) is not None}
    found = {name: str(_find_file(name, told, bench)) for name, told in files.items()}
    request = Request.from_json({**values, **found})
    if bench.limits is not None:
        bench.limits.check_own(request)
    return request


def _find_file(name: str, told: Any, bench: Bench) -> str | Path:
    """Return the path of what was sent along, or of what goes by a name."""
    kept = bench.home / PICTURES
    if isinstance(told, dict) and isinstance(told.get("path"), str):
        return keep_file(str(uploaded(told["path"], bench.uploads)), kept)
    if isinstance(told, str):
        file = locate(kept, told)
        if file is None and name in ("extend", "reference"):
            bench.gallery.scan()
            return keep_file(str(bench.gallery.entry(told).path), kept)
        if file is not None:
            return file
    raise BadRequest(f"The {name} is no file that the studio has. Send it along.")


def tell_request(asked: Json, bench: Bench) -> Json:
    """Return the JSON of a request with the files that the studio keeps by their names."""
    kept = bench.home / PICTURES
    names = {
        name: Path(asked[name]).name
        for name in FILES
        if asked.get(name) and Path(asked[name]).parent == kept
    }
    return {**asked, **names}


def tell_job(job: Job, bench: Bench) -> Json:
    """Return what a client is told of a job; `clip` and `url` once its file is there."""
    outputs, told = bench.gallery.outputs, {name: getattr(job, name) for name in _SAID}
    done = job.state == "done" and job.path.is_relative_to(outputs)
    return {
        **told,
        "percent": 100 if job.state == "done" else percent_of(job),
        "request": tell_request(job.asked, bench),
        "clip": job.path.relative_to(outputs).as_posix() if done else None,
        "url": media_url(job.path) if done else None,
    }


def tell_plan(request: Request, bench: Bench) -> Json:
    """Return what the plan card says, and the request as it would be rendered."""
    verdict = judge(request, bench.machine.hardware, bench.queue)
    if verdict.kind != "wrong":
        request = complete(continued(request), find_card(request.engine))
    return {
        **dataclasses.asdict(dataclasses.replace(verdict, plan=None)),
        "plan": verdict.plan.to_json() if verdict.plan else None,
        "request": tell_request(request.to_json(), bench),
    }


def tell_clip(entry: Entry, bench: Bench) -> Json:
    """Return what a client is told of a clip of the library."""
    return {
        "clip": entry.name,
        "url": media_url(entry.path),
        "created": entry.created,
        "draft": entry.draft,
        "request": tell_request(entry.settings["request"], bench),
        "plan": entry.settings["plan"],
    }


def tell_model(offer: Offer, bench: Bench) -> Json:
    """Return what a client is told of a model; of the weights on the disk, the owner alone."""
    card = offer.card
    told = {
        **{name: getattr(card, name) for name in ("name", "licence", "tasks", "size_step")},
        "request": {"engine": card.id}
        | {
            name: getattr(card, f"default_{name}")
            for name in ("width", "height", "seconds", "fps", "steps", "guidance")
        },
        "longest_seconds": longest_seconds(card),
        "kind": offer.verdict.kind,
        "reasons": offer.verdict.reasons,
    }
    if not bench.shared:
        here = {stock.variant.name: stock.here for stock in offer.stocks}
        told["weights"] = {name: bool(found and found.complete) for name, found in here.items()}
    return told
