"""Where an engine's weights come from: the download part of a row of the catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from aiprod_studio.engines.catalog import HUB as HUB
from aiprod_studio.engines.catalog import cards, rows
from aiprod_studio.engines.hub.errors import RepoGone
from aiprod_studio.errors import BadRequest

# The text of the licence comes along wherever the repository has one.
LICENCE_FILES = ("LICENSE*", "*license*.txt", "*License*.txt")
# Copies of weights that a loader takes only when asked: X.fp16.safetensors beside X.safetensors.
_COPY = re.compile(r"\.(?:fp32|fp16|bf16|fp8\w*|non_ema)$")
_SHARD = re.compile(r"-\d{5}-of-\d{5}")


@dataclass(frozen=True)
class Licence:
    """The terms of an engine's weights: their name, page, what they allow in a sentence or two.

    `accept` says whether a person must accept them before the first download.
    """

    name: str
    page: str
    allows: str
    accept: bool


@dataclass(frozen=True)
class Variant:
    """One set of files of an engine: a repository, its revision, and patterns of paths in it.

    `tasks` are what it can do (text, image, keyframes, upscale, reference); `gated` says whether
    its owner asks for terms to be accepted on the repository's page. Each of `files` must be
    there, `maybe` are taken too where they are, `leave` are not taken. The variants of the names
    in `also` are needed with it, and come along.
    """

    name: str
    repo: str
    revision: str
    gated: bool
    tasks: tuple[str, ...]
    files: tuple[str, ...]
    maybe: tuple[str, ...]
    leave: tuple[str, ...]
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """An engine's weights: memory it is for in GB, licence, variants, and computed size.

    `computed_bytes` is parameters × bytes of each as stored, for one variant, not a listing;
    `default_gb` is the device memory from which this is the engine to begin with, or None.
    """

    engine: str
    name: str
    memory_gb: tuple[float, float]
    licence: Licence
    variants: tuple[Variant, ...]
    computed_bytes: int
    default_gb: float | None = None

    @property
    def offered(self) -> tuple[Variant, ...]:
        """The variants that are downloads of their own: none that only comes along with another."""
        along = {name for one in self.variants for name in one.also}
        return tuple(one for one in self.variants if one.name not in along)

    def variant(self, name: str | None = None) -> Variant:
        """Return the variant of that name, or the first; raises `BadRequest` if there is none."""
        found = [one for one in self.variants if name in (None, one.name)]
        if not found:
            known = ", ".join(one.name for one in self.variants)
            raise BadRequest(f"{self.engine} has no variant {name!r}. Choose one of: {known}.")
        return found[0]


def find_source(engine: str) -> Source:
    """Return where an engine's weights come from; `BadRequest` names those with a download."""
    if engine.startswith(HUB):
        from aiprod_studio.engines.hub.repo import repo_source  # which needs this module

        return repo_source(engine)
    known = sources()
    if engine in known:
        return known[engine]
    if engine in cards():
        raise BadRequest(f"{engine} comes with the studio. Use it without a download.")
    raise BadRequest(f"There is no engine {engine!r}. Choose one of: {', '.join(known)}.")


def sources() -> dict[str, Source]:
    """Return every engine that is downloaded, by its id, the smallest first."""
    found = [_source(row) for row in rows().values() if "variants" in row]
    return {one.engine: one for one in sorted(found, key=lambda one: one.memory_gb)}


def default_source(memory_gb: float) -> Source | None:
    """Return the download to begin with on a device of `memory_gb`, or None where it is too small.

    It is never one whose licence must be accepted.
    """
    fits = [
        (one.default_gb, one)
        for one in sources().values()
        if one.default_gb is not None and one.default_gb <= memory_gb and not one.licence.accept
    ]
    return max(fits, key=lambda pair: pair[0])[1] if fits else None


def _source(row: Mapping[str, Any]) -> Source:
    parts = row["parts"].values()
    low, high = row["memory_gb"]
    return Source(
        engine=row["id"],
        name=row["name"],
        memory_gb=(low, high),
        licence=Licence(name=row["licence"], **row["terms"]),
        variants=tuple(_variant(entry) for entry in row["variants"]),
        computed_bytes=sum(int(part["parameters"] * part["stored_bytes"]) for part in parts),
        default_gb=row.get("default_gb"),
    )


def _variant(entry: Mapping[str, Any]) -> Variant:
    return Variant(
        name=entry["name"],
        repo=entry["repo"],
        revision=entry["revision"],
        gated=entry["gated"],
        tasks=tuple(entry["tasks"]),
        files=tuple(entry["files"]),
        maybe=tuple(entry.get("maybe", ())),
        leave=tuple(entry.get("leave", ())),
        also=tuple(entry.get("also", ())),
    )


def choose_files(names: Iterable[str], variant: Variant) -> list[str]:
    """Return the paths among `names` that `variant` needs, sorted, each file of weights once.

    Where shards lie beside the same weights in one piece, the shards are taken, as loaders do.
    Raises `RepoGone` when a pattern of the variant finds nothing.
    """
    safe = [name for name in names if _stays_inside(name)]
    for pattern in variant.files:
        if not any(_fits(name, (pattern,)) for name in safe):
            raise RepoGone(
                f"{variant.repo} has no {pattern} any more, so its layout has changed. "
                "Update the studio, or choose another engine."
            )
    patterns = (*variant.files, *variant.maybe, *LICENCE_FILES)
    chosen = {name for name in safe if _fits(name, patterns) and not _fits(name, variant.leave)}
    weights = [name for name in chosen if name.endswith(".safetensors")]
    stems = {_stem(name) for name in weights}
    sharded = {_stem(name) for name in weights if _SHARD.search(name)}
    twice = {
        name
        for name in weights
        if (_stem(name) in sharded and not _SHARD.search(name))
        or (_COPY.search(_stem(name)) and _COPY.sub("", _stem(name)) in stems)
    }
    return sorted(chosen - twice)


def _fits(name: str, patterns: Iterable[str]) -> bool:
    """Say whether a path fits one of the patterns, whose * stay within one folder."""
    return any(
        name.count("/") == pattern.count("/") and fnmatchcase(name, pattern) for pattern in patterns
    )


def _stays_inside(name: str) -> bool:
    """Say whether a path from the network stays below the folder that it is meant for."""
    return "\\" not in name and ":" not in name and not {"", ".", ".."} & set(name.split("/"))


def _stem(name: str) -> str:
    """Return a path without its suffix and without a shard's number."""
    return _SHARD.sub("", name.removesuffix(".safetensors"))
