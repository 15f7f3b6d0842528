"""The offers of the tab Models: every engine, whether it fits, and what its weights are up to."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from aiprod_studio.engines.catalog import bundled_bytes, cards
from aiprod_studio.engines.hub.source import Source, default_source, sources
from aiprod_studio.engines.hub.survey import gigabytes
from aiprod_studio.types import Hardware, ModelCard, Request
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.cards import tell_verdict
from aiprod_studio.ui.stock import Stock, draw_stock, link_licence
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.verdict import Verdict, weigh
from aiprod_studio.ui.weights import Ware


@dataclass(frozen=True)
class Offer:
    """One engine; without a `source` it comes with the studio, in a file of `bundled` bytes."""

    card: ModelCard
    verdict: Verdict
    source: Source | None
    stocks: tuple[Stock, ...]
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
        return Offer(card, verdict, None, (), bundled=bundled_bytes(card.id))
    wares = [Ware(card.id, variant.name) for variant in source.offered]
    stocks = tuple(
        Stock(variant, ware, ware.survey(), bench.weights.task(ware))
        for variant, ware in zip(source.offered, wares, strict=True)
    )
    return Offer(card, verdict, source, stocks, suggested=_suggested(source, hardware))


def _suggested(source: Source, hardware: Hardware | None) -> bool:
    """Say whether an engine is the one to begin with on this machine."""
    if hardware is None or hardware.device == "cpu":
        return False
    best = default_source(hardware.total_bytes / 2**30)
    return best is not None and best.engine == source.engine


def draw_offers(offers: list[Offer], say: Texts) -> str:
    """Return the cards of all engines."""
    return f'<div class="as-offers">{"".join(_card(offer, say) for offer in offers)}</div>'


def _card(offer: Offer, say: Texts) -> str:
    card, verdict = offer.card, offer.verdict
    mark = f'<span class="as-mark">{escape(say("models.suggested"))}</span>'
    reason = say.tell(verdict.reasons[0]) if verdict.kind == "no" else ""
    told = f'<p class="as-note">{escape(reason)}</p>' if reason else ""
    if offer.source is None:
        size = gigabytes(offer.bundled)
        shelves = f'<p class="as-told">{escape(say("models.bundled", size=size))}</p>'
    else:
        shelves = "".join(draw_stock(offer.source, stock, say) for stock in offer.stocks)
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
        name = link_licence(offer.source.licence)
        allows = f' <span dir="ltr">{escape(offer.source.licence.allows)}</span>'
    return f'<p class="as-facts">{escape(say("models.licence"))}: {name}.{allows}</p>'
