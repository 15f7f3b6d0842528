"""Any text-to-video pipeline of diffusers, called as its authors meant it.

Its steps are hidden inside, so that nothing goes on from the middle: the latents are the finished
frames. A prompt's features are its letters, as the pipeline encodes it itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from aiprod_studio.engines.engine import (
    Chunks,
    Given,
    Latents,
    OnStep,
    Pictures,
    Sound,
    Text,
    free,
)
from aiprod_studio.engines.weights import FindFolder, quiet
from aiprod_studio.errors import BadRequest, ModelUnavailable
from aiprod_studio.types import ModelCard, Plan, Request


@dataclass(frozen=True)
class HubEngine:
    """A careful card, and where the repository is on this disk."""

    card: ModelCard
    find_folder: FindFolder

    @contextmanager
    def load(self, plan: Plan) -> Iterator[HubParts]:
        """Hold the whole pipeline on the plan's device while the `with` lasts.

        Raises `BadRequest` for a pipeline that makes no video of text, `ModelUnavailable` where it
        cannot be loaded.
        """
        quiet()
        from diffusers import DiffusionPipeline

        try:
            pipeline = DiffusionPipeline.from_pretrained(
                self.find_folder("text"),
                dtype=getattr(torch, plan.precision),
                use_safetensors=True,
                local_files_only=True,
            )
        except (OSError, ValueError, AttributeError, ImportError) as error:
            raise ModelUnavailable(
                f"{self.card.name} cannot be loaded by the diffusers that is installed ({error}). "
                "Choose another repository."
            ) from error
        _check(pipeline, self.card.name)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.to(plan.device)
        try:
            yield HubParts(pipeline)
        finally:
            del pipeline
            free(plan.device)


@dataclass(frozen=True)
class HubParts:
    """The loaded pipeline as graph steps call it."""

    pipeline: Any

    def encode_text(self, prompt: str) -> Text:
        """Return the letters of a prompt `[1, L]`."""
        letters = torch.tensor([list(prompt.encode())], dtype=torch.uint8)
        return Text(letters, torch.zeros(1, 0))

    def encode_media(self, pictures: Pictures, plan: Plan) -> Given:
        """Return nothing: the card says that no pictures are read."""
        return {}

    def denoise(
        self,
        text: Text,
        nothing: Text,
        given: Given,
        request: Request,
        plan: Plan,
        on_step: OnStep,
    ) -> Latents:
        """Return the finished frames `[1, 3, T, H, W]`, bytes, in the place of latents."""
        steps = request.steps
        assert steps is not None
        assert request.seed is not None

        def tell(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(step + 1, steps)
            return tensors

        wishes = {
            "height": plan.height,
            "width": plan.width,
            "num_frames": plan.frames,
            "num_inference_steps": steps,
            "guidance_scale": request.guidance,
            "frame_rate": request.fps,
            "callback_on_step_end": tell,
            "output_type": "np",
        }
        known = inspect.signature(self.pipeline.__call__).parameters
        vae = self.pipeline.vae
        if plan.tile and hasattr(vae, "enable_tiling"):
            vae.enable_tiling()
        found = self.pipeline(
            prompt=bytes(text.features[0].tolist()).decode(),
            generator=torch.Generator().manual_seed(request.seed),
            **{name: value for name, value in wishes.items() if name in known},
        )
        pixels = (torch.as_tensor(found.frames[0]) * 255).round().clamp(0, 255).byte()
        return Latents(pixels.permute(3, 0, 1, 2)[None], None)

    def decode_video(self, latents: Latents, plan: Plan) -> Chunks:
        """Yield the frames `[T, H, W, 3]`, which are finished already."""
        yield latents.video[0].permute(1, 2, 3, 0).cpu().numpy()

    def decode_audio(self, latents: Latents, seconds: float) -> Sound | None:
        """Return no sound."""
        return None


def _check(pipeline: Any, name: str) -> None:
    """Raise `BadRequest` unless a prompt is all that a pipeline needs to make frames."""
    known = inspect.signature(pipeline.__call__).parameters
    needed = [
        one.name
        for one in known.values()
        if one.default is inspect.Parameter.empty and one.name not in ("prompt", "kwargs")
    ]
    if needed or not {"prompt", "num_frames", "num_inference_steps"} <= known.keys():
        raise BadRequest(
            f"{name} is a {type(pipeline).__name__}, which makes no video of text alone. "
            "Choose a text-to-video repository."
        )
