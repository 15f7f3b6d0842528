"""The gallery: an index of every clip in the outputs folder that carries our settings.

The files are the truth. The index is an SQLite file that a scan brings up to date; it can be
deleted at any time, and the next scan fills it again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Boolean,
    Column,
    ColumnElement,
    Engine,
    Float,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
)
from sqlalchemy.exc import DatabaseError

from aiprod_studio.errors import BadRequest, StudioError
from aiprod_studio.library.provenance import read_settings
from aiprod_studio.library.trash import Trash
from aiprod_studio.media.files import explain
from aiprod_studio.media.images import Frame, resize, write_image
from aiprod_studio.media.video import probe, read_frames
from aiprod_studio.sentences import Said

DRAFTS = "drafts"
"""The folder of drafts, below the folder of outputs or that of a visitor's."""

THUMBNAIL_SIDE = 320
PATIENCE_SECONDS = 30.0

_TABLES = MetaData()
_CLIPS = Table(
    "clips",
    _TABLES,
    Column("name", String(500), primary_key=True),
    Column("stamp", Integer, nullable=False),
    Column("ours", Boolean, nullable=False),
    Column("draft", Boolean, nullable=False, default=False),
    Column("created", Float, nullable=False, index=True),
    Column("prompt", Text, nullable=False, default=""),
    Column("words", Text, nullable=False, default=""),
    Column("engine", String(200), nullable=False, default="", index=True),
    Column("width", Integer),
    Column("height", Integer),
    Column("seconds", Float),
    Column("seed", Integer),
    Column("settings", Text, nullable=False, default="{}"),
)
_C = _CLIPS.c


@dataclass(frozen=True)
class Entry:
    """One clip: `name` is its path below the outputs folder, `created` seconds since 1970.

    `settings` are the request, plan and version that the file carries; `width` and `height` are
    pixels, `seconds` the length that was asked for.
    """

    name: str
    path: Path
    created: float
    prompt: str
    engine: str
    width: int | None
    height: int | None
    seconds: float | None
    seed: int | None
    draft: bool
    settings: dict[str, Any]


@dataclass(frozen=True)
class Query:
    """What to look for: every one of `words` in the prompt, an `engine`, not before `since`.

    `since` is in seconds since 1970; `drafts` None means drafts and finished clips alike.
    """

    words: str = ""
    engine: str = ""
    since: float = 0.0
    drafts: bool | None = False


class Gallery:
    """The clips below the folder `outputs`; `home` keeps the index and the thumbnails.

    Raises `StudioError` when the index cannot be opened.
    """

    def __init__(self, outputs: Path, home: Path) -> None:
        self.outputs = outputs
        self.thumbnails = home / "thumbnails"
        self.trash = Trash(outputs)
        self._file = home / "gallery.db"
        try:
            home.mkdir(parents=True, exist_ok=True)
            self._engine = self._open_index()
        except (OSError, DatabaseError) as error:
            raise StudioError(
                f"The index of the library, {self._file}, cannot be opened ({error}). Close other "
                "programs that use it, and make sure that its folder can be written."
            ) from error

    def _open_index(self) -> Engine:
        """Return the index's engine; one that is damaged or foreign is made anew by a scan."""
        try:
            return _open(self._file)
        except DatabaseError as error:
            if "locked" in str(error):  # another program writes it: nothing is wrong with it
                raise
            self._file.unlink(missing_ok=True)
            return _open(self._file)

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        self._engine.dispose()

    def scan(self) -> int:
        """Bring the index up to date with the folder and return how many files were read.

        Only files that are new or changed are opened.
        """
        with self._engine.connect() as connection:
            known = {row.name: row.stamp for row in connection.execute(select(_C.name, _C.stamp))}
        found = dict(_files(self.outputs))
        fresh = [_read(self.outputs, n, s) for n, s in found.items() if known.get(n) != s]
        gone = known.keys() - found.keys()
        replaced = gone | {row["name"] for row in fresh if row["name"] in known}
        if not fresh and not gone:
            return 0
        with self._engine.begin() as connection:
            for name in replaced:
                connection.execute(delete(_CLIPS).where(_C.name == name))
            if fresh:
                # Two tabs may scan at once: what the other one wrote meanwhile is as good.
                connection.execute(insert(_CLIPS).prefix_with("OR REPLACE"), fresh)
        return len(fresh)

    def find(self, query: Query, offset: int = 0, limit: int = 24) -> tuple[list[Entry], int]:
        """Return up to `limit` entries from `offset` on, the newest first, and how many match."""
        where = list(_conditions(query))
        page = select(_CLIPS).where(*where).order_by(_C.created.desc(), _C.name)
        count = select(func.count()).select_from(_CLIPS).where(*where)
        with self._engine.connect() as connection:
            rows = connection.execute(page.limit(limit).offset(offset)).all()
            total = connection.scalar(count) or 0
        return [self._entry(row) for row in rows], total

    def engines(self) -> list[str]:
        """Return the engines that made the clips, sorted."""
        query = select(_C.engine).where(_C.ours).distinct().order_by(_C.engine)
        with self._engine.connect() as connection:
            return list(connection.scalars(query))

    def entry(self, name: str) -> Entry:
        """Return one clip; raises `BadRequest` when it is not there."""
        with self._engine.connect() as connection:
            row = connection.execute(select(_CLIPS).where(_C.name == name, _C.ours)).first()
        if row is None:
            told = "This clip is not in the library any more. Reload the library."
            raise BadRequest(Said("said.no_clip", told))
        return self._entry(row)

    def thumbnail(self, path: Path) -> Path | None:
        """Return the small picture of a clip, made the first time; None if it shows nothing."""
        try:
            told = f"{path} {path.stat().st_mtime_ns}"
        except OSError:
            return None
        code = hashlib.sha256(told.encode(errors="surrogatepass")).hexdigest()
        made = self.thumbnails / f"{code[:24]}.webp"
        if not made.is_file():
            try:
                write_image(made, _middle(path))
            except (StudioError, StopIteration):
                return None
        return made

    def discard(self, name: str) -> str:
        """Move a clip to the trash and return the token that brings it back."""
        entry = self.entry(name)
        token = self.trash.put(entry.path)
        self._forget(name)
        return token

    def restore(self, token: str) -> Path:
        """Bring a clip back from the trash, under a numbered name if its own is taken."""
        path = self.trash.take(token)
        self.scan()
        return path

    def export(self, names: list[str], folder: Path) -> list[Path]:
        """Copy clips to `folder` and return the copies; files that are there stay untouched."""
        copies = []
        for name in names:
            source = self.entry(name).path
            try:
                folder.mkdir(parents=True, exist_ok=True)
                target = next(path for path in numbered(folder / source.name) if not path.exists())
                copies.append(Path(shutil.copy2(source, target)))
            except OSError as error:
                raise explain(error, folder / source.name) from error
        return copies

    def _forget(self, name: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(_CLIPS).where(_C.name == name))

    def _entry(self, row: Row[Any]) -> Entry:
        values = {field: getattr(row, field) for field in Entry.__dataclass_fields__ if field in _C}
        values["settings"] = json.loads(row.settings)
        return Entry(path=self.outputs / row.name, **values)


