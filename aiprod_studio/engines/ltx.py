"""LTX-Video: silent drafts by a small denoiser of strongly compressed latents.

HaCohen et al., "LTX-Video: Realtime Video Latent Diffusion" (2024); the networks are diffusers'.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aiprod_studio.engines.catalog import rows
from aiprod_studio.engines.engine import Given, Latents, OnPoints, OnStep, Sound, Text
from aiprod_studio.engines.ltx_file import unpack
from aiprod_studio.engines.ltx_parts import LTXBase
from aiprod_studio.engines.ltx_video import CLOCK, Canvas, compression, noise, sample, stack
from aiprod_studio.engines.recipes import Recipe
from aiprod_studio.engines.step_cache import step_cache
from aiprod_studio.engines.weights import FindFolder, open_components
from aiprod_studio.sampling.guidance import guided
from aiprod_studio.sampling.solvers import Point
from aiprod_studio.types import ModelCard, Plan, Request

PROMPT_TOKENS = 256


@dataclass(frozen=True)
class LTXEngine:
    """A card of the family, and where its weights for a task are."""

    card: ModelCard
    find_folder: FindFolder

    @contextmanager
    def load(self, plan: Plan) -> Iterator[LTXParts]:
        """Hold the weights as planned while the `with` lasts; they come when they are first used.

        Raises `ModelUnavailable` when they are not on this disk.
        """
        sizes = rows().get(self.card.id, {}).get("networks", {})
        with open_components(unpack(self.find_folder("text"), sizes), plan) as components:
            yield LTXParts(self.card, components, Recipe.of(self.card.id))


@dataclass
class LTXParts(LTXBase):
    """The loaded networks as graph steps call them."""

    def encode_text(self, prompt: str) -> Text:
        """Return a prompt's features on the CPU, and as `mask` which of them are words."""
        words = self.components.plain("tokenizer")(
            [prompt],
            padding="max_length",
            max_length=PROMPT_TOKENS,
            truncation=True,
            return_tensors="pt",
        ).to(self.components.device)
        with torch.no_grad(), self.components.use("text_encoder") as encoder:
            seen = words.attention_mask if self.recipe.later else None
            features = encoder(words.input_ids, attention_mask=seen)[0].cpu()
        mask = words.attention_mask.bool().cpu()
        return Text(features, features.new_zeros(1, 0), {"mask": mask})

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
        """Return the latents of clips of one shape, each from the noise of its own seed."""
        like, device = requests[0], self.components.device
        assert like.steps is not None
        assert like.guidance is not None
        assert like.fps is not None
        if on_points:
            self.look_ahead(plan)
        canvas, times = Canvas.of(self.shape(plan), given, device), self.times(like, plan)
        told, untold = stack(texts, device), stack([nothing] * len(texts), device)
        places = self._places(canvas, like.fps).expand(len(texts), -1, -1).to(device)
        x = torch.stack([noise(request.seed, [canvas.shape]) for request in requests])
        steps = range(starts[0].done if starts else 0, like.steps)
        folder = self.components.folder / "transformer"
        with (
            torch.no_grad(),
            self.components.adding(like.loras),
            self.components.use("transformer") as network,
            step_cache(network, plan.cache, steps, folder, self.recipe.mag_ratios) as turn,
        ):

            def predict(x: Tensor, t: float, telling: bool) -> Tensor:
                tokens = canvas.tokens(x.reshape(-1, *canvas.shape))
                text = told if telling else untold
                with turn("told" if telling else "nothing"):
                    return _predict(network, canvas, tokens, text, places, t).flatten(1)

            model = guided(predict, like.guidance)
            x = sample(model, x.to(device), times, on_step, on_points, starts)
        video = x.reshape(-1, *canvas.shape)
        return [Latents(video[n : n + 1], None) for n in range(len(video))]

    def decode_audio(self, latents: Latents, seconds: float) -> Sound | None:
        """Return none: the model is silent."""
        return None

    def _places(self, canvas: Canvas, fps: float) -> Tensor:
        """Return where all tokens stand, `[1, 3, tokens]`: seconds, and pixels of both sides."""
        T, h, w = canvas.shape[1:]
        space, time = compression(self.components.config("vae"))
        frames = torch.arange(T) * time
        if self.recipe.later:
            frames = (frames + 1 - time).clamp(min=0)
        sides = (torch.arange(h) * space, torch.arange(w) * space)
        grids = [
            torch.stack(torch.meshgrid(when, *sides, indexing="ij")).flatten(1)
            for when in (frames, *(torch.tensor([frame]) for frame in canvas.frames))
        ]
        places = torch.cat(grids, dim=1)[None].float()
        places[:, 0] /= fps
        return places


def _predict(
    network: Any, canvas: Canvas, tokens: Tensor, text: Text, places: Tensor, t: float
) -> Tensor:
    """Return the clean latents `[B, C, T, h, w]` that tokens at time `t` hide."""
    velocity = network(
        hidden_states=tokens.to(text.features.dtype),
        encoder_hidden_states=text.features,
        timestep=canvas.levels(t, tokens) * CLOCK,
        encoder_attention_mask=text.more["mask"],
        video_coords=places,
        return_dict=False,
    )[0]
    return canvas.video(tokens - t * velocity.float())
