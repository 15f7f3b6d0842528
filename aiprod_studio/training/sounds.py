"""The sound of a scene, synthesised on the same clock as its picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aiprod_studio.training.world import load_world

# How loud the air of a place is, and above which frequency in hertz it fades.
_AIR = {
    "waves": (0.20, 700.0),
    "wind": (0.16, 350.0),
    "traffic": (0.15, 160.0),
    "rain": (0.14, 3000.0),
}


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

    weather = [world.weathers[i].id for i in labels["weathers"].tolist()]
    heard = [
        "rain" if fallen == "rain" else name for fallen, name in zip(weather, place, strict=True)
    ]
    air = torch.tensor([_AIR.get(name, (0.0, 1.0)) for name in heard])
    sound = air[:, :1] * _noise(samples, rate, air[:, 1], dice)
    sound = sound * torch.where(where(heard, "traffic", "rain") > 0, torch.ones_like(swell), swell)
    chirp = torch.sin(6.28 * (2600 + 500 * torch.sin(50 * t)) * t) * ((t * 2.3) % 1 < 0.12)
    sound = sound + where(place, "birds") * 0.05 * chirp * swell
    sound = sound + where(place, "drone") * 0.10 * (torch.sin(345 * t) + torch.sin(518 * t))

    thud = torch.sin(6.28 * 95 * beat) * torch.exp(-beat * 22)
    sound = sound + where(motion, "bounce") * 0.8 * thud
    crash = torch.where(fallen >= 0, torch.exp(-fallen.clamp(min=0) * 14), torch.zeros_like(t))
    sound = sound + where(motion, "fall") * crash * 0.7 * torch.sin(6.28 * 70 * t)
    moving = where(motion, "run", "walk", "fly", "grow", "spin", "roll", "orbit")
    hum = torch.sin(6.28 * 82 * t) + 0.6 * torch.sin(6.28 * 164 * t) + 0.4 * torch.sin(1546 * t)
    sound = sound + moving * where(gait, "engine") * 0.16 * hum
    walks, flaps = moving * where(gait, "walker"), moving * where(gait, "flyer")
    hiss = 0.6 * walks * torch.exp(-strides * 70) + 0.4 * where(motion, "fall") * crash
    hiss = hiss + 0.35 * flaps * torch.sin(6.28 * 5.5 * t).clamp(min=0) ** 2
    cutoff = 1800.0 - 600.0 * walks - 1300.0 * flaps
    sound = sound + hiss * _noise(samples, rate, cutoff[:, 0], dice)
    fade = (torch.minimum(t, samples / rate - t) / 0.02).clamp(0, 1)
    return (sound * fade).clamp(-1, 1)


def _noise(samples: int, rate: int, cutoff: Tensor, dice: torch.Generator) -> Tensor:
    """Return noise `[B, samples]` of unit loudness that fades above `cutoff` `[B]` in hertz."""
    white = torch.randn(len(cutoff), samples, generator=dice)
    hertz = torch.fft.rfftfreq(samples, 1 / rate)
    gain = 1 / (1 + (hertz / cutoff[:, None]) ** 2)
    shaped = torch.fft.irfft(torch.fft.rfft(white) * gain, samples)
    loudness: Tensor = shaped / shaped.square().mean(dim=1, keepdim=True).sqrt()
    return loudness
