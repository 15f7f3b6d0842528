"""What each network is asked to do well, as functions that draw a batch and return a loss."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aiprod_studio.models.audio_vae import AudioVAE
from aiprod_studio.models.backbone import Backbone
from aiprod_studio.models.text_encoder import TextEncoder, tokenise
from aiprod_studio.models.video_vae import SPACE_FACTOR, VideoVAE, fold_patches
from aiprod_studio.training.captions import ABSENT, write_caption
from aiprod_studio.training.scenes import (
    Lesson,
    SceneSize,
    choreograph,
    draw_labels,
    make_scenes,
    scene_time,
)
from aiprod_studio.training.sounds import synthesise
from aiprod_studio.training.world import load_world

SUBJECT_WEIGHT = 4.0
EDGE_WEIGHT = 1.0
KL_WEIGHT = 2e-4


class ScenePool:
    """Drawn scenes, each used a few times, cut to a window around its subject."""

    def __init__(self, size: SceneSize, room: int, fresh: int) -> None:
        self.size, self.room, self.fresh = size, room, fresh
        self.video: list[Tensor] = []
        self.subject: list[Tensor] = []

    def draw(self, batch: int, side: int, dice: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return windows of `side` pixels: `[B, 3, T, side, side]` and coverage without the 3."""
        with torch.no_grad():
            scenes = make_scenes(self.fresh, self.size, dice)
        self.video += scenes.video.unbind()
        self.subject += scenes.subject.unbind()
        for kept in (self.video, self.subject):
            del kept[: -self.room]
        rows = torch.randint(len(self.video), (batch,), generator=dice).tolist()
        cuts = [self._window(self.subject[row], side, dice) for row in rows]
        video = [self.video[row][..., y, x] for row, (y, x) in zip(rows, cuts, strict=True)]
        subject = [self.subject[row][..., y, x] for row, (y, x) in zip(rows, cuts, strict=True)]
        return torch.stack(video), torch.stack(subject)

    def _window(self, subject: Tensor, side: int, dice: torch.Generator) -> tuple[slice, slice]:
        """Return rows and columns of a window near the middle of a coverage `[T, H, W]`."""
        window = []
        for axis in (1, 2):
            length = subject.shape[axis]
            along = subject.sum(dim=(0, 3 - axis))
            middle = (along * torch.arange(length)).sum() / along.sum().clamp(min=1e-3)
            jitter = (torch.rand(1, generator=dice).item() - 0.5) * side / 2
            start = int(min(max(middle.item() + jitter - side / 2, 0), length - side))
            window.append(slice(start, start + side))
        return window[0], window[1]


def video_vae_loss(
    vae: VideoVAE, pool: ScenePool, batch: int, side: int, dice: torch.Generator
) -> Tensor:
    """Return the reconstruction loss, heavier inside the subject, with its edges, plus KL."""
    video, subject = pool.draw(batch, side, dice)
    with torch.autocast("cpu", torch.bfloat16):
        mean, log_variance = vae.encoder(video)
        noise = torch.randn(mean.shape, generator=dice)
        seen = vae.decoder(mean + noise * (0.5 * log_variance.float()).exp())
    weight = 1 + SUBJECT_WEIGHT * subject.unsqueeze(1)
    off = seen.float() - video
    loss = (off.abs() * weight).mean()
    for axis in (3, 4):
        inner = weight.narrow(axis, 1, weight.shape[axis] - 1)
        loss = loss + EDGE_WEIGHT * (off.diff(dim=axis).abs() * inner).mean()
    mean, log_variance = mean.float(), log_variance.float()
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    total: Tensor = loss + KL_WEIGHT * kl
    return total


