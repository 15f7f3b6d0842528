"""What LTX-Video and LTX-2 share: the way from noise, latents as tokens, and their video VAE.

Latents `[B, C, T, h, w]` are the denoiser's, of about unit variance; as tokens they are
`[B, T·h·w, C]`, one a latent, as in every checkpoint of both families.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aiprod_studio.engines.engine import Chunks, Frame, Frames, Given, OnPoints, OnStep, Text
from aiprod_studio.errors import BadRequest
from aiprod_studio.sampling.solvers import Denoiser, Point, sample_euler
from aiprod_studio.sampling.tiling import Tiling, decode_stream
from aiprod_studio.types import Plan

Shape = tuple[int, ...]
# The denoisers count noise levels by thousandths.
CLOCK = 1000.0
# The name of a reference's latents among what is given; those of pictures are numbers of frames.
REFERENCE = "reference"


@dataclass(frozen=True)
class Canvas:
    """The tokens of clips of one shape `[C, T, h, w]`, and those that are given with them.

    `first` are tokens `[B, h·w, C]` that stand in the place of the clips' first ones, `beside`
    those `[B, n, C]` that stand behind the clips': of pictures, at the numbers in `frames`, and
    of a reference of the shape `reference`, which is empty where there is none.
    """

    shape: Shape
    first: Tensor | None
    beside: Tensor | None
    frames: tuple[int, ...]
    reference: Shape

    @classmethod
    def of(cls, shape: Shape, given: Sequence[Given], device: torch.device) -> Canvas:
        """Return the canvas of clips whose pictures are given, the same numbers for each."""
        tokens = {
            name: pack(torch.cat([one[name] for one in given])).to(device) for name in given[0]
        }
        frames = sorted(int(name) for name in tokens if name not in ("0", REFERENCE))
        names = [*map(str, frames), *([REFERENCE] if REFERENCE in tokens else [])]
        beside = torch.cat([tokens[name] for name in names], dim=1) if names else None
        reference = tuple(given[0][REFERENCE].shape[1:]) if REFERENCE in tokens else ()
        return cls(shape, tokens.get("0"), beside, tuple(frames), reference)

    def tokens(self, video: Tensor) -> Tensor:
        """Return all tokens of latents, those that are given among them and behind them."""
        tokens = pack(video)
        if self.first is not None:
            tokens = torch.cat([self.first, tokens[:, self.first.shape[1] :]], dim=1)
        return tokens if self.beside is None else torch.cat([tokens, self.beside], dim=1)

    def levels(self, t: float, tokens: Tensor) -> Tensor:
        """Return the noise level of clips `[B]`, or `[B, tokens]` where given ones have none."""
        if self.first is None and self.beside is None:
            return tokens.new_full(tokens.shape[:1], t)
        levels = tokens.new_full(tokens.shape[:2], t)
        if self.first is not None:
            levels[:, : self.first.shape[1]] = 0
        levels[:, int(np.prod(self.shape[1:])) :] = 0
        return levels

    def video(self, tokens: Tensor) -> Tensor:
        """Return the latents of all tokens; those of the first picture stay as they are."""
        C, T, h, w = self.shape
        tokens = tokens[:, : T * h * w]
        if self.first is not None:
            tokens = torch.cat([self.first, tokens[:, self.first.shape[1] :]], dim=1)
        return tokens.transpose(1, 2).reshape(len(tokens), C, T, h, w)


def pack(latents: Tensor) -> Tensor:
    """Return latents as tokens."""
    return latents.flatten(2).transpose(1, 2)


def latent_shape(vae: Mapping[str, Any], plan: Plan) -> Shape:
    """Return the shape `[C, T, h, w]` of a plan's latents, by the configuration of the VAE.

    Raises `BadRequest` where the plan's canvas is none of whole latents.
    """
    space, time = compression(vae)
    if plan.width % space or plan.height % space or (plan.frames - 1) % time:
        raise BadRequest(
            f"{plan.width} × {plan.height} × {plan.frames} is no size of this model. Use sides "
            f"that are multiples of {space} and frames of the form {time}·n + 1."
        )
    groups = (plan.frames - 1) // time + 1
    return (vae["latent_channels"], groups, plan.height // space, plan.width // space)


def compression(vae: Mapping[str, Any]) -> tuple[int, int]:
    """Return the pixels of a latent's side and the frames of one, by the VAE's configuration."""
    halvings = sum(vae["spatio_temporal_scaling"])
    space = vae.get("spatial_compression_ratio") or vae["patch_size"] * 2**halvings
    time = vae.get("temporal_compression_ratio") or vae["patch_size_t"] * 2**halvings
    return space, time


def noise(seed: int | None, shapes: Sequence[Shape]) -> Tensor:
    """Return the flat noise of a seed for latents of these shapes, drawn one after the other."""
    assert seed is not None
    dice = torch.Generator().manual_seed(seed)
    return torch.cat([torch.randn(shape, generator=dice).flatten() for shape in shapes])


def sample(
    model: Denoiser,
    x: Tensor,
    times: Tensor,
    on_step: OnStep,
    on_points: OnPoints | None,
    starts: Sequence[Point] | None,
) -> Tensor:
    """Follow the flow of several clips from `x` `[B, n]` along `times`, as `denoise_together`."""

    def tell(point: Point) -> None:
        if on_points:
            rows = zip(point.x, point.clean, strict=True)
            on_points([Point(point.done, x, clean) for x, clean in rows])
        on_step(point.done, len(times) - 1)

    start = None
    if starts is not None:
        rows, clean = ([getattr(one, name) for one in starts] for name in ("x", "clean"))
        start = Point(starts[0].done, torch.stack(rows).to(x), torch.stack(clean).to(x))
    return sample_euler(model, x, times, tell, start)


def stack(texts: Sequence[Text], device: torch.device) -> Text:
    """Return texts as one on the device, whose first axis counts them."""
    more = {name: torch.cat([one.more[name] for one in texts]).to(device) for name in texts[0].more}
    features = torch.cat([one.features for one in texts]).to(device)
    return Text(features, features.new_zeros(len(texts), 0), more)


def normal(vae: Any, latents: Tensor) -> Tensor:
    """Return latents of the VAE as the denoiser sees them."""
    mean, spread = _statistics(vae, latents)
    return (latents - mean) / spread


def natural(vae: Any, latents: Tensor) -> Tensor:
    """Return latents of the denoiser as the VAE sees them."""
    mean, spread = _statistics(vae, latents)
    return latents * spread + mean


def _statistics(vae: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and spread of the VAE's latents, a value a channel."""
    mean, spread = (
        values.view(1, -1, 1, 1, 1).to(latents) for values in (vae.latents_mean, vae.latents_std)
    )
    return mean, spread / vae.config.scaling_factor


