"""`aiprod-studio train`: the starter's networks, one after the other."""

from __future__ import annotations

import argparse
import logging
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from aiprod_studio.engines.bundle import Networks, save_bundle
from aiprod_studio.models.audio_vae import AudioVAE, AudioVAEConfig
from aiprod_studio.models.backbone import Backbone, BackboneConfig
from aiprod_studio.models.text_encoder import TextEncoder, TextEncoderConfig
from aiprod_studio.models.video_vae import VideoVAE, VideoVAEConfig
from aiprod_studio.settings import settings
from aiprod_studio.training.loop import Course, fit
from aiprod_studio.training.losses import (
    LatentPool,
    Reader,
    ScenePool,
    Teachers,
    audio_vae_loss,
    backbone_loss,
    fit_audio_scale,
    fit_latent_scale,
    start_from_components,
    text_loss,
    video_vae_loss,
)
from aiprod_studio.training.scenes import Lesson, SceneSize

Network = TypeVar("Network", bound=nn.Module)
# What the backbone is shown: few subjects well rather than many badly, and pictures of them
# upright before clips of them moving.
_SUBJECTS = (
    "dog", "elephant", "penguin", "parrot", "butterfly", "dinosaur", "car",
    "rocket", "sailboat", "balloon", "ball", "apple", "pumpkin", "ghost",
)  # fmt: skip
PICTURES = Lesson(_SUBJECTS, ("still", "run", "bounce"), ("still",))
CLIPS = Lesson(_SUBJECTS, ("still", "run", "bounce", "fly", "grow"), ("still", "pan"))


def train_video_vae(folder: Path, seconds: float) -> VideoVAE:
    """Train the video VAE on windows of short clips; return its average with its scales."""
    torch.manual_seed(0)
    vae = VideoVAE(VideoVAEConfig.starter())
    start_from_components(vae, SceneSize(frames=5), torch.Generator().manual_seed(8))

    pool = ScenePool(SceneSize(frames=5), 480, 4)

    def loss(dice: torch.Generator, share: float) -> torch.Tensor:
        return video_vae_loss(vae, pool, 12, 96, dice)

    fit(vae, loss, Course("video_vae", seconds, 1.5e-3), folder)
    average = _average(vae, folder, "video_vae")
    fit_latent_scale(average, SceneSize(frames=9), torch.Generator().manual_seed(9))
    return average


def train_audio_vae(folder: Path, seconds: float) -> AudioVAE:
    """Train the audio VAE on the scenes' sounds; return its average with its scales."""
    torch.manual_seed(0)
    vae = AudioVAE(AudioVAEConfig.starter())
    fit(
        vae,
        lambda dice, share: audio_vae_loss(vae, 16, dice),
        Course("audio_vae", seconds, 2e-3),
        folder,
    )
    average = _average(vae, folder, "audio_vae")
    fit_audio_scale(average, torch.Generator().manual_seed(9))
    return average


def train_text_encoder(folder: Path, seconds: float) -> TextEncoder:
    """Teach the text encoder to name what captions say."""
    torch.manual_seed(0)
    terms = tomllib.loads((settings().assets / "video_terms.toml").read_text("utf-8"))
    words = [term for table in terms.values() for term in table["terms"]]
    reader = Reader(TextEncoder(TextEncoderConfig.starter(words)))
    fit(
        reader,
        lambda dice, share: text_loss(reader, 64, dice),
        Course("text_encoder", seconds, 1e-3),
        folder,
    )
    return _average(reader, folder, "text_encoder").encoder


def train_backbone(folder: Path, seconds: float, teachers: Teachers) -> Backbone:
    """Train the backbone on pictures, then on clips with sound."""
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig.starter())
    pictures = LatentPool(teachers, SceneSize(frames=1), 2048, 10, PICTURES)
    clips = LatentPool(teachers, SceneSize(), 768, 3, CLIPS)

    def loss(dice: torch.Generator, share: float) -> torch.Tensor:
        if share < 0.62:
            return backbone_loss(backbone, pictures, 32, dice)
        return backbone_loss(backbone, clips, 8, dice)

    fit(backbone, loss, Course("backbone", seconds, 1e-3, ema=0.999), folder)
    return _average(backbone, folder, "backbone")


def _average(network: Network, folder: Path, name: str) -> Network:
    """Load the moving average of a finished course into its network."""
    state = torch.load(folder / f"{name}.pt", weights_only=True)
    network.load_state_dict(state["average"])
    return network.requires_grad_(False).eval()


def train_starter(folder: Path, hours: float) -> Path:
    """Train all four networks within `hours` (or take them up again) and return the bundle."""
    seconds = hours * 3600
    text_encoder = train_text_encoder(folder, seconds * 0.04)
    audio_vae = train_audio_vae(folder, seconds * 0.03)
    video_vae = train_video_vae(folder, seconds * 0.2)
    teachers = Teachers(video_vae, audio_vae, text_encoder)
    backbone = train_backbone(folder, seconds * 0.73, teachers)
    bundle = folder / "starter.safetensors"
    save_bundle(bundle, Networks(backbone, video_vae, audio_vae, text_encoder))
    return bundle


def main(argv: Sequence[str]) -> int:
    """Run `aiprod-studio train`; return the exit code."""
    parser = argparse.ArgumentParser(prog="aiprod-studio train", description=__doc__)
    parser.add_argument("model", choices=["starter"], help="what to train")
    parser.add_argument("--hours", type=float, default=1.5, help="the budget of all its networks")
    parser.add_argument("--folder", type=Path, default=None, help="where checkpoints are kept")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    bundle = train_starter(arguments.folder or settings().training / "starter", arguments.hours)
    sys.stdout.write(f"{bundle}\n")
    return 0
