"""What each network is asked to do well, as functions of a network and the rows of a batch.

Every loss is a mean over its rows and draws nothing: noise and times are rows like the rest, so
that a batch may be split over steps of a smaller machine, or over several machines.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aiprod_studio.models.audio_vae import SAMPLE_RATE, AudioVAE
from aiprod_studio.models.backbone import Backbone
from aiprod_studio.models.layout import (
    FIGURE,
    TRACKS,
    VIEW,
    Layout,
    LayoutPlanner,
    lay_cells,
    lay_sounds,
)
from aiprod_studio.models.sketches import Sketcher, animate, lay_sketches
from aiprod_studio.models.text_encoder import TextEncoder
from aiprod_studio.models.tokens import PADDING
from aiprod_studio.models.upscaler import FACTOR, TAPS, Upscaler
from aiprod_studio.models.video_vae import SPACE_FACTOR, VideoVAE, fold_patches
from aiprod_studio.sampling.deblocking import deblock
from aiprod_studio.training.concepts import concept_table
from aiprod_studio.training.data import Rows

SUBJECT_WEIGHT = 4.0
EDGE_WEIGHT = 1.0
KL_WEIGHT = 2e-4
SUBJECT_SHARE = 3.0
SURFACE_WEIGHT = 0.5
AUDIO_WEIGHT = 0.2
CHANGE_WEIGHT = 0.5  # of errors that change from latent to latent, which flicker
OCTAVES = 200.0
SUDDEN_WEIGHT = 2.0
WEIGHTS = (0.3, 8.0)  # of waves of tracks, by how far they move things
LEAST_WAVE = 0.02  # of tracks, whose noise else would be raised by what hardly ever happens
FAINT = 0.1  # components of animatics weaker than this share of the strongest stay weaker
NEAR = 0.25  # how noisy encoded latents are for the decoder, times t
SAID = "said/"


def lower_precision(like: Tensor) -> torch.autocast:
    """Return the context in which networks compute in bfloat16 on a tensor's device."""
    return torch.autocast(like.device.type, torch.bfloat16)


def video_vae_loss(vae: VideoVAE, rows: Rows) -> Tensor:
    """Return the reconstruction loss, heavier inside the subject, with its edges, plus KL.

    Rows: `video` `[B, 3, T, H, W]` in -1…1, `noise` like the latents, and where it is known the
    coverage `subject` `[B, T, H, W]`.
    """
    video = rows["video"]
    with lower_precision(video):
        mean, log_variance = vae.encoder(video)
        seen = vae.decoder(mean + rows["noise"] * (0.5 * log_variance.float()).exp())
    loss = _frame_error(seen.float(), video, rows.get("subject"))
    return loss + KL_WEIGHT * _divergence(mean.float(), log_variance.float())


def decoder_loss(decoder: nn.Module, vae: VideoVAE, backbone: Backbone, rows: Rows) -> Tensor:
    """Return the error of frames that the decoder makes of what the backbone finds.

    So it learns to mend what is not quite right, instead of showing it. Rows: those of
    `_find`, the frames `pixels` `[B, 3, T, H, W]`, and their coverage `subject` where it is known.
    """
    latents = _find(vae, backbone, rows)
    with lower_precision(latents):
        seen = decoder(latents)
    return _frame_error(seen.float(), rows["pixels"], rows.get("subject"))


def finisher_loss(finisher: nn.Module, vae: VideoVAE, backbone: Backbone, rows: Rows) -> Tensor:
    """Return the error of finished frames, decoded of what the backbone finds.

    Rows: those of `decoder_loss` with `tracks` and `sketches`.
    """
    latents = _find(vae, backbone, rows)
    with lower_precision(latents):
        seen = finish(finisher, vae, latents, rows)
    return _frame_error(seen.float(), rows["pixels"], rows.get("subject"))


