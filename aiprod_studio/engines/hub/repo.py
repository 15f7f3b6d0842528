"""Any repository of the Hub in diffusers' layout, by its id: `hub:owner/name`.

Nobody has measured these models, so that their cards are careful: small clips, all weights on the
device, text only.
"""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import get_session, hf_raise_for_status
from huggingface_hub.errors import RemoteEntryNotFoundError

from aiprod_studio.engines.hub.cache import RepoCache
from aiprod_studio.engines.hub.errors import NotDownloaded, explain
from aiprod_studio.engines.hub.folders import INDEX, find_folder
from aiprod_studio.engines.hub.source import HUB, Licence, Source, Variant
from aiprod_studio.engines.hub.survey import Hub, this_hub
from aiprod_studio.errors import BadRequest, ModelUnavailable
from aiprod_studio.types import Memory, ModelCard

REVISION = "main"
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# What a component is read from; never pickled files, which can run anything.
_KINDS = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
# A token of unknown models: the least of those in use, so that none is forgotten.
_TOKEN_SIDE, _SIDE = 16, 32
# Values alive per token and width: more than of any model of the catalogue.
_ALIVE = 36.0


def repo_source(engine: str) -> Source:
    """Return where the weights of `hub:owner/name` come from: what its index names, no more.

    The index is fetched where it is not on this disk. Raises `BadRequest` for another id, and as
    `survey` does when the Hub cannot be asked.
    """
    repo, hub = engine.removeprefix(HUB), this_hub()
    if not _ID.fullmatch(repo):
        raise BadRequest(f"'{repo}' is no repository's id. Write hub:owner/name.")
    index = _read_index(repo, hub)
    names = [name for name, entry in index.items() if isinstance(entry, list) and entry[0]]
    if not {"text_encoder", "vae"} <= set(names):
        raise _foreign(repo)
    variant = Variant(
        name="text",
        repo=repo,
        revision=REVISION,
        gated=False,
        tasks=("text",),
        files=(INDEX, *(f"{name}/*.json" for name in names)),
        maybe=tuple(f"{name}/{kind}" for name in names for kind in _KINDS),
        leave=(),
    )
    terms = Licence(
        name="licence of its repository",
        page=f"{hub.endpoint}/{repo}",
        allows="This studio does not know what it allows.",
        accept=True,
    )
    return Source(engine, repo, (0.0, 0.0), terms, (variant,), computed_bytes=0)


def repo_card(engine: str) -> ModelCard:
    """Return a careful card of a repository that is on this disk.

    Raises as `find_folder`, and `ModelUnavailable` where it has no weights that can be read.
    """
    folder = find_folder(engine, "text")
    vae = _read(folder / "vae" / "config.json")
    parts = {path.name: _count(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    parts = {name: count for name, count in parts.items() if count}
    if not parts:
        raise ModelUnavailable(
            f"{engine.removeprefix(HUB)} has no weights in safetensors files. Choose another "
            "repository."
        )
    denoisers = {name: count for name, count in parts.items() if name.startswith("transformer")}
    largest = max(denoisers or parts, key=lambda name: parts[name])
    config = _read(folder / largest / "config.json")
    heads = config.get("num_attention_heads", 0) * config.get("attention_head_dim", 0)
    tokens = (_SIDE // _TOKEN_SIDE) ** 2
    return ModelCard(
        id=engine,
        name=engine.removeprefix(HUB),
        licence="see its page",
        size_step=_SIDE,
        frame_step=_frame_step(vae),
        frames=(1, 129),
        fps=(1.0, 60.0),
        pixels=512 * 320,
        default_width=512,
        default_height=320,
        default_seconds=2.0,
        default_fps=16.0,
        default_steps=30,
        default_guidance=5.0,
        sample_rate=0,
        part_bytes={name: 2 * count for name, count in parts.items()},
        flops_per_token=2.0 * parts[largest] * tokens,
        areas=(_SIDE * _SIDE, 1280 * 720),
        memory=Memory(
            width=heads or 4096, denoise=_ALIVE * tokens, prompt_tokens=512, reserve=0.8e9
        ),
        tasks=("text",),
    )


def _frame_step(vae: dict[str, Any]) -> int:
    """Return how many frames a decoder makes of one latent, as its configuration has it."""
    halvings = sum(map(bool, vae.get("temperal_downsample", (True, True))))
    step = vae.get("temporal_compression_ratio", 2**halvings)
    return int(vae.get("scale_factor_temporal", step))


def _read_index(repo: str, hub: Hub) -> dict[str, Any]:
    """Return the index of a repository: from this disk, else from the Hub."""
    cache = RepoCache(hub.cache, repo)
    commit = cache.remembered(REVISION)
    if commit and (cache.snapshot(commit) / INDEX).is_file():
        return _read(cache.snapshot(commit) / INDEX)
    if hub.offline:
        raise NotDownloaded(
            f"{repo} is not on this disk and offline mode is on. Unset HF_HUB_OFFLINE and "
            "download it once."
        )
    headers = {"Authorization": f"Bearer {hub.token}"} if hub.token else {}
    url = f"{hub.endpoint}/{repo}/resolve/{REVISION}/{INDEX}"
    try:
        answer = get_session().get(url, headers=headers, follow_redirects=True)
        hf_raise_for_status(answer)
    except (RemoteEntryNotFoundError, httpx2.HTTPError) as error:
        if isinstance(error, RemoteEntryNotFoundError):
            raise _foreign(repo) from error
        raise explain(error, hub.endpoint, repo, hub.token) from error
    return _parse(answer.text, url)


def _foreign(repo: str) -> BadRequest:
    return BadRequest(
        f"{repo} is no text-to-video pipeline in diffusers' layout: it has no {INDEX} that names "
        "a text encoder and a decoder. Choose another repository."
    )


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON file's table; raises `ModelUnavailable`."""
    try:
        return _parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ModelUnavailable(
            f"{path} cannot be read ({error}). Download the repository again."
        ) from error


def _parse(text: str, where: str) -> dict[str, Any]:
    """Return the table of a JSON text; raises `ModelUnavailable` where it is none."""
    try:
        table = json.loads(text)
    except ValueError as error:
        raise ModelUnavailable(f"{where} holds no JSON. Try again later.") from error
    return table if isinstance(table, dict) else {}


def _count(folder: Path) -> int:
    """Return the parameters in a component's files, from the tables at their beginnings."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            table = json.loads(file.read(size))
        total += sum(math.prod(one["shape"]) for name, one in table.items() if "shape" in one)
    return total
