"""The training page: one HTML file with everything inside, made from the files of a run.

It reads `run.json` (what will be trained), the metrics `<network>.jsonl` and the samples they
name; it keeps nothing, so that it can be written again at any time, by any process.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiprod_studio.media.files import write_bytes

NAME = "training.html"
_WIDE, _TALL = 640, 220
_LEFT, _TOP, _BOTTOM = 64, 36, 24
_POINTS = 400

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2330;--soft:#667085;--line:#d9dee7;
--a:#2563eb;--b:#d9480f}
@media (prefers-color-scheme:dark){:root{--paper:#12161d;--ink:#e6eaf0;--soft:#98a2b3;
--line:#2c3440;--a:#7aa7ff;--b:#ffa270}}
body{background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif;
max-width:1360px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{margin-top:2.5rem;font-size:1.2rem}small,figcaption{color:var(--soft)}
table{border-collapse:collapse}td,th{padding:.2rem .9rem .2rem 0;text-align:left;
border-bottom:1px solid var(--line)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,34rem),1fr));gap:1rem}
.row{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}img{border-radius:6px;max-width:100%}
figcaption{max-width:24rem}svg{width:100%;height:auto}text{fill:var(--soft);font-size:12px}
.axis{stroke:var(--line)}.a,.b{fill:none;stroke-width:1.6}.a{stroke:var(--a)}.b{stroke:var(--b)}
text.a,text.b{stroke:none}text.a{fill:var(--a)}text.b{fill:var(--b)}
"""


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, its points, and its colour, a or b."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = "a"


def write_page(folder: Path) -> Path:
    """Write the page of a run from the files in its folder, whole or not at all; return it."""
    run = _read_run(folder)
    notes = {name: read_notes(folder / f"{name}.jsonl") for name in run["networks"]}
    parts = [_head(run, notes)]
    parts += [_section(folder, name, rows) for name, rows in notes.items() if rows]
    title = html.escape(str(run["title"]))
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="refresh" content="60"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1>{''.join(parts)}</html>\n"
    )
    path = folder / NAME
    write_bytes(path, page.encode())
    return path


def read_notes(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics file, without those that a resumed run has taken back."""
    notes: list[dict[str, Any]] = []
    if not path.is_file():
        return notes
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            note = json.loads(line)
        except json.JSONDecodeError:
            continue  # a line that a kill has cut in half
        note.setdefault("phase", 1)
        while notes and (notes[-1]["phase"], notes[-1]["step"]) >= (note["phase"], note["step"]):
            notes.pop()
        notes.append(note)
    return notes


def read_progress(folder: Path) -> str:
    """Return a line for each network of a run: its first and its latest loss.

    That on what no step draws, if it was looked at twice: the steps' own differ by what they show.
    """
    told = []
    for name in _read_run(folder)["networks"]:
        notes = read_notes(folder / f"{name}.jsonl")
        steps = _steps(notes)
        for kind in ("held_out", "loss"):
            losses = [note[kind] for note in notes if note.get(kind) is not None]
            if len(losses) > (kind == "held_out"):
                fell = f"{losses[0]:8.3f} → {losses[-1]:.3f}"
                told.append(f"{name:<13} loss {fell}   {steps[-1]} steps\n")
                break
    return "".join(told)


def _read_run(folder: Path) -> dict[str, Any]:
    """Return what is trained here; a folder without a `run.json` shows what metrics it has."""
    path = folder / "run.json"
    if path.is_file():
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return run
    names = sorted(metrics.stem for metrics in folder.glob("*.jsonl"))
    return {"title": "Training", "networks": names, "courses": []}


def _head(run: dict[str, Any], notes: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table of all courses, and the seconds that are left where they are known."""
    rows, left, known = [], 0.0, True
    for course in run["courses"]:
        own = [n for n in notes[course["network"]] if n["phase"] == course["phase"]]
        share = own[-1].get("share", 0.0) if own else 0.0
        state = "done" if share >= 1 else f"{share:.0%}" if own else "waiting"
        if own and share < 1:
            left += own[-1].get("seconds_left", 0.0)
        elif not own:
            known = known and course["seconds"] is not None
            left += course["seconds"] or 0.0
        length = clock(course["seconds"]) if course["seconds"] else f"{course['steps']:,} steps"
        cells = (course["network"], course["phase"], course["name"], length, state)
        rows.append("".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells))
    if not rows:
        return ""
    names = "".join(f"<th>{name}</th>" for name in ("network", "phase", "shows", "length", "state"))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    more = "" if known else " and what has not begun"
    return f"<p>Time left: <b>{clock(left)}</b>{more}.</p><table><tr>{names}</tr>{body}</table>"


