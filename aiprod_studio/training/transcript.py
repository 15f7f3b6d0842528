"""The transcript: an exam's marks as a page of Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

_LOW = 0.95  # marks of the judge below which the page tells what it confuses
_WIDE = 105  # characters of a line of text
_KINDS = ("places", "times", "styles", "motions", "cameras")


def write_transcript(marks: dict[str, Any]) -> str:
    """Return the page that tells the marks that `tests/benchmarks/judge.py` collects."""
    parts = (_head(marks), _table(marks), _kinds(marks), _tongues(marks), _end(marks))
    lines = []
    for line in (line for part in parts for line in part):
        text = not line.startswith("|")
        lines += textwrap.wrap(line, _WIDE, break_long_words=False) or [""] if text else [line]
    return "\n".join(lines)


def _head(marks: dict[str, Any]) -> Iterator[str]:
    sizes = {name: group["asked"] for name, group in marks["groups"].items()}
    yield "# The starter, judged"
    yield ""
    yield (
        "A small network of its own, the judge, names what lies in a clip, how things move, and "
        "when something hits the ground, by the picture and by the sound. It learns from scenes "
        "alone; the generator never learns from it. This page is written by "
        f"`python tests/benchmarks/judge.py report --clips {marks['clips']}`."
    )
    yield ""
    yield (
        f"Asked for were {sizes['held out']} clips whose combination of subject, place and motion "
        f"training never showed, {sizes['seen']} of combinations that it may have shown, "
        f"{sizes['pair']} of two subjects, and {sizes['impact']} that bounce or fall, in English, "
        f"in the `{marks['preset']}` preset. The prompts say subject, place, hour, motion, camera "
        "and style as people type them, slips of the finger included; what a prompt does not say "
        "is not asked. The ceiling is the judge on rendered scenes of the same kinds, twice as "
        "many; half of them went through the VAEs too."
    )
    yield ""


def _table(marks: dict[str, Any]) -> Iterator[str]:
    groups = marks["groups"]
    unseen, impact = groups["held out"], groups["impact"]["impacts"]
    psnr = unseen["psnr"]
    yield "| What | Aim on two cores | Reached | Ceiling: scenes | Scenes through the VAEs |"
    yield "| --- | --- | --- | --- | --- |"
    drawn = {name for group in ("held out", "seen") for name in groups[group]["drawn"]}
    title = "subjects of the curriculum · of them named right at least once"
    yield f"| {title} | ≥ 48 | {marks['subjects']} · {len(drawn)} | | |"
    yield (
        f"| video VAE, held-out scenes: PSNR of the frame · in the subject's box | ≥ 29 · ≥ 25 dB "
        f"| {psnr[0]:.1f} · {psnr[1]:.1f} dB | | |"
    )
    for title, group in (("held-out", unseen), ("seen", groups["seen"])):
        part = _ratio(group["named"], "subjects")
        aim = "≥ 75 % of the ceiling" if title == "held-out" else ""
        reached = f"{_row(group, 'subjects', 'clips')}: {part} of the ceiling"
        limits = [_row(group, "subjects", what) for what in ("scenes", "through")]
        yield f"| subject, {title} combinations | {aim} | {reached} | {' | '.join(limits)} |"
    yield _lines("place · hour · style", "≥ 90 %", unseen, ("places", "times", "styles"))
    yield _lines("motion · camera", "≥ 70 %", unseen, ("motions", "cameras"))
    yield _tongue_line(marks)
    yield _lines("two subjects, both present", "≥ 50 %", groups["pair"], ("both",))
    heard = [_heard(impact[what]) for what in ("clips", "scenes", "through")]
    yield f"| impact heard within ±80 ms of the impact seen | ≥ 70 % | {' | '.join(heard)} |"
    far, near = unseen["frechet"]
    yield (
        f"| Fréchet distance of the judge's features | reported | {far:.1f} to rendered scenes "
        f"| {near:.1f} between rendered ones | |"
    )
    taken = " · ".join(f"{marks['seconds'][name]:.1f} s" for name in marks["seconds"]) or "–"
    title = "a 2 s clip with sound, from the command to the file: default · fast"
    yield f"| {title} | ≤ 20 · ≤ 8 s | {taken} | | |"
    yield ""


def _lines(title: str, aim: str, group: dict[str, Any], kinds: tuple[str, ...]) -> str:
    """Return a row of the table that tells several kinds in each of its cells."""
    cells = [
        " · ".join(_row(group, kind, what) for kind in kinds)
        for what in ("clips", "scenes", "through")
    ]
    return f"| {title} | {aim} | {' | '.join(cells)} |"


def _row(group: dict[str, Any], kind: str, what: str) -> str:
    return _percent(group["named"][what][kind][0])


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _ratio(named: dict[str, Any], kind: str) -> str:
    part, whole = named["clips"][kind][0], named["scenes"][kind][0]
    return _percent(part / whole) if part is not None and whole else "–"


def _heard(impacts: dict[str, Any]) -> str:
    """Return the share heard in time, how many are seen, and what chance would give."""
    share, chance = _percent(impacts["in_time"]), _percent(impacts["by_chance"])
    return f"{share} of {impacts['seen']} (another clip's sound: {chance})"


def _tongue_line(marks: dict[str, Any]) -> str:
    """Return the row of the same prompts in other languages, of what English reaches."""
    english = marks["languages"]["en"]["subjects"][0]
    others = {code: own for code, own in marks["languages"].items() if code != "en"}
    found = "–"
    if others and english:
        shares = {code: own["subjects"][0] / english for code, own in others.items()}
        worst = min(shares, key=lambda code: shares[code])
        mean = sum(shares.values()) / len(shares)
        found = f"{_percent(mean)} · {_percent(shares[worst])} ({worst})"
    aim = "≥ 85 % · ≥ 70 % of English"
    title = f"the same prompt in {len(marks['languages'])} languages, subject: mean · worst"
    return f"| {title} | {aim} | {found} | | |"


def _kinds(marks: dict[str, Any]) -> Iterator[str]:
    """Yield the shares named right of seen and held-out combinations by kind."""
    yield "| Named right | Held out: clips | scenes | Seen: clips | scenes |"
    yield "| --- | --- | --- | --- | --- |"
    for kind in ("subjects", *_KINDS):
        cells = [
            _row(marks["groups"][name], kind, what)
            for name in ("held out", "seen")
            for what in ("clips", "scenes")
        ]
        yield f"| {kind} | {' | '.join(cells)} |"
    yield ""
    showing = marks["groups"]["impact"]["impacts"]
    yield (
        f"Of clips that should bounce or fall {_percent(showing['clips']['clips'])} show an impact "
        f"to the judge, of such scenes {_percent(showing['scenes']['clips'])}."
    )
    unseen = marks["groups"]["held out"]
    for kind, mistakes in unseen["confusions"].items():
        low = unseen["named"]["scenes"][kind][0] < _LOW
        if low and mistakes:
            told = ", ".join(f"{a} as {b} ({_percent(share)})" for a, b, share in mistakes)
            yield f"The judge itself confuses {kind}: {told}."
    yield ""


def _tongues(marks: dict[str, Any]) -> Iterator[str]:
    """Yield what is named right by groups of languages that share a script."""
    scripts: dict[str, list[str]] = {}
    for code, own in marks["languages"].items():
        scripts.setdefault("English" if code == "en" else own["script"], []).append(code)
    yield (f"The same {marks['each']} prompts with the same seeds, `fast` preset, by script:")
    yield ""
    yield "| Script | Languages | Subject | Place | Hour | Motion |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for script, codes in scripts.items():
        cells = []
        for kind in ("subjects", "places", "times", "motions"):
            shares = [marks["languages"][code][kind] for code in codes]
            asked = sum(number for _, number in shares)
            hits = sum(share * number for share, number in shares if number)
            cells.append(_percent(hits / asked if asked else None))
        yield f"| {script} | {' '.join(codes)} | {' | '.join(cells)} |"
    yield ""


def _end(marks: dict[str, Any]) -> Iterator[str]:
    """Yield what training took."""
    machine = marks["machine"]
    yield (
        f"Hardware: {machine['name']}, {machine['cores']} cores, {machine['gflops']:.0f} GFLOP/s "
        "in large bfloat16 products as this page was written. Hours are the trainer's own, beside "
        "whatever else the machine did."
    )
    yield ""
    yield "| Network | Steps | Hours | PFLOP at most |"
    yield "| --- | --- | --- | --- |"
    for name, taken in (*marks["training"].items(), *marks["judge"].items()):
        work = taken["hours"] * 3600 * machine["gflops"] / 1e6
        yield f"| {name} | {taken['steps']:,} | {taken['hours']:.2f} | {work:.2f} |"
    yield ""
    yield "`eye` and `watch` are the judge's parts."
    yield ""
