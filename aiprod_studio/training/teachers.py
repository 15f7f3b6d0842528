"""The teachers: finished networks, and what they write of scenes and clips for the backbone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aiprod_studio.engines.engine import Text
from aiprod_studio.models.audio_vae import AudioVAE
from aiprod_studio.models.sketches import Sketcher
from aiprod_studio.models.text_encoder import TextEncoder, tokenise
from aiprod_studio.models.video_vae import TIME_FACTOR, VideoVAE
from aiprod_studio.sampling.noise import carry_noise
from aiprod_studio.training.clips import ClipFolder, Piece, digest
from aiprod_studio.training.concepts import concepts_of, draw_said, hear, write_registers
from aiprod_studio.training.data import LABEL, Rows, count, labels_of
from aiprod_studio.training.losses import lower_precision
from aiprod_studio.training.scenes import CELL
from aiprod_studio.training.world import ABSENT

SILENT = 0.1
"""The share of prompts that are left out, for guidance."""

GIVEN = 1 / 4
"""The share of steps whose clips are given their first latent frame."""

NOISY = 1.0
"""The middle of the times' logits: more draws are noisy than not, as the scene is decided there.

What changes within a latent's frames is decided late, at times of 0.6 to 0.3.
"""

GUESSED, GUESSED_GIVEN = 0.15, 0.6
"""The share of rows whose layout the backbone is not told, and that where a picture is given."""

UNSTEADY = 0.06
"""The most that tracks are shaken by, as those of a planner may be."""

UNEVEN = 1 / 4
"""The share of steps whose clips have a time of its own for each latent frame.

So clear frames tell what is in noisy ones beside them (Chen et al., Diffusion Forcing, 2024).
"""


@dataclass(frozen=True)
class Teachers:
    """The finished networks on the training device: what they write is what the backbone learns."""

    video_vae: VideoVAE
    audio_vae: AudioVAE
    text_encoder: TextEncoder
    sketcher: Sketcher | None = None

    @property
    def device(self) -> torch.device:
        """The device of all of them."""
        return self.video_vae.mean.device

    def encode(self, video: Tensor, audio: Tensor) -> Rows:
        """Return the latents of `[B, 3, T, H, W]` and, of clips, of sounds `[B, S]`."""
        with torch.no_grad(), lower_precision(self.video_vae.mean):
            rows = {"video": self.video_vae.encode(video.to(self.device)).float().cpu()}
        if video.shape[2] > 1:
            with torch.no_grad():
                rows["audio"] = self.audio_vae.encode(audio.to(self.device)).cpu()
        return rows

    def read(self, captions: list[str]) -> Text:
        """Return the features of captions, on the CPU."""
        tokens = tokenise(captions, self.text_encoder.config).to(self.device)
        with torch.no_grad():
            features, pooled = self.text_encoder(tokens)
        return Text(features.cpu(), pooled.cpu())

    def encode_scenes(self, rows: Rows) -> Rows:
        """Return latents of picture and, of clips, sound; the surface by latent; tracks and labels.

        The surface `[B, 3, T, h, w]` is the point of the artwork that each cell shows, and its
        coverage, of the frame amid each group.
        """
        groups = slice(0, None, TIME_FACTOR)
        cover = F.avg_pool2d(rows["subject"][:, groups], CELL).unsqueeze(1)
        points = rows["surface"][:, :, groups].clamp(-1.5, 1.5)
        labels = {f"{LABEL}{kind}": values for kind, values in labels_of(rows).items()}
        latents = self.encode(rows["video"], rows["audio"])
        surface = torch.cat([points, cover], dim=1)
        return {**latents, "surface": surface, "tracks": rows["tracks"], **labels}

    def tell(self, labels: dict[str, Tensor], dice: torch.Generator) -> Text:
        """Return registers as the text encoder might write them of scenes, and their mean."""
        config = self.text_encoder.config
        said = draw_said(labels, dice)
        batch = len(said["subjects"])
        silent = torch.rand(batch, generator=dice) < SILENT
        said = {kind: torch.where(silent, ABSENT, values) for kind, values in said.items()}
        features = write_registers(said, config.registers, config.out_width)
        unsure = torch.rand(batch, 1, 1, generator=dice) * 0.3
        features = features + unsure * torch.randn(features.shape, generator=dice)
        return Text(features, features.mean(dim=1))

    def sketched(self, rows: Rows) -> Rows:
        """Return rows with the `sketches` of what their `features` name, if they have tracks."""
        if self.sketcher is None or "tracks" not in rows:
            return rows
        features = rows["features"]
        with torch.no_grad():
            sketches = self.sketcher(features.to(self.device)).to(features.device)
        return {**rows, "sketches": sketches}

    def prompts(self, rows: Rows) -> tuple[list[str], Text, Text]:
        """Return what rows of scenes show, in words and as registers, and the empty prompt's."""
        config, labels = self.text_encoder.config, labels_of(rows)
        words = [
            [concepts_of(kind)[row].id for kind, row in one.items() if row != ABSENT]
            for one in _by_row(hear(labels))
        ]
        silence = {kind: torch.full_like(values, ABSENT) for kind, values in labels.items()}
        told, empty = (
            write_registers(said, config.registers, config.out_width).to(self.device)
            for said in (labels, silence)
        )
        texts = Text(told, told.mean(dim=1)), Text(empty, empty.mean(dim=1))
        return [" · ".join(ids) for ids in words], *texts


