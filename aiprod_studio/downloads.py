"""The command `models`: which engines there are, and their weights on this disk."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiprod_studio.engines.catalog import bundled_bytes, cards, rows
from aiprod_studio.engines.hub import licences
from aiprod_studio.engines.hub.copies import Verdict, drop_damaged, remove, verify
from aiprod_studio.engines.hub.download import download
from aiprod_studio.engines.hub.errors import NotDownloaded
from aiprod_studio.engines.hub.pace import DownloadProgress, Manners, OnProgress
from aiprod_studio.engines.hub.source import Source, find_source, sources
from aiprod_studio.engines.hub.survey import (
    Survey,
    gigabytes,
    local_survey,
    refuse,
    survey,
    this_hub,
)
from aiprod_studio.errors import BadRequest, Cancelled, StudioError
from aiprod_studio.options import Parser

PLAIN_PAUSE = 10.0
STOPPED = "Stopped. What has arrived is kept; run the same command again to go on."
UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}


def main(words: Sequence[str]) -> int:
    """Run `models` and return its exit code.

    0: all is well; 1: it failed on the way; 130: stopped by Ctrl-C. Raises `StudioError` for what
    is refused before anything was done; with --json it is printed, and 2 returned.
    """
    options = _parser().parse_args(list(words))
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except (KeyboardInterrupt, Cancelled):
        return _say(STOPPED, 130)
    except StudioError as error:
        if not options.json:
            raise
        return _fail(error, options, 2)


def _parser() -> Parser:
    """Return the parser of the command and its five verbs."""
    parser = Parser(
        "aiprod-studio models",
        description="Engines and their weights: what there is, download, check, remove.",
        epilog="Downloads go to the Hugging Face cache (HF_HOME) and are found there by other "
        "programs. HF_TOKEN is the token, HF_HUB_OFFLINE=1 keeps off the network. Exit codes: "
        "0 all is well, 1 failed on the way, 2 refused, 130 stopped by Ctrl-C.",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(required=True, metavar="list|info|download|verify|remove")

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str) -> Parser:
        one: Parser = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        one.add_argument("--json", action="store_true", help="print JSON")
        one.set_defaults(run=run)
        if name != "list":
            one.add_argument("engine", metavar="ENGINE", help="as 'models list' names it")
            one.add_argument("--variant", metavar="NAME", help="as 'models info' names it")
        return one

    verb("list", _list, "Show every engine: memory, size, licence, what is on disk.")
    verb("info", _info, "Show what a download would be, before its first byte.").add_argument(
        "--update", action="store_true", help="look at the newest commit of the branch"
    )
    get = verb("download", _download, "Download the weights of an engine, or go on with it.")
    get.add_argument("--accept-licence", action="store_true", help="accept the engine's licence")
    get.add_argument("--limit", metavar="RATE", help="bytes a second at most: 500k, 5M")
    get.add_argument("--xet", action="store_true", help="by the Hub's Xet instead of plain HTTP")
    get.add_argument("--update", action="store_true", help="take the newest commit of the branch")
    check = verb("verify", _verify, "Compare every file on disk with its checksum.")
    check.add_argument("--repair", action="store_true", help="download damaged files again")
    drop = verb("remove", _remove, "Remove the weights of an engine from the disk.")
    drop.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _list(options: argparse.Namespace) -> int:
    """Print every engine of the catalogue; asks nobody but the disk."""
    found = [_native(engine) for engine in cards() if "variants" not in rows()[engine]]
    found += [_row(source) for source in sources().values()]
    if options.json:
        return _print_json(found)
    from rich.console import Console
    from rich.table import Table

    table = Table("engine", "memory", "size", "licence", "on disk", "renders now")
    for row in found:
        low, high = row["memory_gb"] or (0, 0)
        memory = f"{low:g} to {high:g} GB" if low < high else f"{low:g} GB" if low else "any"
        size = gigabytes(row["bytes"])
        table.add_row(
            row["engine"],
            memory,
            f"about {size}" if row["computed"] else size,
            row["licence"] + (" (to accept)" if row["must_accept"] else ""),
            gigabytes(row["on_disk_bytes"]) if row["on_disk_bytes"] else "no",
            "yes" if row["renders"] else "no",
        )
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120).print(table)
    return 0


def _native(engine: str) -> dict[str, Any]:
    """Return the row of an engine that comes with the studio."""
    size = bundled_bytes(engine)
    return {
        "engine": engine,
        "name": cards()[engine].name,
        "memory_gb": None,
        "bytes": size,
        "computed": False,
        "licence": cards()[engine].licence,
        "must_accept": False,
        "on_disk_bytes": size,
        "renders": True,
    }


def _row(source: Source) -> dict[str, Any]:
    """Return the row of an engine that is downloaded, with what all its variants have here."""
    here = [one for v in source.offered if (one := local_survey(source, v, this_hub()))]
    first = [one for one in here if one.variant == source.variants[0]]
    return {
        "engine": source.engine,
        "name": source.name,
        "memory_gb": source.memory_gb,
        "bytes": first[0].total_bytes if first else source.computed_bytes,
        "computed": not first,
        "licence": source.licence.name,
        "must_accept": not licences.is_accepted(source),
        "on_disk_bytes": sum(one.present_bytes + one.part_bytes for one in here),
        "renders": any(one.complete for one in here) and licences.is_accepted(source),
    }


def _info(options: argparse.Namespace) -> int:
    """Print what a download would be."""
    source = find_source(options.engine)
    found = survey(source, source.variant(options.variant), this_hub(), options.update)
    return _print_json(_to_json(found)) if options.json else _print(describe(found))


def _download(options: argparse.Namespace) -> int:
    """Say what a download is, then do it or go on with it."""
    source = find_source(options.engine)
    manners = Manners(bytes_per_second=_parse_rate(options.limit), xet=options.xet)
    if options.accept_licence and not licences.is_accepted(source):
        licences.accept(source)
        _say(f"You accept the {source.licence.name} ({source.licence.page}).", 0)
    found = survey(source, source.variant(options.variant), this_hub(), options.update)
    _say(describe(found), 0)
    refuse(found)
    return _fetch(found, manners, options)


def _fetch(found: Survey, manners: Manners, options: argparse.Namespace) -> int:
    """Bring what is missing, with bars, and print the folder."""
    try:
        with _bars() as tell:
            folder = download(found, manners, tell)
    except Cancelled:
        raise
    except StudioError as error:
        return _fail(error, options, 1)
    if options.json:
        return _print_json({**_to_json(found), "folder": str(folder), "complete": True})
    return _print(str(folder))


def _verify(options: argparse.Namespace) -> int:
    """Check the copies on this disk; --repair brings the damaged and missing ones again."""
    found = _local(options)
    with _bars() as tell:
        verdict = verify(found, tell)
    if not verdict.ok and options.repair:
        drop_damaged(found, verdict)
        found = survey(found.source, found.variant, found.hub)
        refuse(found)
        return _fetch(found, Manners(), options)
    if options.json:
        _print_json(dataclasses.asdict(verdict))
    else:
        _print(_describe_verdict(verdict, found.source))
    return 0 if verdict.ok else 1


def _remove(options: argparse.Namespace) -> int:
    """Remove the copies on this disk, after a question on a terminal."""
    found = _local(options)
    size = gigabytes(found.present_bytes + found.part_bytes)
    if not options.yes:
        if not sys.stdin.isatty():
            raise BadRequest(f"This would remove {size}. Add --yes to do it.")
        sys.stderr.write(f"Remove {size} of {found.source.name} in {found.folder}? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return _say("Nothing was removed.", 0)
    freed = remove(found)
    if options.json:
        return _print_json({"engine": found.source.engine, "freed_bytes": freed})
    return _print(f"{gigabytes(freed)} freed.")


def _local(options: argparse.Namespace) -> Survey:
    """Return what is on this disk of an engine; raises `NotDownloaded` if it is nothing."""
    source = find_source(options.engine)
    found = local_survey(source, source.variant(options.variant), this_hub())
    if found is None:
        raise NotDownloaded(
            f"{source.name} is not on this disk. Run 'aiprod-studio models download "
            f"{source.engine}' first."
        )
    return found


def describe(found: Survey) -> str:
    """Return what a download would be, for people, in a few lines."""
    source, terms = found.source, found.source.licence
    accepted = "" if licences.is_accepted(source) else " To be accepted with --accept-licence."
    others = ", ".join(one.name for one in source.offered if one != found.variant)
    origins = [
        f"{one.hub.endpoint}/{one.variant.repo}, commit {one.commit[:12]}" for one in found.each
    ]
    lines = [
        f"{source.name} ({source.engine}), variant {found.variant.name}"
        + (f"; there are also: {others}" if others else ""),
        f"  from      {' and '.join(origins)}",
        f"  licence   {terms.name}: {terms.allows}{accepted} {terms.page}",
        f"  access    {found.access}",
        f"  size      {gigabytes(found.total_bytes)} in "
        f"{sum(len(one.files) for one in found.each)} files",
        f"  on disk   {gigabytes(found.present_bytes + found.part_bytes)}, "
        f"{gigabytes(found.missing_bytes)} to come",
        f"  disk      {found.hub.cache}, {gigabytes(found.free_bytes)} free",
    ]
    return "\n".join(lines)


def _describe_verdict(verdict: Verdict, source: Source) -> str:
    """Return what checking found, for people."""
    lines = [f"damaged  {path}" for path in verdict.damaged]
    lines += [f"missing  {path}" for path in verdict.missing]
    lines.append(f"{len(verdict.right)} files are right.")
    if not verdict.ok:
        lines.append(f"Run 'aiprod-studio models verify {source.engine} --repair'.")
    return "\n".join(lines)


def _to_json(found: Survey) -> dict[str, Any]:
    """Return a survey as a plain dictionary."""
    return {
        "engine": found.source.engine,
        "variant": found.variant.name,
        "variants": [one.name for one in found.source.offered],
        "repo": found.variant.repo,
        "commit": found.commit,
        "licence": dataclasses.asdict(found.source.licence),
        "accepted": licences.is_accepted(found.source),
        "access": found.access,
        "bytes": found.total_bytes,
        "on_disk_bytes": found.present_bytes + found.part_bytes,
        "missing_bytes": found.missing_bytes,
        "free_bytes": found.free_bytes,
        "cache": str(found.hub.cache),
        "folder": str(found.folder),
        "complete": found.complete,
        "files": [
            {
                "repo": one.variant.repo,
                **dataclasses.asdict(file),
                "on_disk": file.path in one.present,
            }
            for one in found.each
            for file in one.files
        ],
    }


def _parse_rate(text: str | None) -> float | None:
    """Return the bytes a second of 500k, 5M, 2.5MB/s; raises `BadRequest` for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?(?:/s)?", text.strip().lower())
    if not found or not float(found[1]):
        raise BadRequest(f"limit is {text[:40]!r}; give bytes a second, such as 500k or 5M.")
    return float(found[1]) * UNITS[found[2]]


