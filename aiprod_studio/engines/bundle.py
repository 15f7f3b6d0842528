"""A family's networks in one safetensors file, with their sizes and licence inside."""

from __future__ import annotations

import dataclasses
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from aiprod_studio.engines.packing import deflate, from_steps, inflate, to_steps
from aiprod_studio.engines.tensors import write_tensors
from aiprod_studio.errors import ModelUnavailable
from aiprod_studio.models.audio_vae import AudioVAE, AudioVAEConfig
from aiprod_studio.models.backbone import Backbone, BackboneConfig
from aiprod_studio.models.finisher import Finisher, FinisherConfig
from aiprod_studio.models.layout import LayoutConfig, LayoutPlanner
from aiprod_studio.models.sketches import Sketcher, SketcherConfig
from aiprod_studio.models.text_encoder import TextEncoder, TextEncoderConfig
from aiprod_studio.models.upscaler import Upscaler, UpscalerConfig
from aiprod_studio.models.video_vae import VideoVAE, VideoVAEConfig

FORMAT = "aiprod-v2"
LICENCE = "Apache-2.0"
_SCALE = ".scale_of_rows"
# The parts whose matrices are stored in steps, and how many to a row's largest value.
_STEPS = {"backbone": 127, "text_encoder": 127, "layout": 27, "sketcher": 23, "finisher": 15}
# Of matrices that are told by how they differ; what a text encoder learnt last is small.
_STEPS_MOVED = {"backbone": 9, "audio_vae": 9, "text_encoder": 4}
_SINCE = "since"
# The networks by the names of their parts, each with its configuration.
KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "backbone": (Backbone, BackboneConfig),
    "video_vae": (VideoVAE, VideoVAEConfig),
    "audio_vae": (AudioVAE, AudioVAEConfig),
    "text_encoder": (TextEncoder, TextEncoderConfig),
    "upscaler": (Upscaler, UpscalerConfig),
    "layout": (LayoutPlanner, LayoutConfig),
    "sketcher": (Sketcher, SketcherConfig),
    "finisher": (Finisher, FinisherConfig),
}


@dataclass(frozen=True)
class Networks:
    """The networks of the family, in evaluation mode; a bundle may be without the last four."""

    backbone: Backbone
    video_vae: VideoVAE
    audio_vae: AudioVAE
    text_encoder: TextEncoder
    upscaler: Upscaler | None = None
    layout: LayoutPlanner | None = None
    sketcher: Sketcher | None = None
    finisher: Finisher | None = None


def save_bundle(
    path: Path,
    networks: Networks,
    parts: Sequence[str] = tuple(KINDS),
    weights: str = "",
    since: Networks | None = None,
) -> None:
    """Write the networks, or some `parts` of them, small: weight matrices of the parts in `_STEPS`
    so, all else as 16-bit floats; raises as `write_tensors` does.

    Of a part that stands in for another, only the weights need to be there that differ: those whose
    name the regular expression `weights` finds. Matrices that the bundle beside which it will lie
    has as well, read `since` as networks, may be told by how they differ, in few steps, rows beyond
    its last one whole; of their sizes, too, only what is new.
    """
    tensors = {}
    configs = {}
    for part in parts:
        network: nn.Module | None = getattr(networks, part)
        if network is None:
            continue
        before: nn.Module | None = getattr(since, part, None)
        known = before.state_dict() if before is not None else {}
        configs[part] = _news(_sizes(network), _sizes(before) if before is not None else {})
        for name, value in network.state_dict().items():
            if not re.search(weights, name):
                continue
            moved = name in known
            if value.ndim > 1 and part in (_STEPS_MOVED if moved else _STEPS):
                off = value.clone()
                if moved:
                    off[: len(known[name])] -= known[name]
                steps, scale = to_steps(off, (_STEPS_MOVED if moved else _STEPS)[part])
                tensors[f"{part}.{name}"], tensors[f"{part}.{name}{_SCALE}"] = deflate(steps), scale
            else:
                tensors[f"{part}.{name}"] = value.half()
    config = json.dumps(configs, ensure_ascii=False)
    header = {"format": FORMAT, "licence": LICENCE, "config": config}
    if since is not None:
        header[_SINCE] = "the bundle beside"
    write_tensors(path, tensors, header)


