"""The cards of the page as HTML: the plan, the jobs and the drafts.

Whatever a person wrote is escaped where it enters the HTML. A button carries `data-do` and
`data-id`; the page's script turns a click on it into an event with both.
"""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from aiprod_studio.jobs.forecast import PHASES
from aiprod_studio.jobs.job import Job
from aiprod_studio.report import clock, shorten
from aiprod_studio.types import Hardware
from aiprod_studio.ui.board import Board, Shot
from aiprod_studio.ui.media import media_url
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.verdict import Verdict

# How much of a clip's time each phase takes, roughly; for the bar only.
_SHARES = {
    "load": 0.1,
    "encode": 0.05,
    "denoise": 0.7,
    "decode": 0.14,
    "save": 0.01,
}
# Where there is a second stage, it takes this part of the denoiser's time.
_REFINING = 0.5
NAME = "AIPROD Studio"
PROMPT_CHARACTERS = 160


def draw_button(do: str, label: str, about: str = "", kind: str = "quiet", sure: str = "") -> str:
    """Return a button that asks for `do` with `about`, a job, a clip, a model or a token.

    Where `sure` is a question, it is asked first.
    """
    question = f'data-sure="{escape(sure)}" ' if sure else ""
    return (
        f'<button type="button" class="as-button as-{kind}" data-do="{escape(do)}" {question}'
        f'data-id="{escape(about)}">{escape(label)}</button>'
    )


def draw_plan(verdict: Verdict, say: Texts) -> str:
    """Return the card that tells, before anything is rendered, whether it fits and how long."""
    head = tell_verdict(verdict, say)
    reasons = "".join(f"<li>{escape(say.tell(reason))}</li>" for reason in verdict.reasons)
    return (
        f'<div class="as-card as-plan as-{verdict.kind}" role="status" data-kind="{verdict.kind}">'
        f'<p class="as-verdict">{escape(head)}</p><ul>{reasons}</ul></div>'
    )


def tell_verdict(verdict: Verdict, say: Texts) -> str:
    """Return a verdict on one line: does it fit, how much memory, how long."""
    values = {
        "peak": f"{verdict.peak_bytes / 2**30:.1f}",
        "total": f"{verdict.total_bytes / 2**30:.1f}",
        "time": clock(verdict.seconds),
    }
    return say(f"plan.{verdict.kind}", **values)


def draw_head(worker: bool, hardware: Hardware | None, say: Texts) -> str:
    """Return the head of the page: its name, whether it can render and on what, light or dark."""
    ready = worker and hardware is not None
    device = shorten(hardware.name, 40) if hardware else ""
    told = say("app.ready", device=device) if ready else say("app.starting")
    return (
        f'<header class="as-head"><h1>{NAME}</h1>'
        f'<p class="as-chip as-{"on" if ready else "off"}" role="status">{escape(told)}</p>'
        f'<button type="button" id="as-theme" class="as-button as-quiet">'
        f"{escape(say('app.theme'))}</button></header>"
    )


def draw_trouble(sentence: str) -> str:
    """Return what stands in the place of the board while the queue cannot be read."""
    return f'<p class="as-card as-outcome as-failed" role="alert">{escape(sentence)}</p>'


def draw_board(view: Board, say: Texts) -> str:
    """Return the whole board of jobs."""
    parts = [_running(shot, view.worker, say) for shot in view.running]
    if not view.running and view.waiting and not view.worker:
        parts.append(f'<p class="as-card as-note">{escape(say("board.worker_away"))}</p>')
    for name, shots in view.groups.items():
        tiles = "".join(_draft(shot, say) for shot in shots)
        clear = draw_button("clear", say("board.clear"), name)
        grid = f'<div class="as-grid as-drafts">{tiles}</div>'
        parts.append(_section("drafts", say("board.drafts"), grid, clear))
    if view.waiting:
        rows = "".join(
            _waiting(shot, number, say) for number, shot in enumerate(view.waiting, start=1)
        )
        parts.append(_section("waiting", say("board.waiting"), f'<ol class="as-rows">{rows}</ol>'))
    if view.ended:
        tiles = "".join(_ended(shot, say) for shot in view.ended)
        parts.append(_section("ended", say("board.ended"), f'<div class="as-list">{tiles}</div>'))
    return "".join(parts) or _empty(say)


