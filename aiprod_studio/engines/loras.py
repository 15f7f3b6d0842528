"""LoRAs of a request: what its texts mean, and the files on this disk or on the Hub.

path/to/file.safetensors:0.8     a local file and its weight, which is 1 where it is left out
owner/name:0.8                   a repository with one such file at its top
owner/name/file.safetensors:0.8  one of several
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from aiprod_studio.engines.hub.download import download
from aiprod_studio.engines.hub.errors import RepoGone
from aiprod_studio.engines.hub.pace import DownloadProgress
from aiprod_studio.engines.hub.pins import read_pin
from aiprod_studio.engines.hub.source import Licence, Source, Variant
from aiprod_studio.engines.hub.survey import Survey, local_survey, survey, this_hub
from aiprod_studio.errors import BadRequest

# Hears of the bytes of a download: those that are here, and all.
OnBytes = Callable[[int, int], None]

WEIGHTS = ".safetensors"
# The file that PEFT writes, and what it says of it in one beside it.
PEFT_STEM = "adapter_model"
PEFT_CONFIG = "adapter_config.json"
_REPO = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:/(.+))?")
# The networks that LoRAs are for; of two, the first works where there is much noise.
DENOISERS = ("transformer", "transformer_2")
_HALVES = ("high", "low")
# How the two halves of a LoRA for two denoisers are told apart, as by their authors.
_HALF = re.compile(r"(?<![a-z])(high|low)(?![a-z])")


@dataclass(frozen=True)
class Lora:
    """One LoRA: its file with the file's SHA-256, and how much of it is added.

    `config` is what PEFT says of it in a file beside it, with that file's SHA-256 in the digest.
    `half` is high or low for one that is meant for that of two denoisers, "" for any.
    """

    path: Path
    digest: str
    weight: float
    half: str = ""
    config: Path | None = None

    @property
    def facts(self) -> tuple[Any, ...]:
        """What of it decides the latents."""
        return self.digest, self.weight, self.half


@runtime_checkable
class TakesLoras(Protocol):
    """The parts of an engine whose denoiser can have LoRAs."""

    def find_loras(
        self, texts: tuple[str, ...], on_bytes: OnBytes | None = None
    ) -> tuple[Lora, ...]:
        """Return the LoRAs that a request names, which fit; raises `BadRequest`."""


def find_loras(texts: tuple[str, ...], on_bytes: OnBytes | None = None) -> tuple[Lora, ...]:
    """Return the LoRAs that texts name, in an order of their own; those of the Hub are fetched.

    Raises `BadRequest` for what names no file, and as `survey` and `download` do.
    """
    found = [_find(*_parse(text), on_bytes) for text in texts]
    return tuple(sorted(found, key=lambda lora: lora.facts))


def find_here(text: str) -> tuple[Path, float]:
    """Return the file that a text names, as far as it is on this disk, and its weight.

    Of a LoRA that must be fetched first it is the name. Asks nobody; raises `BadRequest` for what
    names no LoRA.
    """
    name, weight = _parse(text)
    path, repo = _place(name)
    found = local_survey(*_source(repo[1], repo[2] or ""), this_hub()) if repo else None
    weights = [one for one in found.present if one.endswith(WEIGHTS)] if found else []
    return (found.folder / weights[0] if found and len(weights) == 1 else path), weight


def half_of(path: Path) -> str:
    """Return for which of two denoisers a file is by its name: high, low or "" for any."""
    half = _HALF.search(path.stem.lower())
    return half[1] if half else ""


def is_for(half: str, network: str, two: bool) -> bool:
    """Say whether a LoRA of a half is for one of the `DENOISERS`, of which a model may have two."""
    return not (two and half) or half == _HALVES[DENOISERS.index(network)]


def _parse(text: str) -> tuple[str, float]:
    """Return what a text names, and the weight behind its last colon."""
    name, _, number = text.strip().rpartition(":")
    try:
        weight = float(number)
    except ValueError:  # no number, so the colon is of a drive, or there is none
        name, weight = text.strip(), 1.0
    if not name or not math.isfinite(weight):
        raise BadRequest(
            f"'{text}' is no LoRA. Write a file or a repository of the Hub, with ':' and a number "
            "where its weight is not 1."
        )
    return name, weight


def _find(name: str, weight: float, on_bytes: OnBytes | None) -> Lora:
    """Return the LoRA of a name: a file if there is one, else of the Hub."""
    path, repo = _place(name)
    if repo:
        path = _fetch(repo[1], repo[2] or "", on_bytes)
    beside = path.with_name(PEFT_CONFIG)
    config = beside if path.stem == PEFT_STEM and beside.is_file() else None
    digest = digest_of(path) + (digest_of(config) if config else "")
    return Lora(path, digest, weight, half_of(path), config)


def _place(name: str) -> tuple[Path, re.Match[str] | None]:
    """Return the file of a name, or the repository and file that it names on the Hub."""
    path = Path(name).expanduser()
    if path.is_file():
        return path.absolute(), None
    repo = None if path.is_dir() else _REPO.fullmatch(name)
    if repo is None:
        raise BadRequest(
            f"There is no file {name}. Write a LoRA's path, or owner/name for one of the Hub."
        )
    return path, repo


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, read only once as long as the file does not change."""
    try:
        told = path.stat()
        return _digest(path, told.st_size, told.st_mtime_ns)
    except OSError as error:
        raise BadRequest(
            f"The LoRA {path} cannot be read ({error.strerror}). Choose another file."
        ) from error


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(repo: str, file: str, on_bytes: OnBytes | None) -> Path:
    """Return the file of a repository's LoRA, downloaded where it is not on this disk."""
    found = _survey(repo, file)
    weights = [one.path for one in found.files if one.path.endswith(WEIGHTS)]
    if len(weights) != 1:
        what = f"has {len(weights)}: {', '.join(weights)}" if weights else "has none at its top"
        raise BadRequest(
            f"A LoRA is one {WEIGHTS} file, and {repo} {what}. "
            f"Name the one: {repo}/{weights[0] if weights else 'file' + WEIGHTS}."
        )

    def hear(progress: DownloadProgress) -> None:
        if on_bytes:
            on_bytes(progress.done, progress.total)

    return download(found, on_progress=hear) / weights[0]


def _source(repo: str, file: str) -> tuple[Source, Variant]:
    """Return where a repository's LoRA comes from: one file, or all at its top."""
    beside = f"{file.rpartition('/')[0]}/{PEFT_CONFIG}".removeprefix("/")
    variant = Variant(
        name="lora",
        repo=repo,
        revision="main",
        gated=False,
        tasks=("lora",),
        files=(),
        maybe=(escape(file) or f"*{WEIGHTS}", escape(beside)),
        leave=(),
    )
    page = f"{this_hub().endpoint}/{repo}"
    terms = Licence("licence of its repository", page, "", accept=False)
    name = f"lora:{repo}/{file}".rstrip("/")
    return Source(name, repo, (0.0, 0.0), terms, (variant,), 0), variant


def _survey(repo: str, file: str) -> Survey:
    """Return what downloading a repository's LoRA would be."""
    source, variant = _source(repo, file)
    # Another program may have only one of several files, which would then seem to be the only one.
    unsure = not file and read_pin(source, variant) is None
    try:
        return survey(source, variant, this_hub(), update=unsure)
    except RepoGone as error:
        raise BadRequest(
            f"There is no file {'/'.join(filter(None, (repo, file)))}, and no such repository that "
            "may be read on the Hub. Correct the LoRA's name."
        ) from error