def load_bundle(path: Path, device: str = "cpu") -> Networks:
    """Read a bundle as float32 networks on `device`; `ModelUnavailable` when it is not one.

    A file beside it, `<bundle>.<part>.safetensors`, stands in for a part, or for those of its
    weights that it holds: so a network can be replaced without all of them.
    """
    networks: dict[str, Any] = {}
    with ExitStack() as opened:
        whole = _File(path, device, opened)
        for part in KINDS:
            beside = path.with_suffix(f".{part}.safetensors")
            files = [_File(beside, device, opened)] if beside.exists() else []
            networks |= _build(part, [*files, whole])
    return Networks(**networks)


def _sizes(network: nn.Module) -> dict[str, Any]:
    """Return a network's configuration as JSON holds it."""
    sizes: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(network.config)))  # type: ignore[call-overload]
    return sizes


def _news(sizes: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Return the sizes that are not `told` yet; of lists of names that grew, only what came."""
    return {
        name: _added(told[name], value) if name in told else value
        for name, value in sizes.items()
        if name not in told or told[name] != value
    }


def _added(before: Any, value: Any) -> Any:
    """Return what stands behind what was there, by row, or the value where it is not rows."""
    rows = isinstance(before, list) and isinstance(value, list) and len(before) == len(value)
    pairs = list(enumerate(zip(before, value, strict=True))) if rows else []
    if not pairs or not all(isinstance(e, list) for _, pair in pairs for e in pair):
        return value
    if any(new[: len(old)] != old for _, (old, new) in pairs):
        return value
    return {at: new[len(old) :] for at, (old, new) in pairs if new != old}


def _joined(sizes: dict[str, Any], news: dict[str, Any]) -> dict[str, Any]:
    """Return the sizes with the news that `_news` has told of them."""
    whole = sizes | news
    for name, came in news.items():
        if isinstance(came, dict):
            before = enumerate(sizes.get(name, ()))
            whole[name] = [[*row, *came.get(str(at), ())] for at, row in before]
    return whole


def _freeze(value: Any) -> Any:
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


class _File:
    """An open file of networks; raises `ModelUnavailable` for what cannot be read of it."""

    def __init__(self, path: Path, device: str, opened: ExitStack) -> None:
        self.path = path
        with self._told():
            self.tensors: Any = opened.enter_context(safe_open(path, "pt", device=device))
            header = self.tensors.metadata() or {}
            if header.get("format") != FORMAT:
                raise ModelUnavailable(
                    f"{path.name} holds no {FORMAT} networks. Choose a file made by this studio."
                )
            self.configs: dict[str, dict[str, Any]] = json.loads(header["config"])
            self.names = frozenset(self.tensors.keys())
            self.differs = _SINCE in header

    def read(self, name: str, shape: Sequence[int], whole: _File) -> torch.Tensor:
        """Return a stored tensor as float32; what tells a difference is added to the `whole`'s."""
        with self._told():
            stored: torch.Tensor = self.tensors.get_tensor(name)
            if name + _SCALE not in self.names:
                return stored.float()
            scale: torch.Tensor = self.tensors.get_tensor(name + _SCALE)
            if stored.dtype == torch.uint8:
                stored = inflate(stored).view(-1, *shape[1:]).to(scale.device)
        value = from_steps(stored, scale)
        if self.differs and name in whole.names:
            before = whole.read(name, shape, whole)
            value[: len(before)] += before
        return value

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, zlib.error) as error:
            raise ModelUnavailable(
                f"The weights in {self.path} cannot be read ({error}). Install the studio again, "
                "or choose another engine."
            ) from error


def _build(part: str, files: Sequence[_File]) -> dict[str, Any]:
    """Build one network without allocating it twice; the first file that holds a weight gives it.

    There is none where no file tells its size.
    """
    sizes: dict[str, Any] = {}
    for file in reversed(files):
        sizes = _joined(sizes, file.configs.get(part, {}))
    if not sizes:
        return {}
    kind, config_kind = KINDS[part]
    frozen = {name: _freeze(value) for name, value in sizes.items()}
    with torch.device("meta"):
        network = kind(config_kind(**frozen))
    weights = {}
    for name, empty in network.state_dict().items():
        stored, whole = f"{part}.{name}", files[-1]
        holder = next((file for file in files if stored in file.names), whole)
        weights[name] = holder.read(stored, empty.shape, whole)
    network.load_state_dict(weights, assign=True)
    return {part: network.requires_grad_(False).eval()}
