"""The native engine: the AIPROD v2 networks in plain torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aiprod_studio.engines.bundle import Networks, load_bundle
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
    empty_cache,
)
from aiprod_studio.models.audio_vae import SAMPLE_RATE, latent_count
from aiprod_studio.models.layout import TRACKS, Layout, lay_cells, lay_sounds
from aiprod_studio.models.sketches import animate, lay_sketches
from aiprod_studio.models.text_encoder import tokenise
from aiprod_studio.models.video_vae import SPACE_FACTOR, TIME_FACTOR
from aiprod_studio.sampling.deblocking import deblock
from aiprod_studio.sampling.guidance import guided
from aiprod_studio.sampling.noise import carry_noise
from aiprod_studio.sampling.schedules import shifted
from aiprod_studio.sampling.solvers import Point, sample_multistep
from aiprod_studio.sampling.tiling import Tiling, decode_stream
from aiprod_studio.types import ModelCard, Plan, Request

_SHIFT = 3.0
_LAYOUT_STEPS = 24
_AT_ONCE = 4  # frames that are finished or enlarged together


@dataclass(frozen=True)
class NativeEngine:
    """A bundle of the AIPROD v2 family and its card."""

    card: ModelCard
    bundle: Path

    @contextmanager
    def load(self, plan: Plan) -> Iterator[NativeParts]:
        """Hold the networks on the plan's device while the `with` lasts."""
        try:
            yield NativeParts(load_bundle(self.bundle, plan.device), torch.device(plan.device))
        finally:
            empty_cache(plan.device)