def finish(finisher: nn.Module, vae: VideoVAE, latents: Tensor, rows: Rows) -> Tensor:
    """Return the finished frames `[B, 3, T, H, W]` of latents, of rows' `tracks` and `sketches`."""
    with torch.no_grad():
        video = deblock(vae.decoder(latents).float(), SPACE_FACTOR).clone()
        size = video.shape[3], video.shape[4]
        animatic = animate(rows["tracks"], rows["sketches"], size)
    frames: Tensor = finisher(*(each.transpose(1, 2).flatten(0, 1) for each in (video, animatic)))
    return frames.view(len(video), -1, *frames.shape[1:]).transpose(1, 2)


@torch.no_grad()
def _find(vae: VideoVAE, backbone: Backbone, rows: Rows) -> Tensor:
    """Return the video latents that the backbone finds, as the decoder reads them.

    Rows: those of `backbone_loss` with one time per row, their `fps` `[B]`, and which are `found`
    `[B]`: the others are encoded ones with a little noise.
    """
    t = rows["times"].view(-1, 1, 1, 1, 1)
    noisy = torch.lerp(rows["video"], rows["video_noise"], t.expand_as(rows["video"]))
    sound = None
    if "audio" in rows:
        t = rows["times"].unsqueeze(2).expand_as(rows["audio"])
        sound = torch.lerp(rows["audio"], rows["audio_noise"], t)
    with lower_precision(noisy):
        text, fps = (rows["features"], rows["pooled"]), float(rows["fps"][0])
        found, _ = backbone(noisy, sound, rows["times"], text, fps, None, lay_out(rows, fps))
    near = rows["video"] + NEAR * rows["times"].view(-1, 1, 1, 1, 1) * rows["video_noise"]
    latents = torch.where(rows["found"].view(-1, 1, 1, 1, 1), found.float(), near)
    return vae.to_plain(latents)


def upscaler_loss(upscaler: nn.Module, rows: Rows) -> Tensor:
    """Return the squared error of frames that the upscaler makes of the same at half the size.

    Rows: `video` `[B, 3, T, H, W]` in -1…1, and where it is known the coverage `subject`.
    """
    video = rows["video"]
    frames = video.transpose(1, 2).flatten(0, 1)
    with lower_precision(video):
        seen = upscaler(F.avg_pool2d(frames, FACTOR)).float()
    off = seen.unflatten(0, (video.shape[0], -1)).transpose(1, 2) - video
    loss: Tensor = (off.square() * _weight(video, rows.get("subject"))).mean()
    return loss


def _frame_error(seen: Tensor, video: Tensor, subject: Tensor | None) -> Tensor:
    """Return the absolute error of frames and of their edges, heavier inside the subject."""
    weight = _weight(video, subject)
    off = seen - video
    loss = (off.abs() * weight).mean()
    for axis in (3, 4):
        inner = weight.narrow(axis, 1, weight.shape[axis] - 1)
        loss = loss + EDGE_WEIGHT * (off.diff(dim=axis).abs() * inner).mean()
    return loss


def _weight(video: Tensor, subject: Tensor | None) -> Tensor:
    """Return what a pixel counts `[B, 1, T, H, W]`: more inside the subject, where it is known."""
    weight = torch.ones_like(video[:, :1])
    return weight if subject is None else weight + SUBJECT_WEIGHT * subject.unsqueeze(1)


def audio_vae_loss(vae: AudioVAE, rows: Rows) -> Tensor:
    """Return the error of the rebuilt log-spectrogram and of its changes in time, plus KL.

    An octave counts about as much as another above `OCTAVES` hertz, as it does to ears: most of the
    bins are high ones, and what hits the ground is low. Rows: `audio` `[B, S]` in -1…1 at 16
    kHz and `noise` like its latents.
    """
    with torch.no_grad():
        spectrogram = vae.spectrogram(rows["audio"])
    mean, log_variance = vae.encoded(spectrogram)
    off = vae.decoded(mean + rows["noise"] * (0.5 * log_variance).exp()) - spectrogram
    hertz = torch.linspace(0, SAMPLE_RATE / 2, off.shape[1], device=off.device)
    weight = 1 / (1 + hertz / OCTAVES)
    weight = (weight / weight.mean()).unsqueeze(1)
    error = off.abs() + off.square()
    loss = (weight * error).mean() + SUDDEN_WEIGHT * (weight * off.diff(dim=2).abs()).mean()
    return loss + KL_WEIGHT * _divergence(mean, log_variance)


