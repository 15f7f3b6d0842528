"""The native engine: the AIPROD v2 networks in plain torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aiprod_studio.engines.bundle import Networks, load_bundle
from aiprod_studio.engines.engine import (
    Frame,
    Frames,
    Given,
    Latents,
    OnStep,
    Pictures,
    Sound,
    Text,
)
from aiprod_studio.models.audio_vae import SAMPLE_RATE, latent_count
from aiprod_studio.models.text_encoder import tokenise
from aiprod_studio.models.video_vae import SPACE_FACTOR, TIME_FACTOR
from aiprod_studio.sampling.guidance import guided
from aiprod_studio.sampling.schedules import shifted
from aiprod_studio.sampling.solvers import OnPoint, Point, sample_multistep
from aiprod_studio.sampling.tiling import decode_tiled
from aiprod_studio.types import ModelCard, Plan, Request

_SHIFT = 3.0


@dataclass(frozen=True)
class NativeEngine:
    """A bundle of the AIPROD v2 family and its card."""

    card: ModelCard
    bundle: Path

    @contextmanager
    def load(self, plan: Plan) -> Iterator[NativeParts]:
        """Hold the networks on the plan's device while the `with` lasts."""
        yield NativeParts(load_bundle(self.bundle, plan.device), torch.device(plan.device))
        if plan.device == "cuda":
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class NativeParts:
    """The loaded networks as graph steps call them."""

    networks: Networks
    device: torch.device

    def encode_text(self, prompt: str) -> Text:
        """Return the features of a prompt; "" is the absence of one."""
        encoder = self.networks.text_encoder
        with torch.inference_mode():
            return Text(*encoder(tokenise([prompt], encoder.config).to(self.device)))

    def encode_media(self, pictures: Pictures, plan: Plan) -> Given:
        """Return the video latents `[1, C, 1, H/16, W/16]` of the first picture as `first`."""
        if pictures.first is None:
            return {}
        video = torch.tensor(pictures.first, device=self.device).permute(2, 0, 1)[None, :, None]
        with torch.inference_mode():
            return {"first": self.networks.video_vae.encode(video.float() / 127.5 - 1)}

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
        """Return the latents of one clip, picture and sound denoised together.

        `on_point` gets what the solver carries after each step, before `on_step` tells of it;
        a run that goes on from `start`, one of those points, gives the same latents.
        """
        assert request.seed is not None
        assert request.steps is not None
        assert request.guidance is not None
        assert request.fps is not None
        shapes = self._shapes(request, plan)
        sizes = [int(np.prod(shape)) for shape in shapes]
        dice = torch.Generator().manual_seed(request.seed)
        noise = torch.randn(sum(sizes), generator=dice).to(self.device)
        fps, steps = request.fps, request.steps

        def predict(x: Tensor, t: float, told: bool) -> Tensor:
            parts = [
                piece.view(shape)
                for piece, shape in zip(torch.split(x, sizes), shapes, strict=True)
            ]
            return self._predict(parts, t, text if told else nothing, given.get("first"), fps)

        def tell(point: Point) -> None:
            if on_point:
                on_point(point)
            on_step(point.done, steps)

        if start is not None:
            start = Point(start.done, start.x.to(self.device), start.clean.to(self.device))
        model, times = guided(predict, request.guidance), shifted(steps, _SHIFT)
        with torch.inference_mode():
            x = sample_multistep(model, noise, times, tell, start)
        pieces = [
            piece.view(shape) for piece, shape in zip(torch.split(x, sizes), shapes, strict=True)
        ]
        return Latents(pieces[0], pieces[1] if request.audio else None)

    def preview(self, point: Point, request: Request, plan: Plan) -> Frame:
        """Return the first frame `[H, W, 3]` of the clean prediction at a point."""
        shape = self._shapes(request, plan)[0]
        video = point.clean[: int(np.prod(shape))].view(shape)
        frame: Frame = self.decode_video(Latents(video[:, :, :1], None), plan)[0]
        return frame

    def _shapes(self, request: Request, plan: Plan) -> list[tuple[int, ...]]:
        """Return the shapes of the video's and the audio's latents."""
        assert request.fps is not None
        config = self.networks.backbone.config
        groups = (plan.frames - 1) // TIME_FACTOR + 1
        cells = (plan.height // SPACE_FACTOR, plan.width // SPACE_FACTOR)
        count = latent_count(plan.frames / request.fps)
        return [(1, config.video_channels, groups, *cells), (1, config.audio_channels, count)]

    def _predict(
        self, parts: list[Tensor], t: float, text: Text, first: Tensor | None, fps: float
    ) -> Tensor:
        """Return the clean prediction, flat; latents that are given stay as they are."""
        video, audio = parts
        cells = video.shape[3] * video.shape[4]
        times = torch.full((1, video.shape[2] * cells + audio.shape[2]), t, device=self.device)
        if first is not None:
            kept = first.shape[2]
            video = torch.cat([first, video[:, :, kept:]], dim=2)
            times[:, : kept * cells] = 0
        clean, sound = self.networks.backbone(
            video, audio, times, (text.features, text.pooled), fps
        )
        if first is not None:
            clean = torch.cat([first, clean[:, :, first.shape[2] :]], dim=2)
        return torch.cat([clean.flatten(), sound.flatten()])

    def decode_video(self, latents: Latents, plan: Plan) -> Frames:
        """Return frames `[T, H, W, 3]` of the plan's canvas, in tiles where it says so."""
        with torch.inference_mode():
            video = decode_tiled(
                self.networks.video_vae.decode, latents.video, plan.tile, SPACE_FACTOR
            )
        pixels = ((video[0] + 1) * 127.5).round().clamp(0, 255).byte()
        frames: Frames = pixels.permute(1, 2, 3, 0).cpu().numpy()
        return frames

    def decode_audio(self, latents: Latents, seconds: float) -> Sound | None:
        """Return mono sound `[1, S]` of that length, or none."""
        if latents.audio is None:
            return None
        samples = round(seconds * SAMPLE_RATE)
        with torch.inference_mode():
            sound = self.networks.audio_vae.decode(latents.audio, samples)
        fade = np.minimum(1, np.minimum(np.arange(samples), np.arange(samples)[::-1]) / 160)
        faded: Sound = (sound.cpu().numpy() * fade).astype(np.float32)
        return faded