def percent_of(job: Job) -> int:
    """Return how much of a running job is done, over all its phases, in percent."""
    if job.phase not in PHASES:
        return 0
    shares = dict(_SHARES)
    if job.asked.get("stages", 1) > 1:
        shares["refine"] = _REFINING * _SHARES["denoise"]
        shares["denoise"] -= shares["refine"]
    before = sum(shares.get(name, 0.0) for name in PHASES[: PHASES.index(job.phase)])
    within = job.done / job.total if job.total else 0.0
    return round(100 * min(1.0, before + shares.get(job.phase, 0.0) * within))


def _section(kind: str, title: str, body: str, action: str = "") -> str:
    return (
        f'<section class="as-section as-{kind}"><header><h3>{escape(title)}</h3>{action}</header>'
        f"{body}</section>"
    )


def _bar(job: Job, say: Texts) -> str:
    """Return the progress bar of a running job with its phase, percentage and time left."""
    percent = percent_of(job)
    phase = say(f"phase.{job.phase if job.phase in PHASES else 'start'}")
    if job.wish:
        phase = say(f"board.{'cancelling' if job.wish == 'cancel' else 'pausing'}")
    left = "" if job.eta is None or job.wish else say("board.left", time=clock(job.eta))
    return (
        f'<div class="as-progress"><div class="as-bar" role="progressbar" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent}" aria-label="{escape(phase)}">'
        f'<span style="width:{percent}%"></span></div>'
        f'<p class="as-told"><span>{escape(phase)}</span><span>{percent} %</span>'
        f"<span>{escape(left)}</span></p></div>"
    )


def _preview(shot: Shot, say: Texts) -> str:
    if shot.preview is None:
        return (
            f'<div class="as-frame as-blank"><span>{escape(say("board.no_preview"))}</span></div>'
        )
    data = base64.b64encode(shot.preview).decode()
    alt = escape(say("board.preview"))
    return f'<div class="as-frame"><img alt="{alt}" src="data:image/webp;base64,{data}"></div>'


def _running(shot: Shot, worker: bool, say: Texts) -> str:
    job = shot.job
    away = "" if worker else f'<p class="as-note">{escape(say("board.worker_away"))}</p>'
    return (
        f'<article class="as-card as-running" data-job="{job.id}">{_preview(shot, say)}'
        f"<div>{_prompt(job)}{_facts(shot, say)}{_bar(job, say)}{away}<p class='as-actions'>"
        f"{draw_button('pause', say('board.pause'), job.id)}"
        f"{draw_button('cancel', say('board.cancel'), job.id)}</p></div></article>"
    )


def _waiting(shot: Shot, number: int, say: Texts) -> str:
    job = shot.job
    paused = job.state == "paused"
    hold = ("resume", "board.resume") if paused else ("pause", "board.pause")
    first = "" if number == 1 else draw_button("first", say("board.first"), job.id)
    state = f'<span class="as-chip">{escape(say("board.paused"))}</span>' if paused else ""
    return (
        f'<li class="as-row" data-job="{job.id}"><div>{_prompt(job)}{_facts(shot, say)}{state}'
        "</div>"
        f'<p class="as-actions">{first}{draw_button(hold[0], say(hold[1]), job.id)}'
        f"{draw_button('cancel', say('board.remove'), job.id)}</p></li>"
    )


