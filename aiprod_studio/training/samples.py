"""Samples: what a network in training makes of fixed inputs, as files that a page can show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aiprod_studio.engines.engine import Frames, Sound, Text
from aiprod_studio.media.files import replacing
from aiprod_studio.media.writer import write_video
from aiprod_studio.models.audio_vae import SAMPLE_RATE
from aiprod_studio.models.backbone import Backbone
from aiprod_studio.models.layout import Layout
from aiprod_studio.sampling.guidance import guided
from aiprod_studio.sampling.noise import carry_noise
from aiprod_studio.sampling.schedules import shifted
from aiprod_studio.sampling.solvers import sample_multistep

STEPS = 12
GUIDANCE = 2.5
_SHIFT = 3.0
_ENLARGED = 192  # pixels of height up to which a page's picture is enlarged by whole factors


@dataclass(frozen=True)
class Sample:
    """One clip with what it should show; `audio` is `[1, S]` at 16 kHz or none."""

    caption: str
    frames: Frames
    fps: float
    audio: Sound | None = None


def save_samples(folder: Path, stem: str, samples: list[Sample]) -> list[dict[str, str]]:
    """Write an animated WebP, and an mp4 of what moves or sounds, per sample.

    Returns a dictionary with the sample's `caption` and the name of its WebP `file` for each.
    """
    told = []
    for number, sample in enumerate(samples):
        path = folder / f"{stem}-{number}.webp"
        _write_webp(path, sample)
        if len(sample.frames) > 1:
            clip = path.with_suffix(".mp4")
            write_video(clip, sample.frames, sample.fps, sample.audio, SAMPLE_RATE)
        told.append({"caption": sample.caption, "file": path.name})
    return told


def _write_webp(path: Path, sample: Sample) -> None:
    factor = max(1, _ENLARGED // sample.frames.shape[1])
    size = (sample.frames.shape[2] * factor, sample.frames.shape[1] * factor)
    first, *rest = [
        Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in sample.frames
    ]
    with replacing(path) as temporary:
        first.save(
            temporary,
            "WEBP",
            save_all=bool(rest),
            append_images=rest,
            duration=round(1000 / sample.fps),
            loop=0,
            quality=75,
        )


def to_frames(video: Tensor) -> Frames:
    """Return frames uint8 `[T, H, W, 3]` of a clip `[3, T, H, W]` in -1…1."""
    pixels = ((video.float() + 1) * 127.5).round().clamp(0, 255).byte()
    frames: Frames = pixels.permute(1, 2, 3, 0).cpu().numpy()
    return frames


def side_by_side(video: Tensor, again: Tensor) -> Frames:
    """Return frames `[T, H, 2·W, 3]` that show a clip and what became of it."""
    return np.concatenate([to_frames(video), to_frames(again)], axis=2)


def draw_spectrogram(spectrogram: Tensor, again: Tensor) -> Frames:
    """Return one picture `[1, bins, columns, 3]` of a spectrogram `[bins, F]` above another."""
    both = torch.cat([spectrogram.flip(0), again.flip(0)], dim=0)[::4].float()
    low, high = both.min(), both.max()
    grey = ((both - low) / (high - low).clamp(min=1e-6) * 255).byte().cpu()
    return grey[None, :, :, None].expand(-1, -1, -1, 3).numpy()


def dream(
    backbone: Backbone,
    text: Text,
    nothing: Text,
    like: tuple[Tensor, Tensor | None],
    fps: float,
    layout: Layout | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return video and audio latents of prompts, shaped `like` these, always from the same noise.

    `text` has features `[B, R, D]` and pooled `[B, D]`; `nothing` is the empty prompt, repeated.
    `layout` is what the backbone reads of tracks.
    """
    video, audio = like
    flat = [video.flatten(1)] + ([] if audio is None else [audio.flatten(1)])
    sizes = [part.shape[1] for part in flat]
    dice = torch.Generator().manual_seed(0)
    noise = torch.randn(len(video), sum(sizes), generator=dice).to(video.device)
    picture = noise[:, : sizes[0]].view_as(video)
    noise[:, : sizes[0]] = carry_noise(picture, backbone.config.carried).flatten(1)

    def split(x: Tensor) -> tuple[Tensor, Tensor | None]:
        parts = torch.split(x, sizes, dim=1)
        return parts[0].view(video.shape), None if audio is None else parts[1].view(audio.shape)

    def predict(x: Tensor, t: float, told: bool) -> Tensor:
        said = text if told else nothing
        noisy, sound = split(x)
        times = torch.full((len(x), 1), t, device=x.device)
        words = (said.features, said.pooled)
        clean, heard = backbone(noisy, sound, times, words, fps, None, layout)
        return torch.cat([clean.flatten(1)] + ([] if heard is None else [heard.flatten(1)]), dim=1)

    with torch.no_grad():
        return split(sample_multistep(guided(predict, GUIDANCE), noise, shifted(STEPS, _SHIFT)))