def numbered(path: Path) -> Iterator[Path]:
    """Yield `path`, then the same name with -2, -3 and so on."""
    yield path
    number = 2
    while True:
        yield path.with_stem(f"{path.stem}-{number}")
        number += 1


def _open(file: Path) -> Engine:
    """Return an engine on the index with its table made."""
    engine = create_engine(
        URL.create("sqlite", database=str(file)), connect_args={"timeout": PATIENCE_SECONDS}
    )

    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    event.listen(engine, "connect", prepare)
    try:
        _TABLES.create_all(engine)
        with engine.connect() as connection:
            connection.execute(select(_CLIPS).limit(1))
    except DatabaseError:
        engine.dispose()
        raise
    return engine


def _files(outputs: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and a stamp of change of every mp4 that is not hidden."""
    for folder, folders, files in os.walk(outputs):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            if file.startswith(".") or not file.lower().endswith(".mp4"):
                continue
            path = Path(folder) / file
            name = path.relative_to(outputs).as_posix()
            try:
                name.encode()
                facts = path.stat()
            except (OSError, UnicodeError):  # gone already, or a name that no database takes
                continue
            yield name, facts.st_mtime_ns // 1000


def _read(outputs: Path, name: str, stamp: int) -> dict[str, Any]:
    """Return the row of a file; one that carries no settings is noted, so it is not read again."""
    row: dict[str, Any] = {column.name: None for column in _CLIPS.columns}
    row |= {"prompt": "", "words": "", "engine": "", "settings": "{}"}
    row |= {"name": name, "stamp": stamp, "created": stamp / 1e6, "ours": False}
    row["draft"] = DRAFTS in name.split("/")[:-1]
    try:
        settings = read_settings(outputs / name)
        asked = settings["request"]
        row |= {key: _number(asked.get(key)) for key in ("width", "height", "seconds", "seed")}
        row |= {key: _text(asked[key]) for key in ("prompt", "engine")}
    except (StudioError, KeyError, AttributeError):
        return row
    return row | {
        "ours": True,
        "words": row["prompt"].casefold(),
        "settings": json.dumps(settings),
    }


def _number(value: Any) -> float | None:
    """Return a number of a file's settings as the index can hold it, or None."""
    fits = isinstance(value, int | float) and -(2**63) <= value < 2**63
    return value if fits else None


def _text(value: Any) -> str:
    """Return a text of a file's settings as the index can hold it."""
    return str(value).encode(errors="replace").decode()


def _conditions(query: Query) -> Iterator[ColumnElement[bool]]:
    """Yield what a row must meet."""
    yield _C.ours
    for word in query.words.casefold().split():
        yield _C.words.contains(word, autoescape=True)
    if query.engine:
        yield _C.engine == query.engine
    if query.since:
        yield _C.created >= query.since
    if query.drafts is not None:
        yield _C.draft == query.drafts


def _middle(path: Path) -> Frame:
    """Return the frame in the middle of a clip, at most `THUMBNAIL_SIDE` pixels a side."""
    half = probe(path).frames // 2
    frame: Frame = next(itertools.islice(read_frames(path), half, None))
    height, width = frame.shape[:2]
    scale = min(1.0, THUMBNAIL_SIDE / max(height, width))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    smaller: Frame = resize(frame[None], *small)[0]
    return smaller


def since_days(days: int) -> float:
    """Return the moment `days` ago, or 0 for no days at all."""
    return time.time() - days * 86400 if days else 0.0