def _by_row(labels: dict[str, Tensor]) -> list[dict[str, int]]:
    """Return each row's class numbers by kind."""
    columns = zip(*(values.tolist() for values in labels.values()), strict=True)
    return [dict(zip(labels, numbers, strict=True)) for numbers in columns]


class ClipTeachers:
    """What the teachers write of a folder's pieces, kept on its shelf by their weights."""

    def __init__(self, teachers: Teachers, clips: ClipFolder) -> None:
        self.teachers, self.clips = teachers, clips
        self.by_text = f"text/{digest(teachers.text_encoder)}"
        self.by_media = f"media/{digest(teachers.video_vae)}/{digest(teachers.audio_vae)}"
        self.nothing = self._read("")

    def encode_piece(self, piece: Piece) -> Rows:
        """Return latents `video` `[C, T, h, w]` and `audio` `[C, n]` of a piece, and its text."""

        def make() -> Rows:
            pixels = self.clips.pixels(piece)
            rows = self.teachers.encode(pixels["video"][None], pixels["audio"][None])
            return {name: values[0] for name, values in rows.items()}

        media = self.clips.shelf.get(f"{self.by_media}/{piece.key}", make)
        return {**media, **self._read(piece.caption)}

    def tell(self, rows: Rows, dice: torch.Generator) -> Text:
        """Return the features of the rows' captions, some of them left out."""
        silent = torch.rand(count(rows), generator=dice) < SILENT
        features = torch.where(silent[:, None, None], self.nothing["features"], rows["features"])
        return Text(features, features.mean(dim=1))

    def prompts(self, rows: Rows) -> tuple[list[str], Text, Text]:
        """Return the captions of rows, their features, and the empty prompt's."""
        device = self.teachers.device
        told = rows["features"].to(device)
        empty = self.nothing["features"].to(device).expand_as(told)
        captions = [self.clips.pieces[int(number)].caption for number in rows["piece"]]
        return captions, Text(told, told.mean(dim=1)), Text(empty, empty.mean(dim=1))

    def _read(self, caption: str) -> Rows:
        def make() -> Rows:
            return {"features": self.teachers.read([caption]).features[0]}

        return self.clips.shelf.get(f"{self.by_text}/{caption}", make)


def add_noise(rows: Rows, text: Text, carried: float, dice: torch.Generator) -> Rows:
    """Return the rows of `backbone_loss`: latents and their text with times and noise.

    `carried` is how the backbone's noise goes on from frame to frame. Some steps give their clips'
    first latents, some have a time for each latent frame.
    """
    video = rows["video"]
    B, _, T, H, W = video.shape
    t = torch.sigmoid(torch.randn(B, 1, generator=dice) + NOISY)
    noise = carry_noise(torch.randn(video.shape, generator=dice), carried)
    noisy = {"video": video, "video_noise": noise}
    tokens = T * H * W
    if "audio" in rows:
        audio = rows["audio"]
        noisy |= {"audio": audio, "audio_noise": torch.randn(audio.shape, generator=dice)}
        tokens += audio.shape[2]
    chance = torch.rand(1, generator=dice).item() if T > 1 else 1.0
    if chance < GIVEN + UNEVEN:
        t = t.expand(B, tokens).clone()
        if chance < GIVEN:
            t[:, : H * W] = 0
        else:
            each = torch.sigmoid(torch.randn(B, T, generator=dice) + NOISY)
            t[:, : T * H * W] = each.repeat_interleave(H * W, dim=1)
    noisy |= {name: rows[name] for name in ("surface", "window") if name in rows}
    if "tracks" in rows:
        laid = torch.rand(B, generator=dice) >= (GUESSED_GIVEN if chance < GIVEN else GUESSED)
        shaky = torch.rand(B, 1, 1, generator=dice) * UNSTEADY
        unsteady = shaky * torch.randn(rows["tracks"].shape, generator=dice)
        noisy |= {"tracks": rows["tracks"] + unsteady, "laid": laid}
    return {**noisy, "times": t, "features": text.features, "pooled": text.pooled}
