"""Batches: prompts and files of prompts become jobs with a plan and a file name each."""

from __future__ import annotations

import copy
import csv
import dataclasses
import io
import json
import sys
import tempfile
import types
import typing
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiprod_studio.errors import BadRequest, MediaError, StudioError
from aiprod_studio.media.files import explain
from aiprod_studio.types import FILES, Plan, Request

COLUMNS = tuple(field.name for field in dataclasses.fields(Request))
IMAGES = ("image", "last_image")
"""The columns that name a picture."""
NAME_CHARACTERS = 60
# File systems allow 255 bytes a name; a seed, a number and a writer's suffix need their share.
NAME_BYTES = 180


@dataclass(frozen=True)
class Line:
    """One entry of a batch: where it stands ("" for a lone prompt) and what it asks."""

    source: str
    request: Request


@dataclass(frozen=True)
class Job:
    """One clip to render: its completed request, its plan and its file; `covered` if it exists."""

    source: str
    request: Request
    plan: Plan
    path: Path
    covered: bool = False


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Put `source` in front of the message of every `StudioError` raised inside."""
    try:
        yield
    except StudioError as error:
        if not source:
            raise
        named = copy.copy(error)
        named.args = (f"{source}: {error}",)
        raise named from error


def parse_values(texts: Mapping[str, str]) -> dict[str, Any]:
    """Turn texts of a command line or a CSV row into values of a `Request`, or `BadRequest`."""
    return {name: _parse(name, text) for name, text in texts.items()}


def _parse(name: str, text: str) -> Any:
    """Return `text` as the type of the request's field `name`."""
    hint = typing.get_type_hints(Request)[name]
    if typing.get_origin(hint) is tuple:
        return tuple(part.strip() for part in text.split(";") if part.strip())
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if str in kinds:
        return text
    if bool in kinds:
        return _parse_flag(name, text)
    kind, wanted = (int, "a whole number") if int in kinds else (float, "a number")
    try:
        return kind(text)
    except ValueError:
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        raise BadRequest(
            f"{name} is {shown!r}; give {wanted}, or leave it out for the engine's own."
        ) from None


def _parse_flag(name: str, text: str) -> bool:
    """Return the truth of a yes or a no."""
    flags = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.strip().lower() not in flags:
        raise BadRequest(f"{name} is {text[:40]!r}; write yes or no.")
    return flags[text.strip().lower()]


def make_line(source: str, values: dict[str, Any]) -> Line:
    """Return the entry that `values` describe; raises `BadRequest` naming `source`."""
    with naming(source):
        request = Request.from_json(values)
        if not request.prompt.isascii() and _has_broken_text(request.prompt):
            raise BadRequest("The prompt is not valid Unicode text. Type it anew or save as UTF-8.")
    return Line(source, request)


def _has_broken_text(text: str) -> bool:
    """Say whether `text` holds halves of characters, which no file can store."""
    return any(unicodedata.category(character) == "Cs" for character in text)


def prompt_lines(prompts: Sequence[str], defaults: dict[str, Any]) -> list[Line]:
    """Return an entry per prompt of the command line, with `defaults` for all other values."""
    return [
        make_line(f"prompt {n}" if len(prompts) > 1 else "", {**defaults, "prompt": prompt})
        for n, prompt in enumerate(prompts, 1)
    ]


def read_lines(file: str, defaults: dict[str, Any]) -> list[Line]:
    """Read a .txt, .csv or .jsonl file of prompts ("-": lines of text from standard input).

    A line's own values win over `defaults`; its files are looked for beside the list.
    Raises `BadRequest` with file and line number, `MediaError` if the file cannot be read.
    """
    path = Path(file)
    readers = {".txt": _text_rows, ".csv": _csv_rows, ".jsonl": _json_rows}
    kind = ".txt" if file == "-" else path.suffix.lower()
    if kind not in readers:
        raise BadRequest(
            f"{path.name} is no list of prompts that can be read. Use a .txt, .csv or .jsonl file."
        )
    name = "standard input" if file == "-" else path.name
    text = _read_text(file, name)
    lines = []
    for number, values in readers[kind](text, name):
        for column in FILES & values.keys():
            if isinstance(values[column], str):
                values[column] = str((path.absolute().parent / values[column]).absolute())
        lines.append(make_line(f"{name} line {number}", {**defaults, **values}))
    if not lines:
        raise BadRequest(f"{name} holds no prompt. Write at least one line into it.")
    return lines


