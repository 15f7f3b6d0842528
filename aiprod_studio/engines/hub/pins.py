"""Which commit and files of an engine this machine uses: noted once, so that nothing drifts.

A branch may move between two starts of one download; the pin is what the first start resolved.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiprod_studio.engines.hub.cache import RemoteFile, RepoCache
from aiprod_studio.engines.hub.errors import RepoGone
from aiprod_studio.engines.hub.source import Source, Variant, choose_files
from aiprod_studio.errors import ModelUnavailable
from aiprod_studio.media.files import write_bytes
from aiprod_studio.settings import settings


@dataclass(frozen=True)
class Pin:
    """What a variant's revision was resolved to: the commit, and the files that are needed."""

    repo: str
    revision: str
    commit: str
    files: tuple[RemoteFile, ...]


def read_pin(source: Source, variant: Variant) -> Pin | None:
    """Return what this machine has pinned, or None if nothing, or another revision."""
    try:
        values = json.loads(_path(source, variant).read_text(encoding="utf-8"))
        files = tuple(RemoteFile(**entry) for entry in values.pop("files"))
        pin = Pin(files=files, **values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ModelUnavailable):
        return None
    return pin if (pin.repo, pin.revision) == (variant.repo, variant.revision) else None


def write_pin(source: Source, variant: Variant, pin: Pin) -> None:
    """Note the pin in the studio's data folder."""
    text = json.dumps(dataclasses.asdict(pin), indent=1)
    write_bytes(_path(source, variant), text.encode())


def drop_pin(source: Source, variant: Variant) -> None:
    """Forget the pin, so that the next download takes the newest commit of the revision."""
    _path(source, variant).unlink(missing_ok=True)


def adopt(variant: Variant, cache: RepoCache) -> Pin | None:
    """Return a pin for the files that another program has downloaded whole, or None."""
    commit = cache.remembered(variant.revision)
    if commit is None:
        return None
    folder = cache.snapshot(commit)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    try:
        chosen = choose_files(names, variant)
        files = tuple(_local_file(folder, name) for name in chosen)
        whole = set(_shards(folder, chosen)) <= set(chosen)
    except (RepoGone, ModelUnavailable, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # an index that cannot be read is none of ours
    if not whole:
        return None
    return Pin(variant.repo, variant.revision, commit, files)


def _local_file(folder: Path, name: str) -> RemoteFile:
    """Return what a linked file of a snapshot is; its blob is named by the digest."""
    path = folder / name
    return RemoteFile(name, path.stat().st_size, path.resolve().name)


def _shards(folder: Path, names: list[str]) -> Iterator[str]:
    """Yield the path of every shard that the indexes among `names` list."""
    for name in names:
        if name.endswith(".safetensors.index.json"):
            index = json.loads((folder / name).read_text(encoding="utf-8"))
            parent = name.rpartition("/")[0]
            for shard in set(index["weight_map"].values()):
                yield f"{parent}/{shard}" if parent else shard


def _path(source: Source, variant: Variant) -> Path:
    name = source.engine.replace(":", "--").replace("/", "--")
    return settings().home / "models" / f"{name}.{variant.name}.json"
