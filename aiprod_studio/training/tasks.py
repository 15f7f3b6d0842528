"""The tasks: what each network is shown in a phase, and how its progress is seen."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aiprod_studio.engines.engine import Sound
from aiprod_studio.models.audio_vae import SAMPLE_RATE, AudioVAE, latent_count
from aiprod_studio.models.backbone import Backbone
from aiprod_studio.models.layout import LayoutPlanner
from aiprod_studio.models.sketches import Sketcher
from aiprod_studio.models.text_encoder import TextEncoder, tokenise
from aiprod_studio.models.tokens import MARK, PADDING
from aiprod_studio.models.upscaler import FACTOR
from aiprod_studio.models.video_vae import SPACE_FACTOR, TIME_FACTOR, VideoVAE
from aiprod_studio.training.captions import write_caption
from aiprod_studio.training.clips import Piece
from aiprod_studio.training.concepts import FIGURES, write_registers
from aiprod_studio.training.data import (
    Rows,
    count,
    cut_latents,
    cut_windows,
    draw_lesson,
    labels_of,
    take,
)
from aiprod_studio.training.lexicon import PHRASE_KINDS
from aiprod_studio.training.loop import Task
from aiprod_studio.training.losses import (
    SAID,
    Pupil,
    audio_vae_loss,
    backbone_loss,
    decoder_loss,
    finish,
    finisher_loss,
    lay_out,
    layout_loss,
    lower_precision,
    sketch_loss,
    text_loss,
    upscaler_loss,
    video_vae_loss,
)
from aiprod_studio.training.samples import (
    Sample,
    draw_spectrogram,
    dream,
    save_samples,
    side_by_side,
    to_frames,
)
from aiprod_studio.training.scenes import EVERYTHING, draw_labels
from aiprod_studio.training.source import HELD_OUT_ROWS, Ground, Source
from aiprod_studio.training.stage import set_stage, track
from aiprod_studio.training.teachers import ClipTeachers, Teachers, add_noise
from aiprod_studio.training.world import ABSENT, load_sprites

SHOWN = 4
NAMED = 0.4
"""The share of captions that are a subject's name alone: there are tens of thousands to learn."""

ALONE = 0.5
"""The share of captions and layouts that have one subject, whatever the lesson: most prompts do."""

SHORT, UNTOLD = 0.5, 0.8
"""The share of the others that say little, and how often these leave out each kind of phrase.

Else a relation, a size or a count would hardly ever stand without place, hour and weather.
"""

UNMARKED = 0.3
"""The share of captions whose names are not marked, as misspelt ones are not."""
_SOUND_PIXELS = 32  # the scenes of which only the sound is kept are drawn this small