def _section(folder: Path, name: str, notes: list[dict[str, Any]]) -> str:
    """Return the charts and samples of one network."""
    last, steps = notes[-1], _steps(notes)

    def line(key: str, label: str, colour: str = "a", scale: float = 1.0) -> Line:
        values = [(x, note.get(key)) for x, note in zip(steps, notes, strict=True)]
        return Line(label, [(x, v * scale) for x, v in values if v is not None], colour)

    charts = [
        draw_chart("loss", [line("loss", "training"), line("held_out", "held out", "b")], log=True),
        draw_chart("learning rate", [line("rate", "rate")]),
        draw_chart("rows a second", [line("rows_a_second", "rows")]),
        draw_chart("memory in GiB", [line("memory_bytes", "memory", scale=2**-30)]),
    ]
    told = f"phase {last['phase']}, step {last['step']:,}"
    if last.get("seconds_left"):
        told += f", {clock(last['seconds_left'])} left"
    looks = [note for note in notes if note.get("samples")]
    shown = "".join(_samples(folder, note) for note in [*looks[-1:], *looks[:-1][:1]])
    return (
        f"<h2>{html.escape(name.replace('_', ' '))} <small>{told}</small></h2>"
        f'<div class="grid">{"".join(charts)}</div>{shown}'
    )


def _steps(notes: list[dict[str, Any]]) -> list[int]:
    """Return each note's step counted over all phases."""
    before, steps = 0, []
    for number, note in enumerate(notes):
        if number and notes[number - 1]["phase"] != note["phase"]:
            before += notes[number - 1]["step"]
        steps.append(before + note["step"])
    return steps


def _samples(folder: Path, note: dict[str, Any]) -> str:
    """Return the pictures of one look, inside the page."""
    figures = []
    for sample in note["samples"]:
        path = folder / "samples" / sample["file"]
        if path.is_file():
            data = base64.b64encode(path.read_bytes()).decode()
            caption = html.escape(sample["caption"])
            figures.append(
                f'<figure><img alt="{caption}" src="data:image/webp;base64,{data}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
    head = f"<p><small>samples after step {note['step']:,} of phase {note['phase']}</small></p>"
    return f'{head}<div class="row">{"".join(figures)}</div>' if figures else ""


def draw_chart(title: str, lines: Sequence[Line], log: bool = False) -> str:
    """Return lines as an SVG drawing; `log` draws positive values on a logarithmic scale."""
    kept = [
        Line(line.name, thin([(x, y) for x, y in line.points if y > 0 or not log]), line.colour)
        for line in lines
    ]
    points = [point for line in kept for point in line.points]
    if not points:
        return ""

    def height(value: float) -> float:
        return math.log(value) if log else value

    right = max(1.0, *(x for x, _ in points))
    low, high = min(height(y) for _, y in points), max(height(y) for _, y in points)
    if not log:
        low = min(low, 0.0)
    span = (high - low) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + x / right * (_WIDE - _LEFT - 8)
        return across, _TOP + (1 - (height(y) - low) / span) * (_TALL - _TOP - _BOTTOM)

    drawn = []
    for share in (0.0, 0.5, 1.0):
        value = low + share * span
        value = math.exp(value) if log else value
        y = place(0, value)[1]
        drawn.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDE}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for number, line in enumerate(kept):
        if not line.points:
            continue
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line.points))
        drawn.append(f'<polyline class="{line.colour}" points="{path}"/>')
        label = html.escape(f"{line.name} {line.points[-1][1]:.4g}")
        drawn.append(
            f'<text class="{line.colour}" x="{_WIDE}" y="{12 + 14 * number}" text-anchor="end">'
            f"{label}</text>"
        )
    drawn.append(f'<text x="{_LEFT}" y="12">{html.escape(title)}</text>')
    drawn.append(f'<text x="{_WIDE}" y="{_TALL - 6}" text-anchor="end">{right:,.0f} steps</text>')
    return (
        f'<svg viewBox="0 0 {_WIDE} {_TALL}" role="img" aria-label="{html.escape(title)}">'
        f"{''.join(drawn)}</svg>"
    )


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most `_POINTS` points, each the mean of its neighbours."""
    each = -(-len(points) // _POINTS) or 1
    groups = [points[begin : begin + each] for begin in range(0, len(points), each)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def clock(seconds: float) -> str:
    """Return seconds as hours and minutes, or as they are below two minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
