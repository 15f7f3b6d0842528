"""What networks begin with: batches to measure, and the scales of both VAEs' latents, then kept.

The world may grow while the backbone trains; what it has learnt to read must not move.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from aiprod_studio.models.audio_vae import AudioVAE
from aiprod_studio.models.layout import LayoutPlanner
from aiprod_studio.models.sketches import lay_sketches
from aiprod_studio.models.video_vae import SPACE_FACTOR, VideoVAE
from aiprod_studio.training.checkpoints import read_state, write_state
from aiprod_studio.training.clips import digest
from aiprod_studio.training.data import Rows, seeded
from aiprod_studio.training.losses import fit_audio_scale, fit_latent_scale, fit_track_scale
from aiprod_studio.training.order import Order
from aiprod_studio.training.scenes import EVERYTHING, draw_labels, make_scenes
from aiprod_studio.training.stage import SceneSize, set_stage, track
from aiprod_studio.training.teachers import Teachers

_FRAMES = 9


def fix_video_scale(order: Order, vae: VideoVAE) -> None:
    """Give a trained video VAE the scale of its latents."""

    def measure() -> None:
        batches = [some_video(order, number, _FRAMES) for number in range(1, 9)]
        fit_latent_scale(vae, [video.to(order.spread.device) for video in batches])

    _fix(order, "video_vae", vae, measure)


def fix_audio_scale(order: Order, vae: AudioVAE) -> None:
    """Give a trained audio VAE the scale of its latents."""

    def measure() -> None:
        audio = _some(order, 64, "sound", 17, small=True)["audio"]
        fit_audio_scale(vae, audio.to(order.spread.device))

    _fix(order, "audio_vae", vae, measure)


def some_video(order: Order, number: int, frames: int) -> Tensor:
    """Return batch `number` of what the VAE may see, `[B, 3, T, H, W]`; the first one is large."""
    return _some(order, 16 if number else 128, f"video {number}", frames)["video"]


def some_animatics(order: Order, teachers: Teachers) -> Tensor:
    """Return what animatics show in the cells of scenes `[B, T, h, w, ANIMATIC_FEATURES]`."""
    size = order.curriculum.phases[0].size
    labels, tracks, dice = _some_tracks(order, 64, size)
    features = teachers.tell(labels, dice).features
    sketches = teachers.sketched({"tracks": tracks, "features": features})["sketches"]
    return lay_sketches(tracks, sketches, (size.height // SPACE_FACTOR, size.width // SPACE_FACTOR))


def fix_track_scale(order: Order, planner: LayoutPlanner) -> None:
    """Give a planner that has not learnt anything yet the scale of its waves."""
    if (order.folder / "layout.pt").exists():
        return
    config, size = planner.config, order.curriculum.phases[0].size
    size = dataclasses.replace(size, frames=config.frames, fps=config.fps)
    fit_track_scale(planner, _some_tracks(order, 1024, size)[1])


def _some_tracks(
    order: Order, batch: int, size: SceneSize
) -> tuple[dict[str, Tensor], Tensor, torch.Generator]:
    """Return labels and tracks of scenes of the whole world, and the dice that they have left."""
    dice = seeded(order.curriculum.seed, "some", "tracks")
    labels = draw_labels(batch, dice, EVERYTHING)
    return labels, track(set_stage(labels, size, dice), labels, size), dice


def _some(order: Order, batch: int, name: str, frames: int, small: bool = False) -> Rows:
    """Return video and audio of real clips, or of scenes of the whole world."""
    size = dataclasses.replace(order.curriculum.phases[0].size, frames=frames)
    dice = seeded(order.curriculum.seed, "some", name)
    clips = order.open_clips(size)
    if clips is not None:
        return clips.draw(batch, dice, clips.pixels)
    if small:
        size = dataclasses.replace(size, height=32, width=32)
    scenes = make_scenes(batch, size, dice, EVERYTHING)
    return {"video": scenes.video, "audio": scenes.audio}


def _fix(order: Order, name: str, vae: AudioVAE | VideoVAE, measure: Callable[[], None]) -> None:
    path = order.folder / f"{name}.scale.pt"
    stamp = digest(vae)
    state = read_state(path, order.spread.device) if path.exists() else {}
    if state.get("of") != stamp:
        measure()
        state = {"of": stamp, "mean": vae.mean, "deviation": vae.deviation}
        if order.spread.leads:
            write_state(path, state)
    vae.mean.copy_(state["mean"])
    vae.deviation.copy_(state["deviation"])