def text_task(ground: Ground, encoder: TextEncoder) -> Task:
    """Return the task of naming what captions say; a batch goes from the shortest to the longest.

    So what is computed at once has few gaps.
    """

    drawn = dataclasses.replace(EVERYTHING, subjects=ground.phase.lesson.subjects)

    def draw(dice: torch.Generator, batch: int) -> Rows:
        lesson = draw_lesson(ground.lessons, dice)
        # What can be drawn is asked for most, so it takes half of the captions.
        halves = [
            draw_labels(size, dice, one)
            for size, one in ((batch // 2, drawn), (batch - batch // 2, lesson))
        ]
        labels = {kind: torch.cat([half[kind] for half in halves]) for kind in halves[0]}
        labels = _often_alone(labels, dice)
        named, short = torch.rand(2, batch, generator=dice) < torch.tensor([[NAMED], [SHORT]])
        for kind in labels.keys() - {"subjects"}:
            labels[kind] = torch.where(named, ABSENT, labels[kind])
        for kind in PHRASE_KINDS:
            untold = short & (torch.rand(batch, generator=dice) < UNTOLD)
            labels[kind] = torch.where(untold, ABSENT, labels[kind])
        chance = random.Random(int(torch.randint(2**31, (1,), generator=dice)))
        captions, said = write_captions(labels, chance)
        for row in range(0, batch, 32):  # the empty prompt says nothing
            captions[row] = ""
            for values in said.values():
                values[row] = ABSENT
        config = encoder.config
        wanted = write_registers(said, config.registers, config.out_width)
        spoken = {f"{SAID}{kind}": values for kind, values in said.items()}
        rows = {"tokens": tokenise(captions, config), "wanted": wanted, **spoken}
        unmarked = torch.rand(batch, 1, generator=dice) < UNMARKED
        rows["tokens"] = torch.where(unmarked, rows["tokens"] % MARK, rows["tokens"])
        order = (rows["tokens"] != PADDING).sum(dim=1).argsort()
        return {name: values[order] for name, values in rows.items()}

    return Task(
        encoder,
        lambda step: draw(ground.dice("step", step), ground.exercise.batch),
        text_loss,
        lambda: [draw(ground.dice("held out"), 8 * HELD_OUT_ROWS)],
    )


def _often_alone(labels: dict[str, Tensor], dice: torch.Generator) -> dict[str, Tensor]:
    """Return labels `[B]` by kind of which an `ALONE` share of the scenes lose their company."""
    alone = torch.rand(len(labels["subjects"]), generator=dice) < ALONE
    instead = {"relations": 0, "others": ABSENT, "thirds": ABSENT}
    return labels | {kind: torch.where(alone, v, labels[kind]) for kind, v in instead.items()}


def write_captions(
    labels: dict[str, Tensor], chance: random.Random
) -> tuple[list[str], dict[str, Tensor]]:
    """Return a caption of every scene, and what it names as class numbers `[B]` by kind."""
    rows = range(len(labels["subjects"]))
    lines = [write_caption({kind: int(v[i]) for kind, v in labels.items()}, chance) for i in rows]
    said = {kind: torch.tensor([line[1][kind] for line in lines]) for kind in labels}
    return [line[0] for line in lines], said


def layout_task(ground: Ground, planner: LayoutPlanner, teachers: Teachers) -> Task:
    """Return the task of finding the tracks of captioned scenes, which need not be painted."""
    config = planner.config
    size = dataclasses.replace(ground.size, frames=config.frames, fps=config.fps)

    def draw(dice: torch.Generator, batch: int) -> Rows:
        labels = _often_alone(draw_labels(batch, dice, draw_lesson(ground.lessons, dice)), dice)
        tracks = track(set_stage(labels, size, dice), labels, size)
        return {
            "tracks": tracks,
            "noise": torch.randn(tracks.shape, generator=dice),
            "times": torch.sigmoid(torch.randn(batch, 1, generator=dice) + 0.3),
            "features": teachers.tell(labels, dice).features,
        }

    return Task(
        planner,
        lambda step: draw(ground.dice("step", step), ground.exercise.batch),
        layout_loss,
        lambda: [draw(ground.dice("held out"), 8 * HELD_OUT_ROWS)],
    )


def sketch_task(ground: Ground, sketcher: Sketcher, teachers: Teachers) -> Task:
    """Return the task of drawing small what prompts name, and nothing of whom they do not."""
    sprites = load_sprites(sketcher.config.size)

    def draw(dice: torch.Generator, batch: int) -> Rows:
        labels = draw_labels(batch, dice, draw_lesson(ground.lessons, dice))
        artwork = [
            sprites[labels["styles"], labels[kind]]
            * (labels[kind] != ABSENT).float().view(-1, 1, 1, 1)
            for kind in FIGURES
        ]
        features = teachers.tell(labels, dice).features
        return {"features": features, "artwork": torch.stack(artwork, dim=1)}

    return Task(
        sketcher,
        lambda step: draw(ground.dice("step", step), ground.exercise.batch),
        sketch_loss,
        lambda: [draw(ground.dice("held out"), 8 * HELD_OUT_ROWS)],
    )


def audio_task(ground: Ground, vae: AudioVAE) -> Task:
    """Return the task of rebuilding sounds."""
    channels = vae.config.latent_channels

    def load(piece: Piece) -> Rows:
        return {"audio": ground.real.pixels(piece)["audio"]}

    def add(rows: Rows, dice: torch.Generator) -> Rows:
        latents = latent_count(rows["audio"].shape[1] / SAMPLE_RATE)
        return {**rows, "noise": torch.randn(count(rows), channels, latents, generator=dice)}

    def show(average: AudioVAE, rows: Rows) -> list[Sample]:
        spectrogram = average.spectrogram(rows["audio"].to(average.mean.device))
        again = average.decoded(average.encoded(spectrogram)[0])
        return [
            Sample("a sound's spectrogram, and rebuilt", draw_spectrogram(a, b), 1.0)
            for a, b in zip(spectrogram, again, strict=True)
        ]

    size = dataclasses.replace(ground.size, height=_SOUND_PIXELS, width=_SOUND_PIXELS)
    source = Source(ground, lambda rows: {"audio": rows["audio"]}, load, size)
    return _task(vae, source, add, audio_vae_loss, show)


def video_task(ground: Ground, vae: VideoVAE) -> Task:
    """Return the task of rebuilding frames, in windows around the subjects where they are known."""
    channels, window = vae.config.latent_channels, ground.exercise.window

    def load(piece: Piece) -> Rows:
        return {"video": ground.real.pixels(piece)["video"]}

    def add(rows: Rows, dice: torch.Generator) -> Rows:
        rows = cut_windows(rows, window, dice) if window else rows
        B, _, T, H, W = rows["video"].shape
        shape = (B, channels, (T - 1) // TIME_FACTOR + 1, H // SPACE_FACTOR, W // SPACE_FACTOR)
        return {**rows, "noise": torch.randn(shape, generator=dice)}

    def show(average: VideoVAE, rows: Rows) -> list[Sample]:
        video = rows["video"].to(average.mean.device)
        with lower_precision(video):
            again = average.decoder(average.encoder(video)[0])
        pairs = zip(video, again, strict=True)
        fps = ground.size.fps
        return [Sample("a clip, and rebuilt", side_by_side(a, b), fps) for a, b in pairs]

    def keep(rows: Rows) -> Rows:
        return {"video": rows["video"], "subject": rows["subject"]}

    return _task(vae, Source(ground, keep, load), add, video_vae_loss, show)


def backbone_task(ground: Ground, pupil: Pupil, teachers: Teachers) -> Task:
    """Return the task of finding the clean latents of captioned pictures and clips with sound."""
    fps, device, window = ground.size.fps, teachers.device, ground.exercise.window
    real = ClipTeachers(teachers, ground.clips) if ground.clips else None

    def narrow(rows: Rows, dice: torch.Generator) -> Rows:
        # Whole clips show how a frame is laid out; windows, what a subject looks like.
        side, windowed = window // SPACE_FACTOR, ground.exercise.windowed
        if "audio" not in rows or torch.rand(1, generator=dice).item() < windowed:
            return cut_latents(rows, side, dice)
        cells = rows["video"][0, 0, 0].numel()
        return take(rows, 0, max(1, count(rows) * side**2 // cells)) if windowed else rows

    def tell(rows: Rows, dice: torch.Generator) -> Rows:
        if window and "surface" in rows:
            rows = narrow(rows, dice)
        text = real.tell(rows, dice) if real else teachers.tell(labels_of(rows), dice)
        return teachers.sketched(add_noise(rows, text, pupil.backbone.config.carried, dice))

    def show(average: Pupil, rows: Rows) -> list[Sample]:
        captions, text, nothing = real.prompts(rows) if real else teachers.prompts(rows)
        used = ("video", "audio", "tracks")
        here = {name: values.to(device) for name, values in rows.items() if name in used}
        here["laid"] = torch.ones(count(rows), dtype=torch.bool, device=device)
        here = teachers.sketched(here | {"features": text.features})
        like = (here["video"], here.get("audio"))
        with lower_precision(like[0]):
            video, sound = dream(average.backbone, text, nothing, like, fps, lay_out(here, fps))
            frames = teachers.video_vae.decode(video.float())
        heard: list[Sound | None] = [None] * len(captions)
        if sound is not None:
            samples = round(frames.shape[2] / fps * SAMPLE_RATE)
            heard = list(teachers.audio_vae.decode(sound.float(), samples)[:, None].cpu().numpy())
        return [
            Sample(caption, to_frames(clip), fps, audio)
            for caption, clip, audio in zip(captions, frames, heard, strict=True)
        ]

    def loss(network: Pupil, rows: Rows) -> Tensor:
        return backbone_loss(network, rows, fps)

    source = Source(ground, teachers.encode_scenes, real.encode_piece if real else None)
    return _task(pupil, source, tell, loss, show)


def decoder_task(
    ground: Ground, decoder: nn.Module, teachers: Teachers, backbone: Backbone
) -> Task:
    """Return the task of making right frames of latents as the backbone finds them."""
    vae = teachers.video_vae
    source, tell = _finding(ground, teachers, backbone)

    def loss(network: nn.Module, rows: Rows) -> Tensor:
        return decoder_loss(network, vae, backbone, rows)

    def show(average: nn.Module, rows: Rows) -> list[Sample]:
        with lower_precision(vae.mean):
            again = average(vae.to_plain(rows["video"].to(vae.mean.device)))
        return _beside(rows["pixels"], again, "a clip, and decoded", ground.size.fps)

    return _task(decoder, source, tell, loss, show)


def finisher_task(
    ground: Ground, finisher: nn.Module, teachers: Teachers, backbone: Backbone
) -> Task:
    """Return the task of painting figures sharp in decoded frames, by the scenes' animatics."""
    vae = teachers.video_vae
    source, tell = _finding(ground, teachers, backbone)

    def loss(network: nn.Module, rows: Rows) -> Tensor:
        return finisher_loss(network, vae, backbone, rows)

    def show(average: nn.Module, rows: Rows) -> list[Sample]:
        told = {"features": teachers.prompts(rows)[1].features}
        here = {name: values.to(vae.mean.device) for name, values in rows.items()}
        here = teachers.sketched(here | told)
        with lower_precision(vae.mean):
            seen = finish(average, vae, vae.to_plain(here["video"]), here)
        return _beside(rows["pixels"], seen, "a clip, and finished", ground.size.fps)

    return _task(finisher, source, tell, loss, show)


def _finding(
    ground: Ground, teachers: Teachers, backbone: Backbone
) -> tuple[Source, Callable[[Rows, torch.Generator], Rows]]:
    """Return rows with frames and their latents, and what makes of them those of `decoder_loss`."""
    fps = ground.size.fps
    real = ClipTeachers(teachers, ground.clips) if ground.clips else None

    def keep(rows: Rows) -> Rows:
        written = teachers.encode_scenes(rows)
        return {"pixels": rows["video"], "subject": rows["subject"], **written}

    def load(piece: Piece) -> Rows:
        assert real is not None
        return {"pixels": ground.real.pixels(piece)["video"], **real.encode_piece(piece)}

    def tell(rows: Rows, dice: torch.Generator) -> Rows:
        text = real.tell(rows, dice) if real else teachers.tell(labels_of(rows), dice)
        batch = count(rows)
        found = {
            "times": 0.02 + 0.6 * torch.rand(batch, 1, generator=dice),
            "found": torch.rand(batch, generator=dice) < 0.6,
            "fps": torch.full((batch,), fps),
        }
        kept: Rows = {name: rows[name] for name in rows if name in ("pixels", "subject")}
        noisy = teachers.sketched(add_noise(rows, text, backbone.config.carried, dice))
        return {**noisy, **kept, **found}

    return Source(ground, keep, load), tell


def _beside(clips: Tensor, again: Tensor, title: str, fps: float) -> list[Sample]:
    """Return samples of clips `[B, 3, T, H, W]` beside what was made of them."""
    pairs = zip(clips, again.float().cpu(), strict=True)
    return [Sample(title, side_by_side(a, b), fps) for a, b in pairs]


def upscaler_task(ground: Ground, upscaler: nn.Module) -> Task:
    """Return the task of doubling the sides of frames, in windows around the subjects."""
    window = ground.exercise.window

    def keep(rows: Rows) -> Rows:
        return {"video": rows["video"], "subject": rows["subject"]}

    def load(piece: Piece) -> Rows:
        return {"video": ground.real.pixels(piece)["video"]}

    def add(rows: Rows, dice: torch.Generator) -> Rows:
        return cut_windows(rows, window, dice) if window else rows

    def show(average: nn.Module, rows: Rows) -> list[Sample]:
        video = rows["video"].to(next(average.parameters()).device)
        half = F.avg_pool2d(video[:, :, 0], FACTOR)
        smooth = F.interpolate(half, scale_factor=FACTOR, mode="bicubic")
        pairs = zip(smooth[:, :, None], average(half)[:, :, None], strict=True)
        return [Sample("interpolated, and upscaled", side_by_side(a, b), 1.0) for a, b in pairs]

    # Real clips come at the phase's size, scenes can be drawn at that of the result.
    size = ground.size
    if ground.clips is None:
        size = dataclasses.replace(size, height=FACTOR * size.height, width=FACTOR * size.width)
    return _task(upscaler, Source(ground, keep, load, size), add, upscaler_loss, show)


def _task(
    network: nn.Module,
    source: Source,
    add_noise: Callable[[Rows, torch.Generator], Rows],
    loss: Callable[[Any, Rows], Tensor],
    show: Callable[[Any, Rows], list[Sample]],
) -> Task:
    """Return a task whose rows come from a source and get what else a step draws."""

    @cache
    def unseen() -> list[tuple[Rows, Rows]]:
        return [(rows, add_noise(rows, dice)) for rows, dice in source.held_out()]

    def show_unseen(average: Any, stem: str) -> list[dict[str, str]]:
        rows = unseen()[-1][0] if unseen() else source.draw(0)[0]
        with torch.no_grad():
            samples = show(average, take(rows, 0, SHOWN))
        return save_samples(source.ground.samples, stem, samples)

    def held_out() -> list[Rows]:
        return [noisy for _, noisy in unseen()]

    return Task(network, lambda step: add_noise(*source.draw(step)), loss, held_out, show_unseen)
