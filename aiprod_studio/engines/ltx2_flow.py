"""One run of LTX-2's denoiser: picture and sound of some clips of one shape, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aiprod_studio.engines.engine import Given, Latents, OnPoints, OnStep, Text
from aiprod_studio.engines.ltx_video import CLOCK, Canvas, Shape, sample, stack
from aiprod_studio.engines.recipes import Guidance, Recipe
from aiprod_studio.engines.step_cache import step_cache
from aiprod_studio.engines.step_ratios import Turn
from aiprod_studio.engines.weights import Components
from aiprod_studio.sampling.solvers import Point
from aiprod_studio.types import Plan, Request


@dataclass(frozen=True)
class Run:
    """What stays the same over the steps of some clips.

    `video` and `audio` are the shapes of their latents, `[C, T, h, w]` and `[C, n, mel bins]`.
    """

    video: Shape
    audio: Shape
    texts: Sequence[Text]
    nothing: Text
    given: Sequence[Given]
    requests: Sequence[Request]
    plan: Plan

    def follow(
        self,
        components: Components,
        recipe: Recipe,
        x: Tensor,
        times: Tensor,
        on_step: OnStep,
        on_points: OnPoints | None,
        starts: Sequence[Point] | None,
    ) -> list[Latents]:
        """Return the clips' latents at the end of `times`, from flat ones `[B, n]` on."""
        like, device = self.requests[0], components.device
        assert like.guidance is not None
        steps = range(starts[0].done if starts else 0, len(times) - 1)
        folder = components.folder / "transformer"
        with (
            torch.no_grad(),
            components.adding(like.loras),
            components.use("transformer") as network,
            step_cache(network, self.plan.cache, steps, folder, recipe.mag_ratios) as turn,
        ):
            model = self._model(network, turn, recipe.guidance(like.guidance), device)
            x = sample(model, x.to(device), times, on_step, on_points, starts)
        video, audio = model.split(x)
        return [
            Latents(video[n : n + 1], audio[n : n + 1].flatten(2) if like.audio else None)
            for n in range(len(x))
        ]

    def _model(self, network: Any, turn: Turn, guidance: Guidance, device: torch.device) -> _Model:
        """Return what predicts the clean clips, with all that does not change between steps."""
        fps, B = self.requests[0].fps, len(self.requests)
        assert fps is not None
        canvas = Canvas.of(self.video, self.given, device)
        places = network.rope.prepare_video_coords(B, *self.video[1:], device, fps=fps)
        for frame in canvas.frames:
            beside = network.rope.prepare_video_coords(B, 1, *self.video[2:], device, fps=fps)
            beside[:, 0] = beside.new_tensor([frame / fps, (frame + 1) / fps])
            places = torch.cat([places, beside], dim=2)
        if canvas.reference:
            beside = network.rope.prepare_video_coords(B, *canvas.reference[1:], device, fps=fps)
            # However small, it covers the clip.
            for axis in (1, 2):
                beside[:, axis] *= self.video[axis + 1] / canvas.reference[axis + 1]
            places = torch.cat([places, beside], dim=2)
        heard = network.audio_rope.prepare_audio_coords(B, self.audio[1], device)
        told, nothing = stack(self.texts, device), stack([self.nothing] * B, device)
        return _Model(network, turn, guidance, canvas, self.audio, (told, nothing), places, heard)


@dataclass(frozen=True)
class _Model:
    """The denoiser as a solver calls it: it predicts the clean clips, flat as they come."""

    network: Any
    turn: Turn
    guidance: Guidance
    canvas: Canvas
    audio: Shape
    texts: tuple[Text, Text]
    places: Tensor
    heard: Tensor

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return flat latents `[B, n]` as those of video and of audio."""
        sizes = [int(np.prod(shape)) for shape in (self.canvas.shape, self.audio)]
        video, audio = torch.split(x, sizes, dim=1)
        return video.reshape(-1, *self.canvas.shape), audio.reshape(-1, *self.audio)

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Return the clean clips that `x` at time `t` hides; one run of the network a guide."""
        video, audio = self.split(x)
        tokens, sound = self.canvas.tokens(video), audio.transpose(1, 2).flatten(2)
        clean = {
            name: self._predict(name, tokens, sound, t) for name in ("told", *self.guidance.others)
        }
        picture = self.guidance.video.apply({name: pair[0] for name, pair in clean.items()})
        heard = self.guidance.audio.apply({name: pair[1] for name, pair in clean.items()})
        heard = heard.view(len(x), self.audio[1], self.audio[0], -1).transpose(1, 2)
        return torch.cat([self.canvas.video(picture).flatten(1), heard.flatten(1)], dim=1)

    def _predict(self, name: str, tokens: Tensor, sound: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Return the clean tokens of picture and sound as one guide sees them."""
        text = self.texts[name == "nothing"]
        mask, kind = text.more["mask"], text.features.dtype
        level = sound.new_full(sound.shape[:1], t * CLOCK)
        with self.turn(name):
            picture, heard = self.network(
                hidden_states=tokens.to(kind),
                audio_hidden_states=sound.to(kind),
                encoder_hidden_states=text.features,
                audio_encoder_hidden_states=text.more["sound"],
                timestep=self.canvas.levels(t, tokens) * CLOCK,
                audio_timestep=level,
                sigma=level,
                encoder_attention_mask=mask,
                audio_encoder_attention_mask=mask,
                video_coords=self.places,
                audio_coords=self.heard,
                isolate_modalities=name == "isolated",
                spatio_temporal_guidance_blocks=list(self.guidance.blocks)
                if name == "perturbed"
                else None,
                # Trained so since 2.3, which is also when the prompt began to be modulated.
                use_cross_timestep=self.network.config.cross_attn_mod,
                return_dict=False,
            )
        return tokens - t * picture.float(), sound - t * heard.float()