def _divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return how far latents are from unit normal ones."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def text_loss(encoder: TextEncoder, rows: Rows) -> Tensor:
    """Return how badly the registers say what captions say, by choice and by distance.

    What names add to the choice counts: it need not be learnt. Rows: `tokens` `[B, L]`, `wanted`
    registers `[B, R, D]`, and what is said as class numbers `[B]` by kind, in the order of the
    registers.
    """
    tokens = rows["tokens"]
    named = encoder.named(tokens)
    longest = int((tokens != PADDING).sum(dim=1).max())
    with lower_precision(tokens):
        features = encoder.gather(tokens[:, : max(1, longest)])
    features = features.float()
    loss = (features - rows["wanted"]).square().mean()
    for register, name in enumerate(name for name in rows if name.startswith(SAID)):
        scores = read_register(features[:, register], name.removeprefix(SAID))
        scores = scores + named[register] if register < len(named) else scores
        loss = loss + F.cross_entropy(scores, rows[name] % scores.shape[1])
    total: Tensor = loss
    return total


def read_register(features: Tensor, kind: str) -> Tensor:
    """Return scores `[B, concepts + 1]` of what a register `[B, D]` says; the last: not said."""
    table = concept_table(kind, features.shape[-1]).to(features.device)
    scores: Tensor = features @ table.T / features.shape[-1] ** 0.5
    return scores


