"""The stock of weights as HTML: what is here of a variant, what comes, and what can be done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from aiprod_studio.engines.hub import licences
from aiprod_studio.engines.hub.errors import BadToken, DiskFull, GatedRepo, RepoGone
from aiprod_studio.engines.hub.source import Licence, Source, Variant
from aiprod_studio.engines.hub.survey import Survey, gigabytes, this_hub
from aiprod_studio.errors import StudioError
from aiprod_studio.report import clock
from aiprod_studio.ui.cards import draw_button
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.weights import Task, Ware

_ADDRESS = re.compile(r"https?://[\w.:/~-]*[\w/]")
_STAGES = {
    "download": "phase.download",
    "wait": "models.wait",
    "check": "models.check",
    "retry": "models.again",
}


@dataclass(frozen=True)
class Stock:
    """One variant of an engine with what is `here` of it and what happens to it now."""

    variant: Variant
    ware: Ware
    here: Survey | None
    task: Task | None


def link_licence(terms: Licence) -> str:
    """Return the name of a licence as a link to its text."""
    page = escape(terms.page)
    return f'<a href="{page}" target="_blank" rel="noreferrer">{escape(terms.name)}</a>'


def draw_stock(source: Source, stock: Stock, say: Texts) -> str:
    """Return a variant of an engine: its name, what it does, and what its weights are up to."""
    tasks = ", ".join(say(f"task.{task}") for task in stock.variant.tasks)
    body = _happening(source, stock, say) if stock.task else _standing(source, stock, say)
    return (
        f'<section class="as-ware" data-ware="{escape(str(stock.ware))}">'
        f"<p><b>{escape(stock.variant.name)}</b> "
        f'<span class="as-facts">{escape(tasks)}</span></p>{body}</section>'
    )


def _standing(source: Source, stock: Stock, say: Texts) -> str:
    """Return where a variant stands that nothing happens to: absent, begun or here."""
    here, about = stock.here, str(stock.ware)
    have = here.present_bytes + here.part_bytes if here else 0
    size = gigabytes(have)
    if here is None or not have:
        # What was computed holds for the first variant; the Hub knows the others.
        first = stock.variant == source.variants[0]
        told = say("models.about", size=gigabytes(source.computed_bytes))
        actions = draw_button("ask", say("models.get"), about)
        return _line(told if first else say("models.absent"), actions)
    if not here.complete:
        told = say("models.part", have=size, size=gigabytes(here.total_bytes))
        actions = draw_button(_onward(source, stock), say("board.resume"), about, "go")
        sure = say("models.discard_sure", size=size)
        actions += draw_button("remove", say("models.discard"), about, sure=sure)
        return _bar(have, here.total_bytes, told) + _line(told, actions)
    sure = say("models.delete_sure", name=f"{source.name} {stock.variant.name}", size=size)
    actions = draw_button("check", say("models.verify"), about)
    actions += draw_button("remove", say("library.discard"), about, sure=sure)
    return _line(say("models.here", size=size), actions)


def _happening(source: Source, stock: Stock, say: Texts) -> str:
    """Return what happens to a variant now, or how it ended, and what can be done about it."""
    task, about = stock.task, str(stock.ware)
    assert task is not None
    if task.phase == "ask":
        return _line(say("models.ask"), draw_button("stop", say("board.cancel"), about))
    if task.phase == "ready":
        return _question(source, stock, say)
    if task.phase == "failed":
        again = "check" if task.did == "check" else _onward(source, stock)
        actions = draw_button(again, say("board.retry"), about, "go")
        actions += draw_button("stop", say("library.close"), about)
        return _line(explain(task.error, stock.variant, say), actions, "as-failed")
    if task.phase == "told":
        return _told(task, about, say)
    return _running(task, about, say)


def _onward(source: Source, stock: Stock) -> str:
    """Return what takes a download up again; one that never began is asked about first."""
    return "get" if stock.here and licences.is_accepted(source) else "ask"


def _question(source: Source, stock: Stock, say: Texts) -> str:
    """Return what is asked before the first byte: the size, the disk and the licence."""
    task, about = stock.task, str(stock.ware)
    assert task is not None
    assert task.found is not None
    found = task.found
    gate = _gate(found)
    if gate and not found.complete:
        actions = draw_button("ask", say("board.retry"), about, "go")
        actions += draw_button("stop", say("models.not_now"), about)
        return _line(explain(gate, stock.variant, say), actions, "as-failed")
    told = say(
        "models.question",
        missing=gigabytes(found.missing_bytes),
        free=gigabytes(found.free_bytes),
        folder=found.hub.cache,
    )
    terms, do, label = "", "get", say("models.start")
    if not licences.is_accepted(source):
        terms = f"<p>{escape(say('models.terms'))} {link_licence(source.licence)}</p>"
        do, label = "accept", say("models.accept")
    actions = draw_button(do, label, about, "go")
    actions += draw_button("stop", say("models.not_now"), about)
    return terms + _line(told, actions)


def _told(task: Task, about: str, say: Texts) -> str:
    """Return what checking found."""
    assert task.verdict is not None
    right = len(task.verdict.right)
    close = draw_button("stop", say("library.close"), about)
    if task.verdict.ok:
        return _line(say("models.right", count=right), close)
    bad = len(task.verdict.damaged) + len(task.verdict.missing)
    told = say("models.wrong", count=bad, total=bad + right)
    return _line(
        told, draw_button("repair", say("models.repair"), about, "go") + close, "as-failed"
    )


def _running(task: Task, about: str, say: Texts) -> str:
    """Return the bar of a download or check: bytes, speed and the time left."""
    now = task.progress
    checks = task.phase == "check"
    if now is None:
        told = [say("models.check" if checks else "models.ask")]
        bar = ""
    else:
        told = list(_words(task, say))
        bar = _bar(now.done, now.total, told[0])
    if checks:
        return bar + _line(told, draw_button("stop", say("board.cancel"), about))
    sure = say("models.cancel_sure", size=gigabytes(now.done if now else 0))
    actions = draw_button("stop", say("board.pause"), about)
    actions += draw_button("remove", say("board.cancel"), about, sure=sure)
    return bar + _line(told, actions)


def _words(task: Task, say: Texts) -> Iterator[str]:
    now = task.progress
    assert now is not None
    yield say("models.check" if task.phase == "check" else _STAGES[now.stage])
    yield f"{gigabytes(now.done)} / {gigabytes(now.total)}"
    if now.speed:
        yield f"{now.speed / 1e6:.1f} MB/s"
    if now.eta is not None:
        yield say("board.left", time=clock(now.eta))


def _bar(done: int, total: int, label: str) -> str:
    percent = min(100, round(100 * done / total)) if total else 0
    return (
        f'<div class="as-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}" aria-label="{escape(label)}">'
        f'<span style="width:{percent}%"></span></div>'
    )


def _line(told: str | list[str], actions: str, kind: str = "") -> str:
    """Return words, side by side if they are several, with their buttons."""
    parts = [told] if isinstance(told, str) else told
    words = "".join(f"<span>{_linked(part)}</span>" for part in parts)
    role = ' role="alert"' if kind == "as-failed" else ""
    return (
        f'<div class="as-line"><p class="as-words {kind}"{role}>{words}</p>'
        f'<p class="as-actions">{actions}</p></div>'
    )


def _linked(text: str) -> str:
    """Return `text` for the page, its addresses as links."""
    return _ADDRESS.sub(r'<a href="\g<0>" target="_blank" rel="noreferrer">\g<0></a>', escape(text))


def _gate(found: Survey) -> StudioError | None:
    """Return what keeps a repository closed to this person, or None."""
    if found.access == "token refused":
        return BadToken()
    return GatedRepo() if found.access in ("no token", "not accepted") else None


def explain(error: Exception | None, variant: Variant, say: Texts) -> str:
    """Return why a download failed and what to do about it on this page."""
    page = f"{this_hub().endpoint}/{variant.repo}"
    if isinstance(error, GatedRepo):
        return say("models.error_gated", page=page)
    if isinstance(error, RepoGone):
        return say("models.error_gone", page=page)
    if isinstance(error, BadToken):
        return say("models.error_token")
    if isinstance(error, DiskFull):
        return say("models.error_full")
    return str(error) if isinstance(error, StudioError) else say("error.unforeseen")