def _read_text(file: str, name: str) -> str:
    """Return the text of a file or of standard input, read as UTF-8 with or without a mark."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise MediaError(
            f"{name} cannot be read ({error.strerror}). Check the file's name and its permissions."
        ) from error
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise BadRequest(
            f"{name} line {number}: this is not UTF-8 text. Save it as UTF-8."
        ) from None


Rows = Iterator[tuple[int, dict[str, Any]]]


def _text_rows(text: str, name: str) -> Rows:
    """Yield a prompt per line that is not blank."""
    for number, line in enumerate(io.StringIO(text), 1):
        if line.strip():
            yield number, {"prompt": line.strip()}


def _csv_rows(text: str, name: str) -> Rows:
    """Yield the filled cells of every row; the first row names the columns."""
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    start = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            source = f"{name} line {start}"
            if not any(cells):
                pass
            elif not header:
                header = _check_header(cells, source)
            elif len(cells) > len(header):
                raise BadRequest(
                    f"{source}: {len(cells)} cells, but {len(header)} columns. Put quotes around a "
                    f"prompt that holds {delimiter!r}."
                )
            else:
                filled = {key: cell for key, cell in zip(header, cells, strict=False) if cell}
                with naming(source):
                    yield start, parse_values(filled)
            start = reader.line_num + 1
    except csv.Error as error:
        raise BadRequest(
            f"{name} line {start}: {error}. Correct the row; quotes come in pairs."
        ) from error


def _check_header(cells: list[str], source: str) -> list[str]:
    """Return the names of the columns; raises `BadRequest` for an unknown or a missing one."""
    header = [cell.lower() for cell in cells]
    unknown = sorted({name for name in header if name not in COLUMNS})
    if unknown:
        raise BadRequest(
            f"{source}: unknown column {', '.join(map(repr, unknown))}. "
            f"Use only: {', '.join(COLUMNS)}."
        )
    if "prompt" not in header or len(set(header)) < len(header):
        raise BadRequest(
            f"{source}: the first row must name the columns, each once, and 'prompt' among them. "
            f"Add it; known are: {', '.join(COLUMNS)}."
        )
    return header


def _json_rows(text: str, name: str) -> Rows:
    """Yield the values of every line that is not blank; null means "not given"."""
    for number, line in enumerate(io.StringIO(text), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "too large"
            raise BadRequest(
                f"{name} line {number}: this is not valid JSON ({reason}). Write one "
                'object a line, such as {"prompt": "a red balloon", "seed": 1}.'
            ) from None
        if not isinstance(values, dict):
            raise BadRequest(
                f"{name} line {number}: this is no JSON object. Write one "
                'object a line, such as {"prompt": "a red balloon", "seed": 1}.'
            )
        yield number, {key: value for key, value in values.items() if value is not None}


def check_images(lines: Iterable[Line]) -> None:
    """Open every picture and reference that the lines name, once each.

    Raises `MediaError` naming the line.
    """
    from aiprod_studio.media.images import read_image
    from aiprod_studio.media.video import probe

    openers = {**dict.fromkeys(IMAGES, read_image), "reference": probe}
    seen: set[tuple[object, str]] = set()
    for line in lines:
        for name, look in openers.items():
            file = getattr(line.request, name)
            if file is not None and (look, file) not in seen:
                with naming(line.source):
                    look(Path(file))
                seen.add((look, file))


def plan_jobs(
    lines: Sequence[Line],
    count: int,
    plan: Callable[[Request], tuple[Request, Plan]],
    folder: Path,
    resume: bool,
) -> list[Job]:
    """Return `count` jobs per line, each with its own seed and file in `folder`.

    With `resume`, a job that a finished file in `folder` covers gets that file and is marked.
    Raises the planner's `StudioError` with the line's place.
    """
    drafts: list[tuple[str, Request, Plan]] = []
    for line in lines:
        with naming(line.source):
            request, chosen = plan(line.request)
            drafts.extend((line.source, _reseed(request, n), chosen) for n in range(count))
    covers = _find_covers([request for _, request, _ in drafts], folder) if resume else {}
    taken = {path.name.casefold() for path in folder.glob("*")} if folder.is_dir() else set()
    jobs = []
    for index, (source, request, chosen) in enumerate(drafts):
        path = covers.get(index) or folder / name_file(request, taken)
        jobs.append(Job(source, request, chosen, path, index in covers))
    return jobs


def _reseed(request: Request, number: int) -> Request:
    """Return the request of the clip `number` of a line: the next seed, if there is one."""
    if request.seed is None:
        return request
    return dataclasses.replace(request, seed=request.seed + number)


def name_file(request: Request, taken: set[str]) -> str:
    """Return a file name from the prompt and the seed that is not in `taken`, and add it there."""
    stem = slug(request.prompt) or "clip"
    if request.seed is not None:
        stem = f"{stem}-seed{request.seed}"
    number = 1
    name = f"{stem}.mp4"
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}.mp4"
    taken.add(name.casefold())
    return name


def slug(prompt: str) -> str:
    """Return the letters, marks and digits of `prompt`, in any script, joined by hyphens.

    At most 60 characters and 180 bytes, so that every file system takes it; may be empty.
    """
    text = unicodedata.normalize("NFC", prompt).lower()
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    short = "-".join("".join(kept).split())[:NAME_CHARACTERS]
    return short.encode()[:NAME_BYTES].decode(errors="ignore").strip("-")


def _find_covers(requests: Sequence[Request], folder: Path) -> dict[int, Path]:
    """Return which finished file covers which request; every file covers one at most."""
    exact: dict[Request, list[Path]] = defaultdict(list)
    loose: dict[Request, list[Path]] = defaultdict(list)
    for path, made in read_finished(folder):
        exact[made].append(path)
        loose[dataclasses.replace(made, seed=None)].append(path)
    covers: dict[int, Path] = {}
    used: set[Path] = set()
    # Requests with a seed go first: one without would take a file that only they can use.
    for index, request in sorted(enumerate(requests), key=lambda pair: pair[1].seed is None):
        shelf = loose if request.seed is None else exact
        for path in shelf[request]:
            if path not in used:
                covers[index] = path
                used.add(path)
                break
    return covers


def read_finished(folder: Path) -> Iterator[tuple[Path, Request]]:
    """Yield the whole clips in `folder` that this studio made, each with its request."""
    from aiprod_studio.library.provenance import read_request

    # A name with a leading dot is a file that is being written.
    for path in sorted(folder.glob("[!.]*.mp4")):
        with suppress(StudioError, OSError):
            request = read_request(path)
            if _is_whole(path):
                yield path, request


def _is_whole(path: Path) -> bool:
    """Say whether the boxes of an mp4 end where the file does: a copy that broke off is shorter.

    The settings stand in front, so a file can carry them and lack its pictures.
    """
    size = path.stat().st_size
    position, kinds = 0, set()
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:], "big")
            if length < 8:
                return False
            kinds.add(head[4:8])
            position += length
    return position == size and b"mdat" in kinds


def open_folder(folder: Path) -> None:
    """Make `folder` if it is missing; raises `StudioError` unless files can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise explain(error, folder) from error