def _draft(shot: Shot, say: Texts) -> str:
    """Return the tile of a draft; the score finds its place under the picture."""
    job = shot.job
    seed = escape(say("board.seed", seed=job.asked.get("seed")))
    if job.state == "done":
        body = _glance(shot, seed)
        foot = draw_button("final", say("board.final"), job.id, "go")
    elif job.state == "running":
        body, foot = _preview(shot, say), _bar(job, say)
    elif job.state in ("failed", "cancelled"):
        body = f'<div class="as-frame as-blank"><span>{escape(_outcome(job, say))}</span></div>'
        foot = draw_button("retry", say("board.retry"), job.id)
    else:
        body = f'<div class="as-frame as-blank"><span>{escape(say("board.queued"))}</span></div>'
        foot = ""
    return (
        f'<article class="as-tile" data-job="{job.id}">{body}<p class="as-facts">{seed}</p>'
        f'<p class="as-score" data-score="{job.id}"></p>{foot}</article>'
    )


def _ended(shot: Shot, say: Texts) -> str:
    job = shot.job
    if job.state == "done":
        body = draw_player(job.path, shot.poster)
        actions = draw_button("reuse", say("board.reuse"), job.id)
        actions += draw_button("again", say("board.again"), job.id)
    else:
        text = escape(_outcome(job, say))
        body = f'<p class="as-outcome as-{job.state}" role="status">{text}</p>'
        actions = draw_button("retry", say("board.retry"), job.id)
        actions += draw_button("reuse", say("board.reuse"), job.id)
    actions += draw_button("forget", say("board.forget"), job.id)
    return (
        f'<article class="as-card as-result as-is-{job.state}" data-job="{job.id}">{body}'
        f'<div>{_prompt(job)}{_facts(shot, say)}<p class="as-actions">{actions}</p></div></article>'
    )


def draw_player(path: Path, poster: Path | None) -> str:
    """Return a player that shows its first picture at once and loads the clip when it is played."""
    shown = f' poster="{escape(media_url(poster))}"' if poster else ""
    load = "none" if poster else "metadata"
    return (
        f'<div class="as-frame"><video src="{escape(media_url(path))}"{shown} preload="{load}" '
        "controls loop playsinline></video></div>"
    )


def _glance(shot: Shot, name: str) -> str:
    """Return a silent clip that plays while it is pointed at or has the focus, loud at a click."""
    poster = f' poster="{escape(media_url(shot.poster))}"' if shot.poster else ""
    return (
        f'<div class="as-frame"><video class="as-glance" src="{escape(media_url(shot.job.path))}"'
        f'{poster} preload="metadata" muted loop playsinline tabindex="0" aria-label="{name}">'
        "</video></div>"
    )


def _outcome(job: Job, say: Texts) -> str:
    if job.state == "cancelled":
        return say("board.cancelled")
    return say.tell(job.error) if job.error else say("board.failed")


def _prompt(job: Job) -> str:
    prompt = str(job.asked.get("prompt", ""))
    return f'<p class="as-prompt" dir="auto">{escape(shorten(prompt, PROMPT_CHARACTERS))}</p>'


def _facts(shot: Shot, say: Texts) -> str:
    """Return the line of what a job is; what is a visitor's begins with that."""
    job, asked = shot.job, shot.job.asked
    facts = [say(f"board.guest_{shot.guest}")] if shot.guest else []
    facts.append(job.engine)
    if asked.get("width") and asked.get("height"):
        facts.append(f"{asked['width']}×{asked['height']}")
    if asked.get("seconds"):
        facts.append(f"{asked['seconds']:g} s")
    if asked.get("seed") is not None:
        facts.append(say("board.seed", seed=asked["seed"]))
    if job.render_seconds:
        facts.append(say("board.took", time=clock(job.render_seconds)))
    return f'<p class="as-facts">{" · ".join(escape(str(fact)) for fact in facts)}</p>'


def _empty(say: Texts) -> str:
    """Return the invitation that stands where nothing was made yet."""
    ideas = "".join(
        draw_button("idea", say(f"ideas.{number}"), str(number), "idea") for number in (1, 2, 3)
    )
    return (
        f'<div class="as-empty"><h3>{escape(say("ideas.title"))}</h3>'
        f'<p>{escape(say("ideas.text"))}</p><div class="as-ideas">{ideas}</div></div>'
    )