@dataclass(frozen=True)
class NativeParts(Batching):
    """The loaded networks as graph steps call them."""

    networks: Networks
    device: torch.device

    def encode_text(self, prompt: str) -> Text:
        """Return the features of a prompt; "" is the absence of one."""
        encoder = self.networks.text_encoder
        with torch.inference_mode():
            return Text(*encoder(tokenise([prompt], encoder.config).to(self.device)))

    def encode_media(self, pictures: Pictures, plan: Plan) -> Given:
        """Return the video latents `[1, C, 1, H/16, W/16]` of pictures as `first` and `last`."""
        # Later latents stand for several frames each: there the picture stands still.
        given = {"first": (pictures.first, 1), "last": (pictures.last, TIME_FACTOR + 1)}
        found: Given = {}
        for name, (picture, frames) in given.items():
            if picture is None:
                continue
            video = torch.tensor(picture, device=self.device).permute(2, 0, 1)[None, :, None]
            video = (video.float() / 127.5 - 1).repeat(1, 1, frames, 1, 1)
            with torch.inference_mode():
                found[name] = self.networks.video_vae.encode(video)[:, :, -1:]
        return found

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
        like, B = requests[0], len(requests)
        assert like.steps is not None
        assert like.guidance is not None
        assert like.fps is not None
        shapes = self._shapes(like, plan)
        sizes = [int(np.prod(shape)) for shape in shapes]
        fps, steps = like.fps, like.steps
        told, untold = _stack(texts), _stack([nothing] * B)
        kept = {name: torch.cat([one[name] for one in given]) for name in given[0]}

        def split(x: Tensor) -> list[Tensor]:
            pieces = torch.split(x, sizes, dim=1)
            return [piece.reshape(B, *shape) for piece, shape in zip(pieces, shapes, strict=True)]

        def predict(x: Tensor, t: float, telling: bool) -> Tensor:
            return self._predict(split(x), t, told if telling else untold, kept, fps, layout)

        def tell(point: Point) -> None:
            if on_points:
                rows = zip(point.x, point.clean, strict=True)
                on_points([Point(point.done, x, clean) for x, clean in rows])
            on_step(point.done, steps)

        start = None
        if starts is not None:
            x, clean = ([getattr(one, name) for one in starts] for name in ("x", "clean"))
            start = Point(
                starts[0].done, torch.stack(x).to(self.device), torch.stack(clean).to(self.device)
            )
        dice = [_dice(one) for one in requests]
        noise = _noise(dice, sum(sizes), device=self.device)
        # A picture that is given shows where all are already.
        drawn = {} if kept else self._draw(dice, told, shapes, fps)
        layout = _lay_out(drawn, shapes, fps)
        first, *rest = split(noise)
        first = carry_noise(first, self.networks.backbone.config.carried)
        noise = torch.cat([part.flatten(1) for part in (first, *rest)], dim=1)
        model, times = guided(predict, like.guidance), shifted(steps, _SHIFT)
        with torch.inference_mode():
            video, audio = split(sample_multistep(model, noise, times, tell, start))
        return [
            Latents(
                video[n : n + 1],
                audio[n : n + 1] if like.audio else None,
                {name: values[n : n + 1] for name, values in drawn.items()},
            )
            for n in range(B)
        ]

    def preview(self, point: Point, request: Request, plan: Plan) -> Frame:
        """Return the first frame `[H, W, 3]` of the clean prediction at a point."""
        shape = self._shapes(request, plan)[0]
        video = point.clean[: int(np.prod(shape))].view(1, *shape)
        [frames] = self.decode_video(Latents(video[:, :, :1], None), plan)
        first: Frame = frames[0]
        return first

    def _shapes(self, request: Request, plan: Plan) -> list[tuple[int, ...]]:
        """Return the shapes of one clip's latents, video `[C, T, H, W]` and audio `[C, n]`."""
        assert request.fps is not None
        config = self.networks.backbone.config
        groups = (plan.frames - 1) // TIME_FACTOR + 1
        cells = (plan.height // SPACE_FACTOR, plan.width // SPACE_FACTOR)
        count = latent_count(plan.frames / request.fps)
        return [(config.video_channels, groups, *cells), (config.audio_channels, count)]

    def _draw(
        self, dice: Sequence[torch.Generator], text: Text, shapes: list[tuple[int, ...]], fps: float
    ) -> dict[str, Tensor]:
        """Return `tracks` `[B, T, TRACKS]` for latents of these shapes, where they can be planned.

        Beside them `sketches` `[B, kinds, 4, size, size]`, where there is a sketcher.
        """
        planner, sketcher = self.networks.layout, self.networks.sketcher
        frames = (shapes[0][1] - 1) * TIME_FACTOR + 1
        if planner is None or not self.networks.backbone.config.layout:
            return {}
        if frames > planner.config.frames or fps != planner.config.fps:
            return {}
        noise = _noise(dice, planner.config.frames, TRACKS, device=self.device)

        def predict(waves: Tensor, t: float) -> Tensor:
            times = torch.full((len(waves), 1), t, device=self.device)
            clean: Tensor = planner(waves, times, text.features)
            return clean

        with torch.inference_mode():
            waves = sample_multistep(predict, noise, shifted(_LAYOUT_STEPS))
            drawn = {"tracks": planner.from_waves(waves)[:, :frames].contiguous()}
            if sketcher is not None:
                drawn["sketches"] = sketcher(text.features)
        return drawn

    def _predict(
        self,
        parts: list[Tensor],
        t: float,
        text: Text,
        kept: Given,
        fps: float,
        layout: Layout | None,
    ) -> Tensor:
        """Return the clean prediction `[B, n]`; latents that are given stay as they are."""
        video, audio = parts
        cells = video.shape[3] * video.shape[4]
        pictures = video.shape[2] * cells
        times = torch.full((len(video), pictures + audio.shape[2]), t, device=self.device)
        if "last" in kept:
            times[:, pictures - cells : pictures] = 0
        if "first" in kept:
            times[:, :cells] = 0
        clean, sound = self.networks.backbone(
            _put(video, kept), audio, times, (text.features, text.pooled), fps, None, layout
        )
        return torch.cat([_put(clean, kept).flatten(1), sound.flatten(1)], dim=1)

    def decode_video(self, latents: Latents, plan: Plan) -> Chunks:
        """Yield the frames `[t, H, W, 3]` of the plan's canvas, in its tiles and chunks."""
        tiling = Tiling(
            SPACE_FACTOR,
            TIME_FACTOR,
            plan.tile,
            plan.overlap,
            plan.chunk,
            by_content=plan.tiling != "uniform",
        )

        def decode(z: Tensor) -> Tensor:
            return deblock(self.networks.video_vae.decode(z), SPACE_FACTOR)

        done = 0
        for video in decode_stream(decode, latents.video, tiling):
            shown = []
            for few in torch.split(video, _AT_ONCE, dim=2):
                shown.append(_pixels(self._finish(few, latents.more, done)))
                done += few.shape[2]
            yield np.concatenate(shown)

    def _finish(self, video: Tensor, drawn: Mapping[str, Tensor], begin: int) -> Tensor:
        """Return frames `[1, 3, t, H, W]` with figures painted as they are `drawn` from `begin` on.

        Frames are as they were where nothing is drawn, or the bundle has no finisher.
        """
        finisher = self.networks.finisher
        if finisher is None or "sketches" not in drawn:
            return video
        size, frames = (video.shape[3], video.shape[4]), slice(begin, begin + video.shape[2])
        with torch.inference_mode():
            animatic = animate(drawn["tracks"], drawn["sketches"], size, frames)
            seen: Tensor = finisher(_frames(video.to(self.device)), _frames(animatic))
        return seen.transpose(0, 1).unsqueeze(0).clamp(-1, 1).to(video.device)

    def enlarge(self, frames: Frames) -> Frames:
        """Return frames `[T, 2H, 2W, 3]`, or those as they are where the bundle has no upscaler."""
        upscaler = self.networks.upscaler
        if upscaler is None:
            return frames
        large = []
        for start in range(0, len(frames), _AT_ONCE):
            few = torch.tensor(frames[start : start + _AT_ONCE], device=self.device)
            with torch.inference_mode():
                seen = upscaler(few.permute(0, 3, 1, 2).float() / 127.5 - 1)
            pixels = ((seen + 1) * 127.5).round().clamp(0, 255).byte()
            large.append(pixels.permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(large)

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


def _lay_out(
    drawn: Mapping[str, Tensor], shapes: list[tuple[int, ...]], fps: float
) -> Layout | None:
    """Return what the backbone reads of what is drawn, for latents of these shapes."""
    if "tracks" not in drawn:
        return None
    (_, _, *cells), (_, count) = shapes
    tracks, grid, animatic = drawn["tracks"], (cells[0], cells[1]), None
    with torch.inference_mode():
        if "sketches" in drawn:
            animatic = lay_sketches(tracks, drawn["sketches"], grid)
        return Layout(lay_cells(tracks, grid), lay_sounds(tracks, count, fps), animatic)


def _frames(video: Tensor) -> Tensor:
    """Return a clip `[1, c, t, H, W]` as its frames `[t, c, H, W]`."""
    return video[0].transpose(0, 1)


def _pixels(video: Tensor) -> Frames:
    """Return video `[1, 3, t, H, W]` in -1…1 as frames."""
    bright = ((video[0].float() + 1) * 127.5).round().clamp(0, 255).byte()
    frames: Frames = bright.permute(1, 2, 3, 0).numpy()
    return frames


def _put(video: Tensor, kept: Given) -> Tensor:
    """Return latents `[B, C, T, H, W]` with the given ones in the first and the last place."""
    if "last" in kept:
        video = torch.cat([video[:, :, :-1], kept["last"]], dim=2)
    if "first" in kept:
        video = torch.cat([kept["first"], video[:, :, 1:]], dim=2)
    return video


def _stack(texts: Sequence[Text]) -> Text:
    """Return the texts as one whose first axis counts them."""
    features, pooled = ([getattr(one, name) for one in texts] for name in ("features", "pooled"))
    return Text(torch.cat(features), torch.cat(pooled))


def _dice(request: Request) -> torch.Generator:
    """Return the dice of a request's own seed, alone or among others."""
    assert request.seed is not None
    return torch.Generator().manual_seed(request.seed)


def _noise(dice: Sequence[torch.Generator], *shape: int, device: torch.device) -> Tensor:
    """Return noise `[B, *shape]`, a row from each of the dice."""
    return torch.stack([torch.randn(shape, generator=one) for one in dice]).to(device)
