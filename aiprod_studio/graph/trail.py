"""Trails: what a clip leaves on the disk while it is made, so that a killed one goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from aiprod_studio import __version__
from aiprod_studio.engines.engine import Frame, Latents
from aiprod_studio.errors import StudioError
from aiprod_studio.media.files import replacing
from aiprod_studio.sampling.solvers import Point

log = logging.getLogger(__name__)

_NAME = "latents.safetensors"


@dataclass
class Trail:
    """One clip's folder with its latest latents, and where pictures of the way there go.

    Latents are kept at most every `every` seconds and pictures shown at most every `pause`,
    apart from finished latents, which are always kept.
    """

    folder: Path
    show: Callable[[Frame], None]
    every: float = 2.0
    pause: float = 1.0
    _kept: float = field(default=float("-inf"), init=False)
    _shown: float = field(default=float("-inf"), init=False)

    def find(self, mark: str) -> Latents | Point | None:
        """Return what was left under `mark`, on the CPU: finished latents, a point, or nothing."""
        try:
            with safe_open(self.folder / _NAME, "pt") as file:
                facts = file.metadata() or {}
                if facts.get("mark") != mark or facts.get("made_by") != _maker():
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if "done" in facts:
                return Point(int(facts["done"]), tensors["x"], tensors["clean"])
            return Latents(tensors["video"], tensors.get("audio"))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            if (self.folder / _NAME).exists():
                log.warning("The latents in %s are damaged and made again: %s", self.folder, error)
            return None

    def pass_point(self, mark: str, point: Point, picture: Callable[[], Frame]) -> None:
        """Keep a point and show its picture, if it is time again."""
        if time.monotonic() - self._kept >= self.every:
            self._keep(mark, {"x": point.x, "clean": point.clean}, {"done": str(point.done)})
        if time.monotonic() - self._shown >= self.pause:
            self.show(picture())
            self._shown = time.monotonic()

    def end(self, mark: str, latents: Latents) -> None:
        """Keep finished latents."""
        tensors = {"video": latents.video}
        if latents.audio is not None:
            tensors["audio"] = latents.audio
        self._keep(mark, tensors, {})

    def _keep(self, mark: str, tensors: dict[str, Tensor], facts: dict[str, str]) -> None:
        """Write the file whole; what cannot be kept costs time after a kill, not the clip."""
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        facts = {**facts, "mark": mark, "made_by": _maker()}
        try:
            with replacing(self.folder / _NAME) as temporary:
                save_file(whole, temporary, metadata=facts)
        except (StudioError, SafetensorError) as error:
            log.warning("The latents of this clip are not kept: %s", error)
        self._kept = time.monotonic()


def _maker() -> str:
    """Return the versions whose change may change what latents mean or how they go on."""
    return f"{__version__} {torch.__version__}"