class Pupil(nn.Module):
    """The backbone, and a plate that says from its middle what part of the subject lies where.

    The plate is there for training only: what is seen where must be decided before it is painted,
    and being asked for it makes the backbone decide early.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.plate = nn.Linear(backbone.config.width, 3)

    def forward(
        self,
        video: Tensor,
        audio: Tensor | None,
        times: Tensor,
        text: tuple[Tensor, Tensor],
        fps: float,
        window: Tensor | None = None,
        layout: Layout | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return the backbone's clean latents, and the plate's surface `[B, 3, T, H, W]`."""
        seen: list[Tensor] = []
        middle = self.backbone.blocks[len(self.backbone.blocks) // 2]
        hook = middle.register_forward_hook(lambda block, given, made: seen.append(made))
        clean, sound = self.backbone(video, audio, times, text, fps, window, layout)
        hook.remove()
        cells = seen[0][:, : video[0, 0].numel()]
        surface = self.plate(cells).transpose(1, 2).unflatten(2, video.shape[2:])
        return clean, sound, surface


def backbone_loss(pupil: Pupil, rows: Rows, fps: float) -> Tensor:
    """Return the rectified-flow loss of the clean latents that the backbone predicts.

    The clean sample's error counts over t, between its own and the velocity's; the subject counts
    more than its surroundings, and of clips an error that lasts less than one that flickers. Rows:
    `video` `[B, C, T, h, w]` and `video_noise`; `times` `[B, 1]`, or `[B, N]` where tokens are
    given clean; `features` `[B, R, D]` and `pooled` `[B, D]`; and where there are any `audio` `[B,
    C, n]`, `audio_noise`, `surface` `[B, 3, T, h, w]`, and the `window` `[B, 4]` that
    `cut_latents` has left.
    """
    video, audio, times = rows["video"], rows.get("audio"), rows["times"]
    B, _, T, H, W = video.shape
    t = times[:, -1:]
    t_video = t.view(B, 1, 1, 1, 1)
    if times.shape[1] > 1:
        t_video = times[:, : T * H * W].view(B, 1, T, H, W)
    noisy = torch.lerp(video, rows["video_noise"], t_video.expand_as(video))
    sound = None
    if audio is not None:
        sound = torch.lerp(audio, rows["audio_noise"], t.unsqueeze(2).expand_as(audio))
    with lower_precision(video):
        text = (rows["features"], rows["pooled"])
        found = pupil(noisy, sound, times, text, fps, rows.get("window"), lay_out(rows, fps))
        clean, clean_audio, surface = found
    weight = torch.where(t_video > 0, 1 / t_video.clamp(min=0.2), 0.0)
    shown = rows.get("surface")
    if shown is not None:
        weight = weight * (1 + SUBJECT_SHARE * shown[:, 2:])
    off = (clean.float() - video) * weight.sqrt()
    loss = off.square().mean()
    if T > 1:
        loss = loss + CHANGE_WEIGHT * off.diff(dim=2).square().mean()
    if shown is not None:
        loss = loss + SURFACE_WEIGHT * (surface.float() - shown).square().mean()
    if audio is not None and clean_audio is not None:
        audio_weight = 1 / t.clamp(min=0.2).unsqueeze(2)
        unlike = (clean_audio.float() - audio).square()
        loss = loss + AUDIO_WEIGHT * (unlike * audio_weight).mean()
    total: Tensor = loss
    return total


def lay_out(rows: Rows, fps: float) -> Layout | None:
    """Return what the backbone reads of the rows' layout, nothing in rows that are not `laid`.

    Rows: `tracks` `[B, T, TRACKS]` and `laid` `[B]`, where there are any, `sketches` `[B, kinds, 4,
    size, size]`, where there are any, and those of `backbone_loss`.
    """
    if "tracks" not in rows:
        return None
    video, tracks, window = rows["video"], rows["tracks"], rows.get("window")
    laid = rows["laid"].float().view(-1, 1, 1, 1, 1)
    grid = video.shape[3], video.shape[4]
    if window is not None:
        grid = int(window[0, 2]), int(window[0, 3])

    def cut(cells: Tensor) -> Tensor:
        if window is None:
            return cells * laid
        corners = zip(cells, window[:, :2].tolist(), strict=True)
        parts = [row[:, y : y + video.shape[3], x : x + video.shape[4]] for row, (y, x) in corners]
        return torch.stack(parts) * laid

    count = rows["audio"].shape[2] if "audio" in rows else 0
    heard = lay_sounds(tracks, count, fps) * laid[:, 0, 0]
    animatic = None
    if "sketches" in rows:
        animatic = cut(lay_sketches(tracks, rows["sketches"], grid))
    return Layout(cut(lay_cells(tracks, grid)), heard, animatic)


def layout_loss(planner: LayoutPlanner, rows: Rows) -> Tensor:
    """Return the rectified-flow loss of the clean waves that the planner predicts.

    What moves figures farther counts more: where they stand, and how tall, before how they tremble.
    Rows: `tracks` `[B, T, TRACKS]`, `noise` like them, `times` `[B, 1]` and `features` `[B, R, D]`.
    """
    t, waves = rows["times"], planner.to_waves(rows["tracks"])
    noisy = torch.lerp(waves, rows["noise"], t.unsqueeze(2).expand_as(waves))
    weight = planner.scale.view(-1, TRACKS) / planner.scale.mean()
    error = (planner(noisy, t, rows["features"]) - waves).square() * weight.clamp(*WEIGHTS)
    error = error.mean(dim=(1, 2))
    loss: Tensor = (error / t[:, 0].clamp(min=0.1)).mean()
    return loss


def sketch_loss(sketcher: Sketcher, rows: Rows) -> Tensor:
    """Return the squared error of the sketches that are drawn of prompts.

    Rows: `features` `[B, R, D]` and the `artwork` `[B, kinds, 4, size, size]`.
    """
    loss: Tensor = (sketcher(rows["features"]) - rows["artwork"]).square().mean()
    return loss


def start_from_components(vae: VideoVAE, video: Tensor) -> None:
    """Let the shortcuts begin as the principal components of 16×16×4 patches of `[B, 3, T, H, W]`.

    They are set on the processor, before training begins.
    """
    patches = fold_patches(video, SPACE_FACTOR)
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


def start_from_animatics(backbone: Backbone, animatic: Tensor) -> None:
    """Let it begin to read the principal components of `[B, T, h, w, ANIMATIC_FEATURES]`.

    They are set on the processor, before training begins; faint ones are raised towards the others.
    """
    rows = animatic.flatten(0, 3)
    rows = rows[rows.any(dim=1)]
    torch.manual_seed(0)
    _, spread, axes = torch.pca_lowrank(rows, backbone.config.animatic, center=False)
    spread = spread / len(rows) ** 0.5
    with torch.no_grad():
        backbone.animatic.weight.copy_((axes / (spread + FAINT * spread[0])).T)


def start_from_least_squares(upscaler: Upscaler, video: Tensor) -> None:
    """Let the linear filters begin as the best ones for half of the frames `[B, 3, T, H, W]`.

    They are set on the processor, before training begins.
    """
    frames = video.transpose(1, 2).flatten(0, 2).unsqueeze(1)
    half = F.avg_pool2d(frames, FACTOR)
    seen = F.unfold(F.pad(half, [TAPS // 2] * 4, mode="replicate"), TAPS).transpose(0, 1).flatten(1)
    wanted = F.pixel_unshuffle(frames, FACTOR).transpose(0, 1).flatten(1)
    found = torch.linalg.lstsq((seen @ seen.T).double(), (seen @ wanted.T).double()).solution
    with torch.no_grad():
        upscaler.short.weight.copy_(found.T.view_as(upscaler.short.weight))


def fit_latent_scale(vae: VideoVAE, batches: list[Tensor]) -> None:
    """Measure the mean and deviation of every latent channel and keep them in the network.

    Channels that move the picture more keep a larger deviation, by the root of their gain, so
    that noise hides them last and the backbone settles what is large before what is fine.
    """
    with torch.no_grad(), lower_precision(vae.mean):
        means = [vae.encoder(video)[0].float() for video in batches]
    latents = torch.cat([mean.transpose(0, 1).flatten(1) for mean in means], dim=1)
    spread = latents.std(dim=1).clamp(min=1e-4)
    gain = vae.decoder.short.weight.flatten(1).norm(dim=0) * spread
    share = (gain / gain.mean()).sqrt()
    share = share / share.square().mean().sqrt()
    vae.mean.copy_(latents.mean(dim=1))
    vae.deviation.copy_(spread / share)


def fit_track_scale(planner: LayoutPlanner, tracks: Tensor) -> None:
    """Measure how large the waves of tracks `[B, T, TRACKS]` are, where there are figures."""
    planner.scale.fill_(1)
    waves = planner.to_waves(tracks)
    there = waves[:, :1, : -VIEW : len(FIGURE)] > 0
    there = there.repeat_interleave(len(FIGURE), dim=2)
    there = torch.cat([there, torch.ones_like(waves[:, :1, -VIEW:]) > 0], dim=2)
    size = (waves.square() * there).sum(dim=0) / there.sum(dim=0).clamp(min=1)
    planner.scale.copy_(size.sqrt().clamp(min=LEAST_WAVE).flatten())


def fit_audio_scale(vae: AudioVAE, audio: Tensor) -> None:
    """Measure the mean and deviation of every channel of the latents of sounds `[B, S]`."""
    with torch.no_grad():
        latents = vae.encoded(vae.spectrogram(audio))[0].transpose(0, 1).flatten(1)
    vae.mean.copy_(latents.mean(dim=1))
    vae.deviation.copy_(latents.std(dim=1).clamp(min=1e-4))


def peak_ratio(seen: Tensor, video: Tensor, weight: Tensor) -> float:
    """Return the peak signal-to-noise ratio in decibels of frames in -1…1 under a weight."""
    error = ((seen - video).square() * weight).sum() / (weight.sum() * seen.shape[1])
    return float(-10 * torch.log10(error / 4))
