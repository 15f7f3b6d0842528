"""Wan 2.1 and 2.2 over diffusers' networks: text and pictures to silent video.

One adapter for three kinds of checkpoint: one denoiser (1.3B); one that takes a time per token and
a first picture in the place of the first latent (5B, `expand_timesteps`); two denoisers, the second
for the last steps (A14B, `boundary_ratio`), which take pictures as further channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aiprod_studio.engines.engine import (
    Batching,
    Chunks,
    Frame,
    Frames,
    Given,
    Latents,
    OnPoints,
    OnStep,
    Pictures,
    Sound,
    Text,
)
from aiprod_studio.engines.loras import Lora, OnBytes
from aiprod_studio.engines.preview import fit_colours, paint
from aiprod_studio.engines.schedulers import carried, restore
from aiprod_studio.engines.wan_flow import Flow
from aiprod_studio.engines.weights import Components, FindFolder, open_components
from aiprod_studio.hardware.memory import basis_of
from aiprod_studio.sampling.solvers import Point
from aiprod_studio.sampling.tiling import Tiling, decode_stream, encode_tiled
from aiprod_studio.types import ModelCard, Plan, Request

PROMPT_TOKENS = 512


@dataclass(frozen=True)
class WanEngine:
    """A card of the family, and where its weights for a task (text, image) are.

    `second_guidance` is how much of the guidance the second denoiser gets; with `gguf` the
    denoiser's weights are a file in the folder for the task "denoiser".
    """

    card: ModelCard
    find_folder: FindFolder
    second_guidance: float = 1.0
    gguf: bool = False

    @contextmanager
    def load(self, plan: Plan) -> Iterator[WanParts]:
        """Hold the weights as planned while the `with` lasts; they come when they are first used.

        Raises `ModelUnavailable` when they are not on this disk.
        """
        with ExitStack() as stack:
            parts = WanParts(self, plan, stack)
            parts.open("image" if basis_of(plan).request.pictured else "text")
            yield parts


@dataclass
class WanParts(Batching):
    """The networks as graph steps call them."""

    engine: WanEngine
    plan: Plan
    memory: ExitStack
    components: Components = field(init=False)
    colours: Tensor | None = field(default=None, init=False)

    def open(self, task: str) -> None:
        """Have the weights for a task at hand; those of another repository leave the memory."""
        folder = self.engine.find_folder(task)
        gguf = self.engine.find_folder("denoiser") if self.engine.gguf else None
        if not hasattr(self, "components") or self.components.folder != folder:
            self.memory.close()
            self.components = self.memory.enter_context(open_components(folder, self.plan, gguf))

    def find_loras(
        self, texts: tuple[str, ...], on_bytes: OnBytes | None = None
    ) -> tuple[Lora, ...]:
        """Return the LoRAs that a request names; raises `BadRequest` for one that does not fit."""
        return self.components.find_loras(texts, on_bytes)

    def encode_text(self, prompt: str) -> Text:
        """Return the features `[1, 512, D]` of a prompt on the CPU; "" is the absence of one."""
        from diffusers.pipelines.wan.pipeline_wan import prompt_clean

        found = self.components.plain("tokenizer")(
            [prompt_clean(prompt)],
            padding="max_length",
            max_length=PROMPT_TOKENS,
            truncation=True,
            return_tensors="pt",
        ).to(self.components.device)
        with self.components.use("text_encoder") as encoder, torch.inference_mode():
            features = encoder(found.input_ids, found.attention_mask).last_hidden_state
            features = (features * found.attention_mask[..., None]).cpu()
        return Text(features, features.new_zeros(1, 0))

    def encode_media(self, pictures: Pictures, plan: Plan) -> Given:
        """Return what the denoiser reads of pictures, on the CPU.

        `first` is one latent `[1, C, 1, h, w]` for the place of the clip's first one; `beside` are
        channels `[1, 4 + C, T, h, w]`: which frames are given, and the latents of those.
        """
        given = {0: pictures.first, -1: pictures.last}
        videos = {n: _to_video(one) for n, one in given.items() if one is not None}
        if not videos:
            return {}
        self.open("image")
        with self.components.use("vae") as vae:
            if self.components.index.get("expand_timesteps"):
                return {"first": self._encode(vae, videos[0], plan).cpu()}
            whole = torch.zeros(1, 3, plan.frames, plan.height, plan.width)
            for number, video in videos.items():
                whole[:, :, [number]] = video
            latents = self._encode(vae, whole, plan).cpu()
        mask = latents.new_zeros(1, 4, *latents.shape[2:])
        if 0 in videos:
            mask[:, :, 0] = 1
        if -1 in videos:
            mask[:, 3, -1] = 1
        return {"beside": torch.cat([mask, latents], dim=1)}

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
        steps, guidance = requests[0].steps, requests[0].guidance
        assert steps is not None
        assert guidance is not None
        self.open("image" if given[0] else "text")
        if on_points and self.colours is None:
            self._look_at_colours(plan)
        scheduler = self.components.plain("scheduler")
        scheduler.set_timesteps(steps, device=self.components.device)
        if starts:
            done, x = starts[0].done, self._stack([one.x for one in starts])
            restore(scheduler, starts, self.components.device)
        else:
            done, x = 0, self._noise(requests, plan)
            scheduler.set_begin_index(0)
        flow = Flow(self.components, texts, nothing, given, plan.cache)
        second = guidance * self.engine.second_guidance
        with (
            self.components.adding(requests[0].loras),
            flow.guided(guidance, second, range(done, steps)),
            torch.inference_mode(),
        ):
            for step, t in enumerate(scheduler.timesteps[done:], done):
                velocity = flow.velocity(x, t)
                clean = x - scheduler.sigmas[step].item() * velocity
                x = scheduler.step(velocity, t, x, return_dict=False)[0]
                if on_points:
                    more = [carried(scheduler, number) for number in range(len(x))]
                    rows = zip(torch.split(x, 1), torch.split(clean, 1), more, strict=True)
                    on_points([Point(step + 1, *row) for row in rows])
                on_step(step + 1, steps)
        return [Latents(row, None) for row in torch.split(flow.keep_first(x), 1)]

    def preview(self, point: Point, request: Request, plan: Plan) -> Frame:
        """Return the first frame `[H, W, 3]` of the clean prediction at a point, roughly."""
        assert self.colours is not None
        return paint(point.clean, self.colours, plan)

    def decode_video(self, latents: Latents, plan: Plan) -> Chunks:
        """Yield the frames `[t, H, W, 3]` of the plan's canvas, in its tiles and chunks."""
        with self.components.use("vae") as vae:
            mean, spread = _statistics(vae)

            def decode(z: Tensor) -> Tensor:
                natural = (z * spread + mean).to(vae.dtype)
                video: Tensor = vae.decode(natural, return_dict=False)[0]
                return video

            z = latents.video.to(self.components.device)
            yield from map(_to_frames, decode_stream(decode, z, self._tiling(plan)))

    def decode_audio(self, latents: Latents, seconds: float) -> Sound | None:
        """Return no sound: the family is silent."""
        return None

    def _noise(self, requests: Sequence[Request], plan: Plan) -> Tensor:
        """Return the noise `[B, C, T, h, w]` of each request's own seed."""
        config = self.components.config("transformer")
        tiling = self._tiling(plan)
        groups = (plan.frames - 1) // tiling.time + 1
        sides = (plan.height // tiling.space, plan.width // tiling.space)
        rows = []
        for request in requests:
            assert request.seed is not None
            dice = torch.Generator().manual_seed(request.seed)
            rows.append(torch.randn(1, config["out_channels"], groups, *sides, generator=dice))
        return self._stack(rows)

    def _stack(self, rows: Sequence[Tensor]) -> Tensor:
        return torch.cat([row.to(self.components.device) for row in rows])

    def _tiling(self, plan: Plan) -> Tiling:
        """Return the factors of the VAE and the pieces that a plan wants it to work in."""
        config = self.components.config("vae")
        return Tiling(
            config.get("scale_factor_spatial", 8),
            config.get("scale_factor_temporal", 4),
            plan.tile,
            plan.overlap,
            plan.chunk,
            plan.tiling == "content",
        )

    def _encode(self, vae: Any, video: Tensor, plan: Plan) -> Tensor:
        """Return the latents of a video `[1, 3, F, H, W]` in -1…1 as the denoiser sees them."""
        mean, spread = _statistics(vae)

        def encode(piece: Tensor) -> Tensor:
            found: Tensor = vae.encode(piece.to(vae.dtype)).latent_dist.mode()
            return (found.float() - mean) / spread

        return encode_tiled(encode, video.to(self.components.device), self._tiling(plan))

    def _look_at_colours(self, plan: Plan) -> None:
        """Learn what latents look like, before a denoiser needs the memory."""
        with self.components.use("vae") as vae:
            self.colours = fit_colours(
                lambda picture: self._encode(vae, picture, plan), self._tiling(plan).space
            )


def _statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """Return the mean and the spread of each channel of a VAE's latents, `[1, C, 1, 1, 1]`."""
    mean, spread = (
        torch.tensor(getattr(vae.config, name), device=vae.device).view(1, -1, 1, 1, 1)
        for name in ("latents_mean", "latents_std")
    )
    return mean, spread


def _to_video(picture: Frame) -> Tensor:
    """Return a picture as a video of one frame, `[1, 3, 1, H, W]` in -1…1."""
    return torch.tensor(picture).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1


def _to_frames(video: Tensor) -> Frames:
    """Return a video `[1, 3, t, H, W]` in -1…1 as frames `[t, H, W, 3]`."""
    pixels = ((video[0].float() + 1) * 127.5).round().clamp(0, 255).byte()
    frames: Frames = pixels.permute(1, 2, 3, 0).cpu().numpy()
    return frames
