"""Trails: what a clip leaves while it is made, so that one that was stopped goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from aiprod_studio import __version__
from aiprod_studio.engines.engine import Frame, Latents
from aiprod_studio.engines.tensors import write_tensors
from aiprod_studio.errors import StudioError
from aiprod_studio.sampling.solvers import Point

log = logging.getLogger(__name__)

_NAME, _SECOND = "latents.safetensors", "refined.safetensors"


@dataclass
class Trail:
    """One clip's latest latents of a stage, and where pictures of the way there go.

    They are kept in memory and, with a `folder`, on the disk too: there at most every `every`
    seconds, apart from finished ones. Pictures are shown at most every `pause` seconds.
    """

    folder: Path | None = None
    show: Callable[[Frame], None] | None = None
    every: float = 2.0
    pause: float = 1.0
    name: str = _NAME
    _latest: tuple[str, Latents | Point] | None = field(default=None, init=False)
    _kept: float = field(default=float("-inf"), init=False)
    _shown: float = field(default=float("-inf"), init=False)

    @cached_property
    def second(self) -> Trail:
        """The trail of the clip's second stage, beside what the first has left."""
        return Trail(self.folder, self.show, self.every, self.pause, _SECOND)

    def find(self, mark: str) -> Latents | Point | None:
        """Return what was left under `mark`: finished latents, a point, or nothing."""
        if self._latest is not None and self._latest[0] == mark:
            return self._latest[1]
        return None if self.folder is None else _read(self.folder / self.name, mark)

    def pass_point(self, mark: str, point: Point, picture: Callable[[], Frame]) -> None:
        """Keep a point and show its picture, if it is time again."""
        self._latest = mark, point
        if time.monotonic() - self._kept >= self.every:
            tensors = {"x": point.x, "clean": point.clean, **point.more}
            self._write(mark, tensors, {"done": str(point.done)})
        if self.show is not None and time.monotonic() - self._shown >= self.pause:
            self.show(picture())
            self._shown = time.monotonic()

    def end(self, mark: str, latents: Latents) -> None:
        """Keep finished latents."""
        self._latest = mark, latents
        tensors = {"video": latents.video, **latents.more}
        if latents.audio is not None:
            tensors["audio"] = latents.audio
        self._write(mark, tensors, {})

    def _write(self, mark: str, tensors: dict[str, Tensor], facts: dict[str, str]) -> None:
        """Write the file whole; what cannot be kept costs time after a kill, not the clip."""
        if self.folder is None:
            return
        whole = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        facts = {**facts, "mark": mark, "made_by": _maker()}
        try:
            write_tensors(self.folder / self.name, whole, facts)
        except StudioError as error:
            log.warning("The latents of this clip are not kept: %s", error)
        self._kept = time.monotonic()


def _read(path: Path, mark: str) -> Latents | Point | None:
    """Return what a file keeps under `mark`, on the CPU; a damaged file keeps nothing."""
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            if facts.get("mark") != mark or facts.get("made_by") != _maker():
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if "done" in facts:
            return Point(int(facts["done"]), tensors.pop("x"), tensors.pop("clean"), tensors)
        return Latents(tensors.pop("video"), tensors.pop("audio", None), tensors)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        if path.exists():
            log.warning("The latents in %s are damaged and made again: %s", path, error)
        return None


def _maker() -> str:
    """Return the versions whose change may change what latents mean or how they go on."""
    return f"{__version__} {torch.__version__}"
