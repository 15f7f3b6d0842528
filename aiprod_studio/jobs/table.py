"""The table of jobs, and a row of it as a `Job`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Float, Integer, LargeBinary, Row, String, Table, Text

from aiprod_studio.jobs.database import TABLES
from aiprod_studio.jobs.job import Job
from aiprod_studio.sentences import read_sentence

JOBS = Table(
    "jobs",
    TABLES,
    Column("id", String(16), primary_key=True),
    Column("owner", String(200), nullable=False, index=True),
    Column("state", String(16), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("engine", String(200), nullable=False),
    Column("asked", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("plan", Text),
    Column("wish", String(16)),
    Column("token", Integer, nullable=False, default=0),
    Column("worker", String(200)),
    Column("lease_until", Float),
    Column("attempts", Integer, nullable=False, default=0),
    Column("phase", String(16)),
    Column("done", Integer, nullable=False, default=0),
    Column("total", Integer, nullable=False, default=0),
    Column("eta", Float),
    Column("preview_time", Float),
    Column("error", Text),
    Column("staged", Text),
    Column("render_seconds", Float),
    Column("timings", Text),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
    # Last, so that SQLite reads none of it for a list of jobs.
    Column("preview", LargeBinary),
)
READ = [JOBS.c[field.name] for field in dataclasses.fields(Job)]
"""Every column but the preview, in the order of `Job`."""

_JSON = ("asked", "plan", "timings")


def read_job(row: Row[Any]) -> Job:
    """Return a row of the columns `READ` as a `Job`."""
    values = dict(row._mapping)
    for name in _JSON:
        values[name] = None if values[name] is None else json.loads(values[name])
    if values["error"] is not None:
        values["error"] = read_sentence(values["error"])
    return Job(**{**values, "path": Path(values["path"])})
