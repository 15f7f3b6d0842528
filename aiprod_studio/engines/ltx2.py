"""LTX-2: picture and sound denoised together by one transformer of two streams.

HaCohen et al., "LTX-2: Efficient Joint Audio-Visual Foundation Model" (2026); the networks are
diffusers'. A prompt is kept as the connectors leave it, so that a known one needs neither the text
encoder nor them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.ltx2.utils import (
    DEFAULT_IMAGE_CRF,
    LTX2_5_IMAGE_CRF,
    apply_image_conditioning_crf,
)

from aiprod_studio.engines.engine import (
    Frame,
    Given,
    Latents,
    OnPoints,
    OnStep,
    Sound,
    Text,
    alone,
)
from aiprod_studio.engines.lora_layers import reference_shrinking
from aiprod_studio.engines.ltx2_flow import Run
from aiprod_studio.engines.ltx_parts import LTXBase
from aiprod_studio.engines.ltx_video import (
    REFERENCE,
    Shape,
    compression,
    encode_frames,
    natural,
    noise,
    normal,
)
from aiprod_studio.engines.recipes import Recipe, follow
from aiprod_studio.engines.upscaler import load_upscaler
from aiprod_studio.engines.weights import FindFolder, open_components
from aiprod_studio.errors import BadRequest
from aiprod_studio.media.audio import fitted, resample
from aiprod_studio.media.images import fit
from aiprod_studio.sampling.solvers import OnPoint, Point
from aiprod_studio.types import ModelCard, Plan, Request

PROMPT_TOKENS = 1024
# Frames and bins of the spectrogram in one latent of the sound.
_MEL_FACTOR = 4
_FADES_A_SECOND = 100


@dataclass(frozen=True)
class LTX2Engine:
    """A card of the family, and where its weights for a task (text, upscale) are.

    The text's are in diffusers' layout; the upscaler of latents is one file.
    """

    card: ModelCard
    find_folder: FindFolder

    @contextmanager
    def load(self, plan: Plan) -> Iterator[LTX2Parts]:
        """Hold the weights as planned while the `with` lasts; they come when they are first used.

        Raises `ModelUnavailable` when they are not on this disk.
        """
        with open_components(self.find_folder("text"), plan) as components:
            yield LTX2Parts(self.card, components, Recipe.of(self.card.id), self.find_folder)


@dataclass
class LTX2Parts(LTXBase):
    """The loaded networks as graph steps call them."""

    find_folder: FindFolder

    def encode_text(self, prompt: str) -> Text:
        """Return a prompt's features for the picture and, as `sound`, for the sound, on the CPU."""
        tokenizer = self.components.plain("tokenizer")
        tokenizer.padding_side = "left"
        words = tokenizer(
            [prompt.strip()],
            padding="max_length",
            max_length=PROMPT_TOKENS,
            truncation=True,
            return_tensors="pt",
        ).to(self.components.device)
        with torch.no_grad():
            with self.components.use("text_encoder") as encoder:
                # Without its head: what words may follow would be half a gigabyte for nobody.
                states = encoder.base_model(
                    input_ids=words.input_ids,
                    attention_mask=words.attention_mask,
                    output_hidden_states=True,
                ).hidden_states
                layers = torch.stack(states, dim=-1).flatten(2)
            del states
            with self.components.use("connectors") as connectors:
                features, sound, mask = connectors(
                    layers, words.attention_mask, padding_side="left"
                )
        more = {"sound": sound.cpu(), "mask": mask.cpu()}
        return Text(features.cpu(), features.new_zeros(1, 0).cpu(), more)

    def prepare(self, picture: Frame) -> Frame:
        """Return a picture `[H, W, 3]` compressed as those of the training were."""
        newer = str(self.components.config("text_encoder")["model_type"]).startswith("gemma4")
        crf = LTX2_5_IMAGE_CRF if newer else DEFAULT_IMAGE_CRF
        compressed: Frame = apply_image_conditioning_crf(picture, crf)
        return compressed

    def encode_reference(self, frames: Iterable[Frame], request: Request, plan: Plan) -> Given:
        """Return the latents `[1, C, t, h, w]` of the reference's first frames, cut to fit.

        They are of the canvas's size, or as much smaller as LoRAs want it; `BadRequest` as these.
        """
        less = reference_shrinking(self.find_loras(request.loras))
        space, time = compression(self.components.config("vae"))
        width, height = (
            max(1, side // (space * less)) * space for side in (plan.width, plan.height)
        )
        video = np.stack([fit(frame, width, height) for frame in islice(frames, plan.frames)])
        whole = video[: (len(video) - 1) // time * time + 1]
        with torch.no_grad(), self.components.use("vae") as vae:
            return {REFERENCE: encode_frames(vae, whole, self.components.device)}

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
        if on_points:
            self.look_ahead(plan)
        shapes, times = self._shapes(requests[0], plan), self.times(requests[0], plan)
        x = torch.stack([noise(request.seed, shapes) for request in requests])
        run = Run(*shapes, texts, nothing, given, requests, plan)
        return run.follow(self.components, self.recipe, x, times, on_step, on_points, starts)

    def find_upscaler(self) -> Path:
        """Return the folder of the network that doubles latents; raises `ModelUnavailable`."""
        return self.find_folder("upscale")

    def upsample(self, latents: Latents, plan: Plan) -> Latents:
        """Return latents of a picture of twice the sides, those of `plan`; the sound stays.

        Raises `ModelUnavailable` where the network for it is not on this disk.
        """
        held, folder = self.components, self.find_upscaler()
        with (
            torch.no_grad(),
            held.use("vae") as vae,
            load_upscaler(folder, held.device, held.dtype) as network,
        ):
            small = natural(vae, latents.video.to(held.device))
            video = normal(vae, network(small.to(held.dtype)).float())
        assert video.shape[1:] == self.shape(plan)
        return Latents(video, latents.audio)

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
        """Return latents denoised again from the recipe's first level of `refine` on.

        The noise is that of the next seed, so that it is not the one that they came from. Raises
        `BadRequest` for a model whose recipe has no second stage.
        """
        if not self.recipe.refine:
            raise BadRequest(f"{self.card.name} has no second stage. Render it without.")
        if on_point:
            self.look_ahead(plan)
        assert request.seed is not None
        shapes, levels = self._shapes(request, plan), self.recipe.refine
        times, rough = follow(levels, len(levels)), noise(request.seed + 1, shapes)
        audio = torch.zeros(shapes[1]) if latents.audio is None else latents.audio
        clean = torch.cat([latents.video.flatten().cpu(), audio.flatten().cpu()])
        x = torch.lerp(clean, rough, float(times[0]))[None]
        run = Run(*shapes, [text], nothing, [given], [request], plan)
        on_points, starts = alone(on_point), None if start is None else [start]
        return run.follow(self.components, self.recipe, x, times, on_step, on_points, starts)[0]

    def decode_audio(self, latents: Latents, seconds: float) -> Sound | None:
        """Return sound `[C, S]` of that length at the card's rate, or none."""
        if latents.audio is None:
            return None
        bins = self.components.config("audio_vae")["mel_bins"] // _MEL_FACTOR
        audio = latents.audio.to(self.components.device)
        audio = audio.view(*audio.shape[:2], -1, bins)
        with torch.no_grad():
            with self.components.use("audio_vae") as vae:
                mean, spread = (
                    values.to(audio).view(-1, 1, bins)
                    for values in (vae.latents_mean, vae.latents_std)
                )
                mel = vae.decode((audio * spread + mean).to(vae.dtype), return_dict=False)[0]
            with self.components.use("vocoder") as vocoder:
                wave = vocoder(mel.to(vocoder.dtype))[0].float().cpu().numpy()
                rate = vocoder.config.output_sampling_rate
        length = round(seconds * self.card.sample_rate)
        wave = resample(wave, rate, self.card.sample_rate)[:, :length]
        return fitted(_fade(wave, self.card.sample_rate // _FADES_A_SECOND), length)

    def _shapes(self, request: Request, plan: Plan) -> tuple[Shape, Shape]:
        """Return the shapes of a clip's latents, video and audio, `[C, n, mel bins]`."""
        assert request.fps is not None
        told = self.components.config("audio_vae")
        a_second = told["sample_rate"] / told["mel_hop_length"] / _MEL_FACTOR
        count = round(plan.frames / request.fps * a_second)
        audio = (told["latent_channels"], count, told["mel_bins"] // _MEL_FACTOR)
        return self.shape(plan), audio


def _fade(wave: Sound, count: int) -> Sound:
    """Return sound `[C, S]` that rises over its first `count` samples and falls over its last."""
    place = np.arange(wave.shape[1])
    faded: Sound = (wave * np.minimum(1, np.minimum(place, place[::-1]) / count)).astype(np.float32)
    return faded
