"""The tiles of the library as HTML: pages of clips, one clip in full, two side by side."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from aiprod_studio.library.gallery import Entry
from aiprod_studio.report import shorten
from aiprod_studio.ui.cards import PROMPT_CHARACTERS, draw_button, draw_player
from aiprod_studio.ui.media import media_url
from aiprod_studio.ui.texts import Texts


def draw_shelf(
    entries: Iterable[tuple[Entry, Path | None]], picked: Iterable[str], say: Texts
) -> str:
    """Return the tiles of a page of the library; those picked are marked."""
    marked = set(picked)
    tiles = "".join(_tile(entry, poster, entry.name in marked, say) for entry, poster in entries)
    if not tiles:
        return f'<div class="as-empty"><p>{escape(say("library.nothing"))}</p></div>'
    return f'<div class="as-grid as-shelf">{tiles}</div>'


def _tile(entry: Entry, poster: Path | None, picked: bool, say: Texts) -> str:
    name = escape(entry.name)
    prompt = escape(shorten(entry.prompt, PROMPT_CHARACTERS))
    picture = '<span class="as-frame as-blank"></span>'
    if poster:
        source = escape(media_url(poster))
        picture = f'<span class="as-frame"><img alt="" loading="lazy" src="{source}"></span>'
    length = f"{entry.seconds:g} s" if entry.seconds else ""
    mark = say("library.picked" if picked else "library.pick")
    return (
        f'<article class="as-tile{" as-on" if picked else ""}">'
        f'<button type="button" class="as-open" data-do="open" data-id="{name}">{picture}'
        f'<span class="as-prompt" dir="auto">{prompt}</span></button>'
        f'<p class="as-facts">{escape(" · ".join(filter(None, (entry.engine, length))))}</p>'
        f'<button type="button" class="as-button as-quiet" data-do="pick" data-id="{name}" '
        f'aria-pressed="{"true" if picked else "false"}">{escape(mark)}</button></article>'
    )


def draw_details(entry: Entry, poster: Path | None, why: Iterable[str], say: Texts) -> str:
    """Return one clip in full: its player, what can be done with it, its settings, and `why`."""
    rows = [("library.file", entry.name)]
    asked = entry.settings.get("request", {})
    rows += [(f"field.{name}", value) for name, value in asked.items() if value not in (None, [])]
    table = "".join(
        f'<dt>{escape(say(key))}</dt><dd dir="auto">{escape(_shown(value, say))}</dd>'
        for key, value in rows
    )
    reasons = "".join(f"<li>{escape(say.tell(reason))}</li>" for reason in why)
    name = entry.name
    actions = draw_button("reuse", say("library.reuse"), name, "go")
    actions += draw_button("vary", say("library.vary"), name)
    actions += draw_button("extend", say("library.extend"), name)
    actions += draw_button("discard", say("library.discard"), name)
    actions += draw_button("close", say("library.close"))
    return (
        f'<article class="as-card as-details">{draw_player(entry.path, poster)}'
        f'<p class="as-actions">{actions}</p><dl>{table}</dl><ul>{reasons}</ul></article>'
    )


def draw_comparison(pair: Iterable[tuple[Entry, Path | None]], say: Texts) -> str:
    """Return two clips side by side, started together, with the settings in which they differ."""
    both = list(pair)
    asked = [entry.settings.get("request", {}) for entry, _ in both]
    names = [name for name in asked[0] if asked[0].get(name) != asked[1].get(name)]
    columns = ""
    for (entry, poster), values in zip(both, asked, strict=True):
        rows = "".join(
            f"<dt>{escape(say(f'field.{name}'))}</dt>"
            f'<dd dir="auto">{escape(_shown(values.get(name), say))}</dd>'
            for name in names
        )
        columns += f"<div>{draw_player(entry.path, poster)}<dl>{rows}</dl></div>"
    actions = draw_button("play", say("library.play"), kind="go") + draw_button(
        "close", say("library.close")
    )
    return (
        f'<article class="as-card as-compare"><div class="as-pair">{columns}</div>'
        f'<p class="as-actions">{actions}</p></article>'
    )


def _shown(value: object, say: Texts) -> str:
    if value is None:
        return say("field.unset")
    if isinstance(value, bool):
        return say("field.yes" if value else "field.no")
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def draw_undo(tokens: list[str], say: Texts) -> str:
    """Return the line that offers to bring back what was thrown away last; empty if nothing was."""
    if not tokens:
        return ""
    text = escape(say("library.in_trash", count=len(tokens)))
    actions = draw_button("undo", say("library.undo"), tokens[0])
    actions += draw_button("empty", say("library.empty"), sure=say("library.empty_sure"))
    return (
        f'<div class="as-card as-undo" role="status"><span>{text}</span>'
        f'<p class="as-actions">{actions}</p></div>'
    )
