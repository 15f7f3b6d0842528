"""What an engine is, and the one loop that steps down when memory runs out."""

from __future__ import annotations

import dataclasses
import errno
import gc
import logging
import sys
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor

from aiprod_studio.errors import DoesNotFit
from aiprod_studio.hardware.budget import device_limit
from aiprod_studio.hardware.ladder import cheaper, predict
from aiprod_studio.sampling.solvers import OnPoint, Point
from aiprod_studio.sentences import Said
from aiprod_studio.types import ModelCard, Plan, Request

Frame = npt.NDArray[np.uint8]
Frames = npt.NDArray[np.uint8]
Sound = npt.NDArray[np.float32]
OnStep = Callable[[int, int], None]
OnPoints = Callable[[Sequence[Point]], None]
Chunks = Generator[Frames, None, None]
"""Frames in their order, `[t, H, W, 3]` at a time."""
Result = TypeVar("Result")

log = logging.getLogger(__name__)

# What errors say that have no class of their own: PyTorch's on a CPU and on Apple's GPU, those of a
# GPU's libraries and of C++, and oneDNN's, which under a cap of 10 MB said no more than this.
_RAN_OUT = (
    "DefaultCPUAllocator",
    "out of memory",
    "ALLOC_FAILED",
    "bad_alloc",
    "could not create a primitive",
)


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
    """One clip before decoding: video `[1, C, T, H, W]` and audio `[1, C, n]` or none.

    `more` is what else a family's decoder reads, under names of its own.
    """

    video: Tensor
    audio: Tensor | None
    more: Mapping[str, Tensor] = field(default_factory=dict)


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

    def decode_video(self, latents: Latents, plan: Plan) -> Chunks:
        """Yield the frames of the plan's canvas in order, a chunk `[t, H, W, 3]` at a time.

        One thread takes all of them and closes the generator.
        """

    def decode_audio(self, latents: Latents, seconds: float) -> Sound | None:
        """Return sound `[C, S]` of that length at the card's rate, or none."""


@runtime_checkable
class Enlarging(Parts, Protocol):
    """Parts that make finished frames larger better than interpolation does."""

    def enlarge(self, frames: Frames) -> Frames:
        """Return frames `[T, 2H, 2W, 3]` of frames `[T, H, W, 3]`, or those as they are."""


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


@runtime_checkable
class Refining(Resumable, Protocol):
    """Parts with a second stage: latents are doubled, then denoised again in a few steps."""

    def find_upscaler(self) -> Path:
        """Return where the network that doubles latents is; raises `ModelUnavailable`."""

    def upsample(self, latents: Latents, plan: Plan) -> Latents:
        """Return latents of a picture of twice the sides, those of `plan`; the sound stays."""

    def refine(
        self,
        latents: Latents,
        text: Text,
        nothing: Text,
        given: Given,
        request: Request,
        plan: Plan,
        on_step: OnStep,
        on_point: OnPoint | None = None,
        start: Point | None = None,
    ) -> Latents:
        """Return doubled latents denoised again, as `denoise` does from noise."""


@runtime_checkable
class Referring(Parts, Protocol):
    """Parts whose denoiser can see another clip beside the one that it makes."""

    def encode_reference(self, frames: Iterable[Frame], request: Request, plan: Plan) -> Given:
        """Return what the denoiser reads of the first frames, of any size, as many as `plan` has.

        Their size is what the request's LoRAs want.
        """


@runtime_checkable
class Batching(Resumable, Protocol):
    """Parts whose denoiser takes several clips of one shape at once; one alone is a batch of one.

    A family's parts inherit from it.
    """

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
        """Return the latents of one clip; `on_point` gets a point before `on_step` tells of it."""
        starts = None if start is None else [start]
        return self.denoise_together(
            [text], nothing, [given], [request], plan, on_step, alone(on_point), starts
        )[0]

    @abstractmethod
    def denoise_together(
        self,
        texts: Sequence[Text],
        nothing: Text,
        given: Sequence[Given],
        requests: Sequence[Request],
        plan: Plan,
        on_step: OnStep,
        on_points: OnPoints | None = None,
        starts: Sequence[Point] | None = None,
    ) -> list[Latents]:
        """Return what `denoise` does of each clip alone, up to the rounding of sums.

        The requests differ in prompt, seed and picture only; `starts` have taken equally many
        steps.
        """


class Engine(Protocol):
    """A model that this studio can plan for, load and run."""

    @property
    def card(self) -> ModelCard:
        """What the model can do and what it costs."""

    def load(self, plan: Plan) -> AbstractContextManager[Parts]:
        """Hold the weights in memory as planned while the `with` lasts."""


def alone(on_point: OnPoint | None) -> OnPoints | None:
    """Return what hears the points of several clips, for one that hears those of one."""
    if on_point is None:
        return None
    hear: OnPoint = on_point
    return lambda points: hear(points[0])


def run_fitting(
    plan: Plan, work: Callable[[Plan], Result], stage: Callable[[], str] | None = None
) -> tuple[Plan, Result]:
    """Return the first plan, from `plan` down, whose work did not run out of memory.

    What `work` had finished it must have kept itself, to go on from there with the next plan;
    `stage` tells in which one it was last.
    Raises `DoesNotFit` when memory runs out with the cheapest one too.
    """
    while True:
        try:
            return plan, work(plan)
        except Exception as error:
            if not ran_out(error):
                raise
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
        # Only after `except` is the error gone, and with it the frames that held tensors.
        free(plan.device)
        less = cheaper(plan, stage() if stage else "")
        if less is None:
            raise DoesNotFit(
                Said(
                    "said.memory_out",
                    "Memory ran out even with the smallest plan. Close other programs, or ask "
                    "for a smaller or shorter clip.",
                )
            )
        log.warning("Memory ran out (%s). It goes on, %s.", said, less.because[-1])
        plan = less


def ran_out(error: BaseException | None) -> bool:
    """Say whether an error, or what caused it, is that memory ran out, on any device."""
    while error is not None:
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and any(word in str(error) for word in _RAN_OUT):
            return True
        error = error.__cause__
    return False


def free(device: str) -> None:
    """Give back what no tensor of this process uses any more."""
    gc.collect()
    empty_cache(device)


def empty_cache(device: str) -> None:
    """Give memory that is free inside torch back to the device."""
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def grow(plan: Plan, peak: int, most: int) -> Plan:
    """Return `plan` with twice the batch, up to `most`, if twice the measured peak would fit."""
    batch = min(2 * plan.batch, most)
    if plan.basis is None or batch <= plan.batch or 2 * peak > device_limit(plan.basis.hardware):
        return plan
    because = (*plan.because, f"{batch} instead of {plan.batch} at once, as memory was left")
    return predict(dataclasses.replace(plan, batch=batch, because=because))


def forget_peak(device: str) -> None:
    """Begin to measure the peak anew, where the device can."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_bytes(device: str) -> int:
    """Return the most memory that this process has taken: on a GPU since `forget_peak`."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved()
    if device == "mps":
        return torch.mps.driver_allocated_memory()
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest
