"""The sound of a scene, synthesised on the same clock as its picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aiprod_studio.training.world import load_world


@dataclass(frozen=True)
class Events:
    """What a motion's sound needs, each `[B]`: steps a second, their phase, seconds of landing."""

    rate: Tensor
    phase: Tensor
    landing: Tensor


def synthesise(
    labels: dict[str, Tensor], events: Events, samples: int, rate: int, dice: torch.Generator
) -> Tensor:
    """Return the sound `[B, samples]` in -1…1: the place's ambience and the subject's motion."""
    world = load_world()
    B = len(labels["places"])
    t = (torch.arange(samples) / rate).expand(B, samples)
    place = [world.places[i].facts["ambience"] for i in labels["places"].tolist()]
    gait = [world.subjects[i].facts["gait"] for i in labels["subjects"].tolist()]
    motion = [world.motions[i].id for i in labels["motions"].tolist()]

    def where(names: list[str], *wanted: str) -> Tensor:
        return torch.tensor([name in wanted for name in names]).float().view(B, 1)

    step = events.rate.view(B, 1)
    beat = (t * step + events.phase.view(B, 1)) % 1 / step  # seconds since the last landing
    strides = (t * step * 2 + events.phase.view(B, 1) / 2) % 1 / (2 * step)
    fallen = t - events.landing.view(B, 1)
    swell = 0.55 + 0.45 * torch.sin(2.2 * t + 6.28 * events.phase.view(B, 1))

    sound = where(place, "waves") * 0.20 * swell * _noise(B, samples, rate, 700.0, dice)
    sound = sound + where(place, "wind") * 0.16 * swell * _noise(B, samples, rate, 350.0, dice)
    sound = sound + where(place, "traffic") * 0.15 * _noise(B, samples, rate, 160.0, dice)
    chirp = torch.sin(6.28 * (2600 + 500 * torch.sin(50 * t)) * t) * ((t * 2.3) % 1 < 0.12)
    sound = sound + where(place, "birds") * 0.05 * chirp * swell
    sound = sound + where(place, "drone") * 0.10 * (torch.sin(345 * t) + torch.sin(518 * t))

    thud = torch.sin(6.28 * 95 * beat) * torch.exp(-beat * 22)
    sound = sound + where(motion, "bounce") * 0.8 * thud
    crash = torch.where(fallen >= 0, torch.exp(-fallen.clamp(min=0) * 14), torch.zeros_like(t))
    sound = sound + where(motion, "fall") * crash * (
        0.7 * torch.sin(6.28 * 70 * t) + 0.4 * _noise(B, samples, rate, 1800.0, dice)
    )
    moving = where(motion, "run", "fly", "grow", "spin")
    steps = torch.exp(-strides * 70) * _noise(B, samples, rate, 1200.0, dice)
    sound = sound + moving * where(gait, "walker") * 0.6 * steps
    hum = torch.sin(6.28 * 82 * t) + 0.6 * torch.sin(6.28 * 164 * t) + 0.4 * torch.sin(1546 * t)
    sound = sound + moving * where(gait, "engine") * 0.16 * hum
    flaps = (torch.sin(6.28 * 5.5 * t).clamp(min=0) ** 2) * _noise(B, samples, rate, 500.0, dice)
    sound = sound + moving * where(gait, "flyer") * 0.35 * flaps
    fade = (torch.minimum(t, samples / rate - t) / 0.02).clamp(0, 1)
    return (sound * fade).clamp(-1, 1)


def _noise(batch: int, samples: int, rate: int, cutoff: float, dice: torch.Generator) -> Tensor:
    """Return noise `[batch, samples]` of unit loudness that fades above `cutoff` hertz."""
    white = torch.randn(batch, samples, generator=dice)
    spectrum = torch.fft.rfft(white)
    hertz = torch.fft.rfftfreq(samples, 1 / rate)
    shaped = torch.fft.irfft(spectrum / (1 + (hertz / cutoff) ** 2), samples)
    loudness: Tensor = shaped / shaped.std(dim=1, keepdim=True)
    return loudness
