"""Recipes: how a checkpoint is sampled, as data in its row of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aiprod_studio.engines.catalog import rows


@dataclass(frozen=True)
class Push:
    """How strongly a prediction is pushed away from worse ones; as it stands here, not at all.

    `scale` pushes from the one without the prompt, `stg` from one whose marked blocks only pass
    their values on (Hyung et al., 2024), `modality` from one where picture and sound do not see
    each other; `rescale` is the share of the result that gets its spread back (Lin et al., 2023).
    """

    scale: float = 1.0
    stg: float = 0.0
    modality: float = 1.0
    rescale: float = 0.0

    def apply(self, clean: dict[str, Tensor]) -> Tensor:
        """Return the prediction `told`, pushed away from the others that are there."""
        told = clean["told"]
        pushed = told
        for other, weight in (
            ("nothing", self.scale - 1),
            ("perturbed", self.stg),
            ("isolated", self.modality - 1),
        ):
            if weight > 0:
                pushed = pushed + weight * (told - clean[other])
        if self.rescale > 0:
            axes = tuple(range(1, told.ndim))
            spread = told.std(dim=axes, keepdim=True) / pushed.std(dim=axes, keepdim=True)
            pushed = pushed * (self.rescale * spread + 1 - self.rescale)
        return pushed


@dataclass(frozen=True)
class Guidance:
    """The pushes of picture and sound, and the `blocks` that are marked for `stg`."""

    video: Push = field(default_factory=Push)
    audio: Push = field(default_factory=Push)
    blocks: tuple[int, ...] = ()

    @property
    def others(self) -> tuple[str, ...]:
        """The predictions that are needed besides `told`, each one more run of the denoiser."""
        both = (self.video, self.audio)
        needed = {
            "nothing": any(push.scale > 1 for push in both),
            "perturbed": any(push.stg > 0 for push in both),
            "isolated": any(push.modality > 1 for push in both),
        }
        return tuple(name for name, wanted in needed.items() if wanted)


@dataclass(frozen=True)
class Recipe:
    """What a checkpoint was trained to be sampled with.

    `sigmas` are the noise levels of its steps and `refine` those of a second stage, both without
    the last 0 (none: by the scheduler in its folder). `video`, `audio` and `blocks` are what
    `Guidance` does besides a request's own scale. `later` is LTX-Video from 0.9.5 on: the first
    latent stands for one frame in time, and the text encoder sees no padding. `decode_time` and
    `decode_noise` are what a decoder that knows of noise is told and given, `mag_ratios` how much
    each step of the denoiser changes from the last.
    """

    sigmas: tuple[float, ...] = ()
    refine: tuple[float, ...] = ()
    video: dict[str, float] = field(default_factory=dict)
    audio: dict[str, float] = field(default_factory=dict)
    blocks: tuple[int, ...] = ()
    later: bool = True
    decode_time: float = 0.0
    decode_noise: float = 0.0
    mag_ratios: tuple[float, ...] = ()

    @classmethod
    def of(cls, engine: str) -> Recipe:
        """Return the recipe in the row of an engine, or the plain one where it has none."""
        table = rows().get(engine, {}).get("recipe", {})
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in table.items()
        }
        return cls(**values)

    def guidance(self, scale: float) -> Guidance:
        """Return what a request's scale means: at 1 or less nothing at all is pushed."""
        if scale <= 1:
            return Guidance()
        video, audio = ({"scale": scale, **given} for given in (self.video, self.audio))
        return Guidance(Push(**video), Push(**audio), self.blocks)


def follow(sigmas: tuple[float, ...], steps: int) -> Tensor:
    """Return `steps + 1` noise levels along a recipe's own ones, the last of them 0."""
    levels = [*sigmas, 0.0]
    places = np.linspace(0, len(sigmas), steps + 1)
    return torch.tensor(np.interp(places, np.arange(len(levels)), levels), dtype=torch.float32)


def schedule(scheduler: Any, steps: int, tokens: int) -> Tensor:
    """Return `steps + 1` noise levels by a model's own scheduler of diffusers, the last of them 0.

    One that shifts by the number of `tokens` is told of it.
    """
    if steps == 1:  # Stretching to a last level divides by 0 here.
        return torch.tensor([1.0, 0.0])
    told = scheduler.config
    slope = (told.max_shift - told.base_shift) / (told.max_image_seq_len - told.base_image_seq_len)
    shift = told.base_shift + slope * (tokens - told.base_image_seq_len)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=shift)
    sigmas: Tensor = scheduler.sigmas
    return sigmas