def encode_picture(vae: Any, picture: Frame, device: torch.device) -> Tensor:
    """Return the latents `[1, C, 1, h, w]` of one picture, on the CPU."""
    return encode_frames(vae, picture[None], device)


def encode_frames(vae: Any, frames: Frames, device: torch.device) -> Tensor:
    """Return the latents `[1, C, T, h, w]` of frames, on the CPU."""
    video = torch.tensor(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    return encode(vae, video.to(device)).cpu()


def encode(vae: Any, video: Tensor) -> Tensor:
    """Return the latents of a video `[1, 3, F, H, W]` in -1…1."""
    return normal(vae, vae.encode(video.to(vae.dtype)).latent_dist.mode().float())


def decode_frames(
    vae: Any, latents: Tensor, plan: Plan, time: float = 0.0, grain: float = 0.0
) -> Chunks:
    """Yield the frames `[t, H, W, 3]` of one clip's latents, in the plan's tiles and chunks.

    A decoder that knows of noise is told `time`, and its latents get the share `grain` of noise.
    """
    told = None
    if vae.config.timestep_conditioning:
        told = latents.new_tensor([time]).to(vae.dtype)
        rough = noise(0, [tuple(latents.shape)]).view(latents.shape).to(latents)
        latents = torch.lerp(latents, normal(vae, rough), grain)

    def decode(piece: Tensor) -> Tensor:
        video: Tensor = vae.decode(natural(vae, piece).to(vae.dtype), told, return_dict=False)[0]
        return video

    tiling = Tiling(
        vae.spatial_compression_ratio,
        vae.temporal_compression_ratio,
        plan.tile,
        plan.overlap,
        plan.chunk,
        plan.tiling == "content",
    )
    yield from map(_pixels, decode_stream(decode, latents, tiling))


def _pixels(video: Tensor) -> Frames:
    """Return video `[1, 3, T, H, W]` in -1…1 as frames."""
    bright = ((video[0].float() + 1) * 127.5).round().clamp(0, 255).byte()
    frames: Frames = bright.permute(1, 2, 3, 0).cpu().numpy()
    return frames
