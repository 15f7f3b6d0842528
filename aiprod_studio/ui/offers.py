"""The offers of the tab Models: every engine, whether it fits, and what its weights are up to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from aiprod_studio.engines.catalog import can_render, cards, rows
from aiprod_studio.engines.hub import licences
from aiprod_studio.engines.hub.errors import BadToken, DiskFull, GatedRepo
from aiprod_studio.engines.hub.source import Licence, Source, Variant, default_source, sources
from aiprod_studio.engines.hub.survey import Survey, gigabytes
from aiprod_studio.errors import StudioError
from aiprod_studio.report import clock
from aiprod_studio.settings import settings
from aiprod_studio.types import Hardware, ModelCard, Request
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.cards import draw_button, tell_verdict
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.verdict import Verdict, weigh
from aiprod_studio.ui.weights import Task, Ware

_STAGES = {
    "download": "phase.download",
    "wait": "models.wait",
    "check": "models.check",
    "retry": "models.again",
}


@dataclass(frozen=True)
class Shelf:
    """One variant of an engine with what is `here` of it and what happens to it now."""

    variant: Variant
    ware: Ware
    here: Survey | None
    task: Task | None


@dataclass(frozen=True)
class Offer:
    """One engine; without a `source` it comes with the studio, in a file of `bundled` bytes."""

    card: ModelCard
    verdict: Verdict
    source: Source | None
    shelves: tuple[Shelf, ...]
    bundled: int = 0
    suggested: bool = False


def list_offers(bench: Bench) -> list[Offer]:
    """Return every engine of the catalogue, those that need no download first."""
    hardware = bench.machine.hardware
    found = [_offer(bench, card, hardware) for card in cards().values()]
    order = list(sources())
    return sorted(found, key=lambda one: order.index(one.card.id) if one.source else -1)


def _offer(bench: Bench, card: ModelCard, hardware: Hardware | None) -> Offer:
    verdict = weigh(Request("…", card.id), card, hardware, bench.queue)
    source = sources().get(card.id)
    if source is None:
        size = (settings().assets / rows()[card.id]["bundle"]).stat().st_size
        return Offer(card, verdict, None, (), bundled=size)
    wares = [Ware(card.id, variant.name) for variant in source.variants]
    shelves = tuple(
        Shelf(variant, ware, ware.survey(), bench.weights.task(ware))
        for variant, ware in zip(source.variants, wares, strict=True)
    )
    return Offer(card, verdict, source, shelves, suggested=_suggested(source, hardware))


def _suggested(source: Source, hardware: Hardware | None) -> bool:
    """Say whether an engine is the one to begin with on this machine."""
    if hardware is None or hardware.device == "cpu" or not can_render(source.engine):
        return False
    best = default_source(hardware.total_bytes / 2**30)
    return best is not None and best.engine == source.engine


def draw_offers(offers: list[Offer], say: Texts) -> str:
    """Return the cards of all engines."""
    return f'<div class="as-offers">{"".join(_card(offer, say) for offer in offers)}</div>'


def _card(offer: Offer, say: Texts) -> str:
    card, verdict = offer.card, offer.verdict
    mark = f'<span class="as-mark">{escape(say("models.suggested"))}</span>'
    reason = verdict.reasons[0] if verdict.kind == "no" else ""
    notes = [reason] if can_render(card.id) else [reason, say("models.not_yet")]
    told = "".join(f'<p class="as-note">{escape(note)}</p>' for note in notes if note)
    if offer.source is None:
        size = gigabytes(offer.bundled)
        shelves = f'<p class="as-told">{escape(say("models.bundled", size=size))}</p>'
    else:
        shelves = "".join(_shelf(offer.source, shelf, say) for shelf in offer.shelves)
    return (
        f'<article class="as-card as-offer" data-engine="{escape(card.id)}">'
        f"<header><h3>{escape(card.name)}</h3>{mark if offer.suggested else ''}"
        f'<p class="as-chip as-{verdict.kind}">{escape(tell_verdict(verdict, say))}</p></header>'
        f'<p class="as-facts">{escape(_abilities(card, say))}</p>{_licence(offer, say)}{told}'
        f'<div class="as-shelves">{shelves}</div></article>'
    )


def _abilities(card: ModelCard, say: Texts) -> str:
    """Return what the model makes: its usual clip, and whether it can be heard."""
    clip = say(
        "models.clip",
        seconds=f"{card.default_seconds:g}",
        width=card.default_width,
        height=card.default_height,
        fps=f"{card.default_fps:g}",
    )
    return f"{clip} · {say('models.sound' if card.sample_rate else 'models.silent')}"


def _licence(offer: Offer, say: Texts) -> str:
    name, allows = escape(offer.card.licence), ""
    if offer.source:
        name = _link(offer.source.licence)
        allows = f' <span dir="ltr">{escape(offer.source.licence.allows)}</span>'
    return f'<p class="as-facts">{escape(say("models.licence"))}: {name}.{allows}</p>'


def _link(terms: Licence) -> str:
    page = escape(terms.page)
    return f'<a href="{page}" target="_blank" rel="noreferrer">{escape(terms.name)}</a>'


def _shelf(source: Source, shelf: Shelf, say: Texts) -> str:
    tasks = ", ".join(say(f"task.{task}") for task in shelf.variant.tasks)
    body = _happening(source, shelf, say) if shelf.task else _standing(source, shelf, say)
    return (
        f'<section class="as-ware" data-ware="{escape(str(shelf.ware))}">'
        f"<p><b>{escape(shelf.variant.name)}</b> "
        f'<span class="as-facts">{escape(tasks)}</span></p>{body}</section>'
    )


def _standing(source: Source, shelf: Shelf, say: Texts) -> str:
    """Return where a variant stands that nothing happens to: absent, begun or here."""
    here, about = shelf.here, str(shelf.ware)
    have = here.present_bytes + here.part_bytes if here else 0
    size = gigabytes(have)
    if here is None or not have:
        # What was computed holds for the first variant; the Hub knows the others.
        first = shelf.variant == source.variants[0]
        told = say("models.about", size=gigabytes(source.computed_bytes))
        actions = draw_button("ask", say("models.get"), about)
        return _line(told if first else say("models.absent"), actions)
    if not here.complete:
        told = say("models.part", have=size, size=gigabytes(here.total_bytes))
        actions = draw_button("ask", say("board.resume"), about, "go")
        sure = say("models.discard_sure", size=size)
        actions += draw_button("remove", say("models.discard"), about, sure=sure)
        return _bar(have, here.total_bytes, told) + _line(told, actions)
    sure = say("models.delete_sure", name=f"{source.name} {shelf.variant.name}", size=size)
    actions = draw_button("check", say("models.verify"), about)
    actions += draw_button("remove", say("library.discard"), about, sure=sure)
    return _line(say("models.here", size=size), actions)


def _happening(source: Source, shelf: Shelf, say: Texts) -> str:
    """Return what happens to a variant now, or how it ended, and what can be done about it."""
    task, about = shelf.task, str(shelf.ware)
    assert task is not None
    if task.phase == "ask":
        return _line(say("models.ask"), draw_button("stop", say("board.cancel"), about))
    if task.phase == "ready":
        return _question(source, shelf, say)
    if task.phase == "failed":
        actions = draw_button("get", say("board.retry"), about, "go")
        actions += draw_button("stop", say("library.close"), about)
        return _line(explain(task.error, source, shelf.variant, say), actions, "as-failed")
    if task.phase == "told":
        return _told(task, about, say)
    return _running(task, about, say)


def _question(source: Source, shelf: Shelf, say: Texts) -> str:
    """Return what is asked before the first byte: the size, the disk and the licence."""
    task, about = shelf.task, str(shelf.ware)
    assert task is not None
    assert task.found is not None
    found = task.found
    told = say(
        "models.question",
        missing=gigabytes(found.missing_bytes),
        free=gigabytes(found.free_bytes),
        folder=found.hub.cache,
    )
    terms, do, label = "", "get", say("models.start")
    if not licences.is_accepted(source):
        name = source.licence.name
        terms = f"<p>{escape(say('models.terms', licence=name))} {_link(source.licence)}</p>"
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
        return _line(say("models.right", count=right), close, "as-well")
    bad = len(task.verdict.damaged) + len(task.verdict.missing)
    told = say("models.wrong", count=bad, total=bad + right)
    return _line(told, draw_button("repair", say("models.repair"), about, "go") + close, "as-failed")


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
    words = "".join(f"<span>{escape(part)}</span>" for part in parts)
    return (
        f'<div class="as-line"><p class="as-words {kind}">{words}</p>'
        f'<p class="as-actions">{actions}</p></div>'
    )


def explain(error: Exception | None, source: Source, variant: Variant, say: Texts) -> str:
    """Return why a download failed and what to do about it on this page."""
    if isinstance(error, GatedRepo):
        return say("models.error_gated", page=f"https://huggingface.co/{variant.repo}")
    if isinstance(error, BadToken):
        return say("models.error_token")
    if isinstance(error, DiskFull):
        return say("models.error_full")
    return str(error) if isinstance(error, StudioError) else say("error.unforeseen")