def start_from_components(vae: VideoVAE, size: SceneSize, dice: torch.Generator) -> None:
    """Let the shortcuts begin as the principal components of 16×16×4 patches of scenes."""
    patches = fold_patches(make_scenes(128, size, dice).video, SPACE_FACTOR)
    rows = patches.transpose(0, 1).flatten(1).T
    centre = rows.mean(dim=0)
    torch.manual_seed(0)
    _, spread, axes = torch.pca_lowrank(rows - centre, vae.config.latent_channels, center=False)
    spread = spread / len(rows) ** 0.5
    inward, outward = vae.encoder.short, vae.decoder.short
    assert inward.bias is not None
    assert outward.bias is not None
    with torch.no_grad():
        inward.weight.copy_((axes / spread).T[:, :, None, None, None])
        inward.bias.copy_(-(centre @ (axes / spread)))
        outward.weight.copy_((axes * spread)[:, :, None, None, None])
        outward.bias.copy_(centre)


def fit_latent_scale(vae: VideoVAE, size: SceneSize, dice: torch.Generator) -> None:
    """Measure the mean and deviation of every latent channel and keep them in the network.

    Channels that move the picture more keep a larger deviation, by the root of their gain, so
    that noise hides them last and the backbone settles what is large before what is fine.
    """
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        means = [vae.encoder(make_scenes(16, size, dice).video)[0].float() for _ in range(8)]
    latents = torch.cat(means).transpose(0, 1).flatten(1)
    spread = latents.std(dim=1)
    gain = vae.decoder.short.weight.flatten(1).norm(dim=0) * spread
    share = (gain / gain.mean()).sqrt()
    share = share / share.square().mean().sqrt()
    vae.mean.copy_(latents.mean(dim=1))
    vae.deviation.copy_(spread / share)


def fit_audio_scale(vae: AudioVAE, dice: torch.Generator) -> None:
    """Measure the mean and deviation of every channel of the sound's latents."""
    with torch.no_grad():
        latents = vae.encoded(vae.spectrogram(_sounds(64, dice)))[0].transpose(0, 1).flatten(1)
    vae.mean.copy_(latents.mean(dim=1))
    vae.deviation.copy_(latents.std(dim=1))


def peak_ratio(seen: Tensor, video: Tensor, weight: Tensor) -> float:
    """Return the peak signal-to-noise ratio in decibels of frames in -1…1 under a weight."""
    error = ((seen - video).square() * weight).sum() / (weight.sum() * seen.shape[1])
    return float(-10 * torch.log10(error / 4))


def audio_vae_loss(vae: AudioVAE, batch: int, dice: torch.Generator) -> Tensor:
    """Return the error of the rebuilt log-spectrogram, plus KL."""
    with torch.no_grad():
        spectrogram = vae.spectrogram(_sounds(batch, dice))
    mean, log_variance = vae.encoded(spectrogram)
    noise = torch.randn(mean.shape, generator=dice)
    seen = vae.decoded(mean + noise * (0.5 * log_variance).exp())
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    off = seen - spectrogram
    return off.abs().mean() + off.square().mean() + KL_WEIGHT * kl


def _sounds(batch: int, dice: torch.Generator) -> Tensor:
    """Return the sounds `[B, S]` of random scenes, without drawing them."""
    labels = draw_labels(batch, dice)
    size = SceneSize()
    events = choreograph(labels, scene_time(batch, size, dice), dice)[1]
    return synthesise(labels, events, size.samples, size.sample_rate, dice)


