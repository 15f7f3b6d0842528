"""The judge: a small network that names what a clip shows and times what hits the ground.

It learns from scenes alone and apart from the generator, which never learns from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aiprod_studio.errors import ModelUnavailable

SIDE = 64  # pixels a side of the frames that the judge sees
PER_FRAME = 4  # scores of an impact per frame
BANDS = 64
_WINDOW = 1024
_PITCHES = 32  # the lowest frequencies have a band each
_LOOKS = 5  # frames of a clip by which what lies in it is named
STILL = ("subjects", "places", "times", "styles")
MOVING = ("motions", "cameras")


Concepts = tuple[tuple[str, tuple[str, ...]], ...]
"""What can be named: pairs of a kind and its concepts' ids, in the order of their scores."""


@dataclass(frozen=True)
class JudgeConfig:
    """What the judge can name, and its widths."""

    concepts: Concepts
    width: int = 128
    features: int = 64


@dataclass(frozen=True)
class Judgement:
    """What the judge says of clips: `scores` `[B, concepts]` by kind, all before the softmax.

    `seen` and `heard` `[B, PER_FRAME·T]` score, before the sigmoid, an impact in picture and in
    sound at even times from the first frame on; `features` `[B, 3·F]` are what the names come from.
    """

    scores: dict[str, Tensor]
    seen: Tensor
    heard: Tensor
    features: Tensor


class _Block(nn.Module):
    """A residual 3×3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + F.silu(self.norm(self.conv(x)))
        return out


class _Beat(nn.Module):
    """A residual convolution along time."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + F.silu(self.norm(self.conv(x)))
        return out


