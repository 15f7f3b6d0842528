"""The parts of an engine that LTX-Video and LTX-2 offer alike."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from aiprod_studio.engines.engine import (
    Batching,
    Chunks,
    Frame,
    Given,
    Latents,
    Pictures,
)
from aiprod_studio.engines.loras import Lora, OnBytes
from aiprod_studio.engines.ltx_video import (
    Shape,
    compression,
    decode_frames,
    encode,
    encode_picture,
    latent_shape,
)
from aiprod_studio.engines.preview import fit_colours, paint
from aiprod_studio.engines.recipes import Recipe, follow, schedule
from aiprod_studio.engines.weights import Components
from aiprod_studio.sampling.solvers import Point
from aiprod_studio.types import ModelCard, Plan, Request


@dataclass
class LTXBase(Batching, ABC):
    """The loaded networks of either family as graph steps call them.

    `colours` is what latents look like, for previews where the decoder has no place.
    """

    card: ModelCard
    components: Components
    recipe: Recipe
    colours: Tensor | None = field(default=None, init=False)

    def find_loras(
        self, texts: tuple[str, ...], on_bytes: OnBytes | None = None
    ) -> tuple[Lora, ...]:
        """Return the LoRAs that a request names; raises `BadRequest` for one that does not fit."""
        return self.components.find_loras(texts, on_bytes)

    def encode_media(self, pictures: Pictures, plan: Plan) -> Given:
        """Return the latents `[1, C, 1, h, w]` of each picture under the number of its frame."""
        wanted = ((plan.frames - 1, pictures.last), (0, pictures.first))
        given = {number: picture for number, picture in wanted if picture is not None}
        if not given:
            return {}
        with torch.no_grad(), self.components.use("vae") as vae:
            return {
                str(number): encode_picture(vae, self.prepare(picture), self.components.device)
                for number, picture in given.items()
            }

    def prepare(self, picture: Frame) -> Frame:
        """Return a picture as those that the denoiser was trained with."""
        return picture

    def preview(self, point: Point, request: Request, plan: Plan) -> Frame:
        """Return the first frame `[H, W, 3]` of the clean prediction at a point.

        It is decoded where the decoder is on the device anyway, else only its colours are shown.
        """
        shape = self.shape(plan)
        video = point.clean[: int(np.prod(shape))].view(1, *shape)[:, :, :1]
        if self.colours is not None:
            return paint(video, self.colours, plan)
        [frames] = self.decode_video(Latents(video, None), plan)
        first: Frame = frames[0]
        return first

    def look_ahead(self, plan: Plan) -> None:
        """Learn what latents look like, before the denoiser needs the decoder's place."""
        if self.colours is not None or plan.placement.get("decode", "resident") == "resident":
            return
        device = self.components.device
        space = compression(self.components.config("vae"))[0]
        with torch.no_grad(), self.components.use("vae") as vae:
            self.colours = fit_colours(lambda picture: encode(vae, picture.to(device)), space)

    def decode_video(self, latents: Latents, plan: Plan) -> Chunks:
        """Yield the frames `[t, H, W, 3]` of the plan's canvas, in its tiles and chunks."""
        video, recipe = latents.video.to(self.components.device), self.recipe
        with self.components.use("vae") as vae:
            yield from decode_frames(vae, video, plan, recipe.decode_time, recipe.decode_noise)

    def shape(self, plan: Plan) -> Shape:
        """Return the shape `[C, T, h, w]` of the video's latents; raises `BadRequest`."""
        return latent_shape(self.components.config("vae"), plan)

    def times(self, request: Request, plan: Plan) -> Tensor:
        """Return the noise levels of a request's steps and the last, 0."""
        assert request.steps is not None
        if self.recipe.sigmas:
            return follow(self.recipe.sigmas, request.steps)
        tokens = int(np.prod(self.shape(plan)[1:]))
        return schedule(self.components.plain("scheduler"), request.steps, tokens)