@contextmanager
def _bars() -> Iterator[OnProgress]:
    """Yield what shows progress on stderr: a bar on a terminal, a line at times elsewhere."""
    if not sys.stderr.isatty():
        yield _plain()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    note = TextColumn("{task.description}", markup=False)
    with Progress(BarColumn(), note, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)

        def tell(now: DownloadProgress) -> None:
            bars.update(task, completed=now.done, total=now.total, description=_describe(now))

        yield tell


def _plain() -> OnProgress:
    """Return what writes a line to stderr, every ten seconds at most."""
    spoken = 0.0

    def tell(now: DownloadProgress) -> None:
        nonlocal spoken
        if time.monotonic() - spoken >= PLAIN_PAUSE:
            spoken = time.monotonic()
            _say(_describe(now), 0)

    return tell


def _describe(now: DownloadProgress) -> str:
    """Return progress as a line: bytes, speed, time left, stage and file."""
    left = f", {now.eta / 60:.0f} min left" if now.eta is not None and now.eta >= 90 else ""
    if now.eta is not None and now.eta < 90:
        left = f", {now.eta:.0f} s left"
    speed = f", {now.speed / 1e6:.1f} MB/s" if now.speed else ""
    return f"{gigabytes(now.done)} of {gigabytes(now.total)}{speed}{left}: {now.stage} {now.file}"


def _fail(error: StudioError, options: argparse.Namespace, code: int) -> int:
    """Say an error on stderr, and its name and sentence as JSON where that is asked."""
    if options.json:
        _print_json({"error": type(error).__name__, "message": str(error)})
    return _say(str(error), code)


def _print_json(value: object) -> int:
    return _print(json.dumps(value, ensure_ascii=False))


def _print(text: str) -> int:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    return 0


def _say(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
    return code
