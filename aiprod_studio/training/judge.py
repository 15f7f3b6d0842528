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
LOOKS = 5  # frames of a clip by which a judgement names what is seen


@dataclass(frozen=True)
class JudgeConfig:
    """What the judge can name, ids by kind in the order of its scores, and its widths."""

    concepts: tuple[tuple[str, tuple[str, ...]], ...]
    width: int = 128
    features: int = 64


@dataclass(frozen=True)
class Judgement:
    """What the judge says of clips: `scores` `[B, concepts]` by kind, all before the softmax.

    `seen` and `heard` `[B, PER_FRAME·T]` score, before the sigmoid, an impact in picture and in
    sound at even times from the first frame on; `features` `[B, 2·F]` are what the names come from.
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


class _Eye(nn.Module):
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
        self.out = nn.Linear(2 * width, config.features)

    def forward(self, frames: Tensor) -> Tensor:
        """Map `[B, K, 3, SIDE, SIDE]` to features `[B, F]`."""
        cells = self.frames(frames.flatten(0, 1)).flatten(2)
        found = torch.cat([cells.mean(dim=2), cells.amax(dim=2)], dim=1)
        features: Tensor = self.out(found.view(*frames.shape[:2], -1).mean(dim=1))
        return features


class _Watch(nn.Module):
    """All frames to how subject and camera move, and when something hits the ground."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        width = config.width
        # What is seen is grey now, a frame ago and two ago, and the colours.
        self.frames = nn.Sequential(
            *(nn.Conv2d(5, 32, 5, stride=4, padding=2), nn.BatchNorm2d(32), nn.SiLU()),
            *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.SiLU()),
            *(nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.SiLU()),
        )
        self.gather = nn.Linear(64 * (SIDE // 16) ** 2, width)
        self.beats = nn.Sequential(*[_Beat(width, dilation) for dilation in (1, 2, 4)])
        self.out = nn.Linear(2 * width, config.features)
        self.impact = nn.Linear(width, PER_FRAME)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map `[B, T, 3, SIDE, SIDE]` to features `[B, F]` and scores `[B, PER_FRAME·T]`."""
        grey = frames.mean(dim=2, keepdim=True)
        past = torch.cat([grey[:, :1], grey[:, :1], grey], dim=1)
        changes = [grey - past[:, 1:-1], grey - past[:, :-2]]
        cells = self.frames(torch.cat([frames, *changes], dim=2).flatten(0, 1))
        moments = self.gather(cells.flatten(1)).view(*frames.shape[:2], -1)
        moments = self.beats(moments.transpose(1, 2))
        found = torch.cat([moments.mean(dim=2), moments.amax(dim=2)], dim=1)
        return self.out(found), self.impact(moments.transpose(1, 2)).flatten(1)


class _Ear(nn.Module):
    """A spectrogram to when something hits the ground."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        width = config.width
        self.beats = nn.Sequential(
            *(nn.Conv1d(BANDS, width, 5, padding=2), nn.BatchNorm1d(width), nn.SiLU()),
            *(_Beat(width, 2), _Beat(width)),
        )
        self.impact = nn.Conv1d(width, 1, 1)

    def forward(self, sound: Tensor) -> Tensor:
        """Map `[B, BANDS, n]` to scores `[B, n]`."""
        scores: Tensor = self.impact(self.beats(sound))[:, 0]
        return scores


MOVING = ("motions", "cameras")
"""The kinds that single frames do not show."""


class Judge(nn.Module):
    """Eye, watch and ear, which share nothing, so that none knows what the others found."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.eye, self.watch, self.ear = _Eye(config), _Watch(config), _Ear(config)
        self.names = nn.ModuleDict(
            {kind: nn.Linear(config.features, len(ids)) for kind, ids in config.concepts}
        )

    def forward(self, frames: Tensor, sound: Tensor, looks: Tensor) -> Judgement:
        """Judge frames `[B, T, 3, SIDE, SIDE]` in -1…1 and a spectrogram `[B, BANDS, PER_FRAME·T]`.

        What single frames show is named by the frames `looks` `[B, K]`, numbers along T.
        """
        rows = torch.arange(len(frames), device=frames.device)[:, None]
        thing = self.eye(frames[rows, looks])
        move, seen = self.watch(frames)
        scores = {
            kind: head(F.silu(move if kind in MOVING else thing)).float()
            for kind, head in self.names.items()
        }
        heard = self.ear(sound)
        features = torch.cat([thing, move], dim=1).float()
        return Judgement(scores, seen.float(), heard.float(), features)

    def get_extra_state(self) -> Any:
        """Return what the judge can name, which belongs to its weights."""
        return [[kind, list(ids)] for kind, ids in self.config.concepts]

    def set_extra_state(self, state: Any) -> None:
        """Refuse the weights of a judge that names other things."""
        if state != self.get_extra_state():
            raise ModelUnavailable(
                "The judge's weights name other concepts than its curriculum. Delete them and "
                "train it again."
            )


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


def spaced(frames: int, batch: int, count: int = LOOKS) -> Tensor:
    """Return the numbers `[batch, count]` of frames that lie evenly in a clip."""
    return torch.linspace(0, frames - 1, count).round().long().expand(batch, count)


def peaks(scores: Tensor, least: float = 0.3) -> list[list[float]]:
    """Return per clip at which places of `[B, n]`, between whole numbers too, impacts peak.

    A peak is the greatest of its neighbours and of those beyond them, and at least `least` likely.
    """
    likely = scores.sigmoid()
    highest = F.max_pool1d(likely[:, None], 5, 1, 2)[:, 0]
    padded = F.pad(likely, (1, 1))
    found: list[list[float]] = []
    for row, tops in enumerate((likely == highest) & (likely >= least)):
        places = []
        for at in tops.nonzero()[:, 0].tolist():
            before, here, after = padded[row, at : at + 3].tolist()
            places.append(at + (after - before) / (before + here + after))
        found.append(places)
    return found