class Reader(nn.Module):
    """The text encoder with a name plate per register: which concept of each kind is said."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        kinds = load_world().kinds
        self.plates = nn.ModuleList(
            nn.Linear(encoder.config.out_width, len(table) + 1) for table in kinds.values()
        )

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """Return scores `[B, concepts + 1]` per kind; the last class is "not said"."""
        features, _, _ = self.encoder(tokens)
        return [plate(features[:, row]) for row, plate in enumerate(self.plates)]


def text_loss(reader: Reader, batch: int, dice: torch.Generator) -> Tensor:
    """Return how badly the registers name what captions say."""
    chance = random.Random(int(torch.randint(2**31, (1,), generator=dice)))
    labels = draw_labels(batch, dice)
    lines = [
        write_caption({kind: int(v[i]) for kind, v in labels.items()}, chance) for i in range(batch)
    ]
    captions = [line[0] for line in lines]
    said = {kind: torch.tensor([line[1][kind] for line in lines]) for kind in labels}
    for row in range(0, batch, 32):  # the empty prompt says nothing
        captions[row] = ""
        for values in said.values():
            values[row] = ABSENT
    with torch.autocast("cpu", torch.bfloat16):
        scores = reader(tokenise(captions, reader.encoder.config))
    losses = [
        F.cross_entropy(score.float(), values % score.shape[1])
        for score, values in zip(scores, said.values(), strict=True)
    ]
    return torch.stack(losses).sum()


@dataclass(frozen=True)
class Teachers:
    """The finished networks whose latents and features the backbone learns from."""

    video_vae: VideoVAE
    audio_vae: AudioVAE
    text_encoder: TextEncoder


class LatentPool:
    """Encoded scenes, each used a few times before fresh ones take its place."""

    def __init__(
        self, teachers: Teachers, size: SceneSize, room: int, fresh: int, lesson: Lesson
    ) -> None:
        self.teachers, self.size, self.room, self.fresh = teachers, size, room, fresh
        self.lesson = lesson
        self.video: list[Tensor] = []
        self.audio: list[Tensor] = []
        self.captions: list[str] = []

    def draw(self, batch: int, dice: torch.Generator) -> tuple[Tensor, Tensor, list[str]]:
        """Return video latents, audio latents and captions of `batch` scenes."""
        self._refill(dice)
        rows = torch.randint(len(self.video), (batch,), generator=dice).tolist()
        captions = [self.captions[row] for row in rows]
        video = torch.stack([self.video[row] for row in rows])
        return video, torch.stack([self.audio[row] for row in rows]), captions

    def _refill(self, dice: torch.Generator) -> None:
        scenes = make_scenes(self.fresh, self.size, dice, self.lesson)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            self.video += self.teachers.video_vae.encode(scenes.video).float().unbind()
        if self.size.frames > 1:
            with torch.no_grad():
                self.audio += self.teachers.audio_vae.encode(scenes.audio).unbind()
        else:
            self.audio += torch.zeros(self.fresh, 1, 0).unbind()
        self.captions += scenes.captions
        for kept in (self.video, self.audio, self.captions):
            del kept[: -self.room]


def backbone_loss(
    backbone: Backbone, pool: LatentPool, batch: int, dice: torch.Generator
) -> Tensor:
    """Return the rectified-flow loss of the clean latents that the backbone predicts.

    Most draws are noisy, where the scene is decided, and the clean sample's error counts over t:
    between its own and the velocity's. One prompt in ten is left out for guidance, one batch of
    clips in six is given its first latent frames.
    """
    video, audio, captions = pool.draw(batch, dice)
    silent = torch.rand(batch, generator=dice) < 0.1
    prompts = ["" if drop else text for drop, text in zip(silent, captions, strict=True)]
    encoder = pool.teachers.text_encoder
    t = torch.sigmoid(torch.randn(batch, 1, generator=dice) + 1.0)
    video_noise = torch.randn(video.shape, generator=dice)
    audio_noise = torch.randn(audio.shape, generator=dice)
    T = video.shape[2]
    cells = video.shape[3] * video.shape[4]
    given = T > 1 and bool(torch.rand(1, generator=dice) < 1 / 6)
    times, t_video = t, t.view(batch, 1, 1, 1, 1)
    if given:
        times = t.expand(batch, T * cells + audio.shape[-1]).clone()
        times[:, :cells] = 0
        t_video = times[:, : T * cells].view(batch, 1, T, *video.shape[3:])
    noisy = (1 - t_video) * video + t_video * video_noise
    sound = (1 - t.unsqueeze(2)) * audio + t.unsqueeze(2) * audio_noise if T > 1 else None
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            text = encoder(tokenise(prompts, encoder.config))
        clean, clean_audio = backbone(noisy, sound, times, text, pool.size.fps)
    weight = torch.where(t_video > 0, 1 / t.clamp(min=0.2).view(-1, 1, 1, 1, 1), 0.0)
    loss = ((clean.float() - video).square() * weight).mean()
    if clean_audio is not None:
        audio_weight = 1 / t.clamp(min=0.2).unsqueeze(2)
        loss = loss + 0.2 * ((clean_audio.float() - audio).square() * audio_weight).mean()
    total: Tensor = loss
    return total