class _Names(nn.Module):
    """Features to a score per concept, by kind; it knows which concepts its weights are for."""

    def __init__(self, config: JudgeConfig, kinds: tuple[str, ...]) -> None:
        super().__init__()
        self.concepts = {kind: ids for kind, ids in config.concepts if kind in kinds}
        self.heads = nn.ModuleDict(
            {kind: nn.Linear(config.features, len(ids)) for kind, ids in self.concepts.items()}
        )

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Map `[…, F]` to scores `[…, concepts]` by kind."""
        return {kind: head(F.silu(features)).float() for kind, head in self.heads.items()}

    def get_extra_state(self) -> Any:
        """Return the concepts as lists, which belong to the weights."""
        return [[kind, list(ids)] for kind, ids in self.concepts.items()]

    def set_extra_state(self, state: Any) -> None:
        """Refuse the weights of a judge that names other things."""
        if state != self.get_extra_state():
            raise ModelUnavailable(
                "This judge names other concepts than the curriculum shows. Delete its folder "
                "and train it again."
            )


class Eye(nn.Module):
    """Single frames to what lies in them: subjects, place, hour, style."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        width = config.width
        self.frames = nn.Sequential(
            *(nn.Conv2d(3, 48, 4, stride=4), nn.BatchNorm2d(48), nn.SiLU()),
            *(nn.Conv2d(48, 64, 3, padding=1), nn.BatchNorm2d(64), nn.SiLU()),
            *(nn.Conv2d(64, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.SiLU()),
            *(_Block(width), _Block(width)),
        )
        self.spots = nn.Linear(width, config.features)
        self.subjects = _Names(config, ("subjects",))
        self.whole = nn.Linear(2 * width, config.features)
        self.names = _Names(config, STILL[1:])

    def forward(self, frames: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Map `[B, K, 3, SIDE, SIDE]` to scores and features `[B, 2·F]`, means over the frames.

        A subject is looked for everywhere, so that one does not hide another.
        """
        cells = self.frames(frames.flatten(0, 1)).flatten(2)
        spots = self.spots(cells.transpose(1, 2))
        whole = self.whole(torch.cat([cells.mean(dim=2), cells.amax(dim=2)], dim=1))
        each = {kind: scores.logsumexp(dim=1) for kind, scores in self.subjects(spots).items()}
        each |= self.names(whole)
        features = torch.cat([spots.amax(dim=1), whole], dim=1).float()
        over = frames.shape[:2]
        means = {kind: scores.view(*over, -1).mean(dim=1) for kind, scores in each.items()}
        return means, features.view(*over, -1).mean(dim=1)


class Watch(nn.Module):
    """All frames and the sound to how things move and when they hit the ground.

    Picture and sound share nothing here, so that neither knows what the other one tells.
    """

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        width = config.width
        self.frames = nn.Sequential(
            *(nn.Conv2d(5, 64, 8, stride=8), nn.BatchNorm2d(64), nn.SiLU()),
            *(nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.SiLU()),
        )
        self.gather = nn.Linear(64 * (SIDE // 16) ** 2, width)
        self.beats = nn.Sequential(*[_Beat(width, dilation) for dilation in (1, 2, 4)])
        self.out = nn.Linear(2 * width, config.features)
        self.names = _Names(config, MOVING)
        self.see = nn.Linear(width, PER_FRAME)
        self.hear = nn.Sequential(
            *(nn.Conv1d(BANDS, width, 5, padding=2), nn.BatchNorm1d(width), nn.SiLU()),
            *(_Beat(width, 2), _Beat(width), nn.Conv1d(width, 1, 1)),
        )

    def forward(
        self, frames: Tensor, sound: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
        """Map `[B, T, 3, SIDE, SIDE]` and `[B, BANDS, n]` to what a `Judgement` holds.

        These are the scores, the features `[B, F]`, and the impacts seen and heard `[B, n]`.
        """
        grey = frames.mean(dim=2, keepdim=True)
        past = torch.cat([grey[:, :1], grey[:, :1], grey], dim=1)
        changes = [grey - past[:, 1:-1], grey - past[:, :-2]]
        cells = self.frames(torch.cat([frames, *changes], dim=2).flatten(0, 1))
        moments = self.gather(cells.flatten(1)).view(*frames.shape[:2], -1)
        moments = self.beats(moments.transpose(1, 2))
        features = self.out(torch.cat([moments.mean(dim=2), moments.amax(dim=2)], dim=1))
        seen = self.see(moments.transpose(1, 2)).flatten(1)
        return self.names(features), features, seen.float(), self.hear(sound)[:, 0].float()


class Judge(nn.Module):
    """The eye and the watch, each trained by itself."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.eye, self.watch = Eye(config), Watch(config)

    def forward(self, frames: Tensor, sound: Tensor) -> Judgement:
        """Judge frames `[B, T, 3, SIDE, SIDE]` in -1…1 and a spectrogram `[B, BANDS, n]`."""
        looks = torch.linspace(0, frames.shape[1] - 1, _LOOKS).round().long()
        things, look = self.eye(frames[:, looks])
        moves, motion, seen, heard = self.watch(frames, sound)
        return Judgement(things | moves, seen, heard, torch.cat([look, motion], dim=1).float())


def shrink(video: Tensor) -> Tensor:
    """Return frames uint8 `[B, T, 3, SIDE, SIDE]` of clips `[B, 3, T, H, W]` in -1…1."""
    B, _, T, H, W = video.shape
    frames = video.transpose(1, 2).reshape(B * T, 3, H, W)
    small = F.interpolate(frames, (SIDE, SIDE), mode="area").view(B, T, 3, SIDE, SIDE)
    return ((small + 1) * 127.5).round().clamp(0, 255).byte()


def widen(frames: Tensor) -> Tensor:
    """Return uint8 frames as the judge sees them, in -1…1."""
    return frames.float() / 127.5 - 1


def listen(audio: Tensor, moments: int) -> Tensor:
    """Return the log-spectrogram `[B, BANDS, moments]` of sounds `[B, S]` at even times."""
    hop = audio.shape[1] // moments
    window = torch.hann_window(_WINDOW, device=audio.device)
    heard = torch.stft(audio, _WINDOW, hop, window=window, return_complex=True).abs()
    loud = heard[:, 1:, :moments].square()
    low, high = loud[:, :_PITCHES], loud[:, _PITCHES:]
    bands = torch.cat([low, F.adaptive_avg_pool2d(high, (BANDS - _PITCHES, moments))], dim=1)
    return (bands + 1e-3).log() / 4


def peaks(scores: Tensor, least: float = 0.3) -> list[list[float]]:
    """Return per clip at which places of `[B, n]`, between whole numbers too, impacts peak.

    A peak is the greatest of its neighbours and of those beyond them, and at least `least` likely.
    """
    likely = scores.sigmoid()
    highest = F.max_pool1d(likely[:, None], 5, 1, 2)[:, 0]
    padded = F.pad(likely, (1, 1)).clamp(min=1e-4).log()
    found: list[list[float]] = []
    for row, tops in enumerate((likely == highest) & (likely >= least)):
        places = []
        for at in tops.nonzero()[:, 0].tolist():
            before, here, after = padded[row, at : at + 3].tolist()
            bend = 2 * here - before - after  # of the parabola through the three
            places.append(at + (0.5 * (after - before) / bend if bend > 0 else 0.0))
        found.append(places)
    return found
