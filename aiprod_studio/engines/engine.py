"""What an engine is, and the one loop that steps down when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aiprod_studio.errors import DoesNotFit
from aiprod_studio.hardware.plan import cheaper
from aiprod_studio.sampling.solvers import OnPoint, Point
from aiprod_studio.types import ModelCard, Plan, Request

Frame = npt.NDArray[np.uint8]
Frames = npt.NDArray[np.uint8]
Sound = npt.NDArray[np.float32]
OnStep = Callable[[int, int], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Text:
    """A prompt as the denoiser reads it: features `[1, L, D]` and a pooled vector `[1, D]`.

    `more` is what else a family's denoiser reads, under names of its own.
    """

    features: Tensor
    pooled: Tensor
    more: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Pictures:
    """The pictures `[H, W, 3]`, of the canvas's size, that a clip must begin and end with."""

    first: Frame | None = None
    last: Frame | None = None


Given = dict[str, Tensor]
"""What a denoiser reads of pictures, under its family's own names; empty where there are none."""


@dataclass(frozen=True)
class Latents:
    """One clip before decoding: video `[1, C, T, H, W]` and audio `[1, C, n]` or none."""

    video: Tensor
    audio: Tensor | None


class Parts(Protocol):
    """The loaded parts of an engine, as graph steps call them."""

    def encode_text(self, prompt: str) -> Text:
        """Return the features of a prompt in any language; "" is the absence of one."""

    def encode_media(self, pictures: Pictures, plan: Plan) -> Given:
        """Return what the denoiser reads of pictures that the clip must show."""

    def denoise(
        self,
        text: Text,
        nothing: Text,
        given: Given,
        request: Request,
        plan: Plan,
        on_step: OnStep,
    ) -> Latents:
        """Return the latents of one clip; `given` is what `encode_media` made of its pictures."""

    def decode_video(self, latents: Latents, plan: Plan) -> Frames:
        """Return frames `[T, H, W, 3]` of the plan's canvas."""

    def decode_audio(self, latents: Latents, seconds: float) -> Sound | None:
        """Return sound `[C, S]` of that length at the card's rate, or none."""


@runtime_checkable
class Resumable(Parts, Protocol):
    """Parts whose denoiser can be watched, and can go on where a killed one was."""

    def denoise(
        self,
        text: Text,
        nothing: Text,
        given: Given,
        request: Request,
        plan: Plan,
        on_step: OnStep,
        on_point: OnPoint | None = None,
        start: Point | None = None,
    ) -> Latents:
        """Return exactly what a run without `start` does; `on_point` gets every point of it."""

    def preview(self, point: Point, request: Request, plan: Plan) -> Frame:
        """Return the first frame `[H, W, 3]` as the denoiser sees it at a point."""


class Engine(Protocol):
    """A model that this studio can plan for, load and run."""

    @property
    def card(self) -> ModelCard:
        """What the model can do and what it costs."""

    def load(self, plan: Plan) -> AbstractContextManager[Parts]:
        """Hold the weights in memory as planned while the `with` lasts."""


def run_fitting(plan: Plan, work: Callable[[Plan], Result]) -> tuple[Plan, Result]:
    """Return the first plan, from `plan` down, whose work did not run out of memory.

    Raises `DoesNotFit` when the cheapest one does.
    """
    while True:
        try:
            return plan, work(plan)
        except (torch.OutOfMemoryError, MemoryError) as error:
            less = cheaper(plan)
            if less is None:
                raise DoesNotFit(
                    "Memory ran out even with the smallest plan. Close other programs, or ask "
                    "for a smaller or shorter clip."
                ) from error
            plan = less
