"""The exam: prompts for combinations that training never showed, and marks by the judge.

The judge's marks on rendered scenes of the same kinds are the ceiling; a clip can hardly do better.
"""

from __future__ import annotations

import dataclasses
import math
import random
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aiprod_studio.engines.bundle import Networks
from aiprod_studio.media.video import read_clip
from aiprod_studio.models.audio_vae import SAMPLE_RATE
from aiprod_studio.training.captions import write_caption
from aiprod_studio.training.data import LABEL, Rows, seeded, take
from aiprod_studio.training.judge import Concepts, Judge, Judgement, peaks
from aiprod_studio.training.judging import (
    alone,
    consider,
    examine,
    expect,
    in_time,
    right,
    together,
)
from aiprod_studio.training.scenes import Lesson, draw_labels, make_scenes
from aiprod_studio.training.stage import SceneSize
from aiprod_studio.training.world import ABSENT, load_world

_TRIES = 60  # at a caption that says all that is asked for
_AT_ONCE = 10  # scenes
_SHOWN = 0.5  # the coverage from which on a pixel is the subject's


@dataclass(frozen=True)
class Group:
    """Questions of one kind: how many, what their scenes show, and whether training never did."""

    name: str
    size: int
    lesson: Lesson
    held_out: bool


@dataclass(frozen=True)
class Question:
    """A prompt with its seed; `labels` is the scene it is about, `said` what of it it says."""

    group: str
    language: str
    number: int
    prompt: str
    seed: int
    labels: dict[str, int]
    said: dict[str, int]


def list_groups(lesson: Lesson, clips: int) -> dict[str, Group]:
    """Return the groups of an exam by name; all but the pairs have `clips` questions each."""
    hits = dataclasses.replace(alone(lesson), motions=("bounce", "fall"))
    groups = (
        Group("held out", clips, alone(lesson), held_out=True),
        Group("seen", clips, alone(lesson), held_out=False),
        Group("pair", max(1, clips // 2), together(lesson), held_out=False),
        Group("impact", clips, hits, held_out=False),
    )
    return {group.name: group for group in groups}


def ask(group: Group, language: str = "en", most: int | None = None) -> list[Question]:
    """Return the questions of a group, or the first of them, in a language.

    They are about the same scenes, with the same seeds, in every language.
    """
    questions = []
    for number in range(min(group.size, most or group.size)):
        # Each has dice of its own, so that a longer exam begins with the same questions.
        dice = seeded("exam", group.name, number)
        labels = draw_labels(1, dice, group.lesson, group.held_out)
        scene = {kind: int(values) for kind, values in labels.items()}
        chance = random.Random(f"{group.name}/{number}/{language}")
        prompt, said = _say_most(scene, chance, language)
        questions.append(Question(group.name, language, number, prompt, number, scene, said))
    return questions


def _say_most(
    scene: dict[str, int], chance: random.Random, language: str
) -> tuple[str, dict[str, int]]:
    """Return the caption, of many, that says most of a scene, and what it says."""
    captions = (write_caption(scene, chance, language) for _ in range(_TRIES))

    def worth(caption: tuple[str, dict[str, int]]) -> int:
        said = caption[1]
        # The second subject comes first: a caption that leaves it out is about another scene.
        return 9 * (said["others"] != ABSENT) + sum(value != ABSENT for value in said.values())

    return max(captions, key=worth)


def answers(questions: list[Question], concepts: Concepts) -> Rows:
    """Return what the judge should name of the clips; what a prompt does not say is not asked."""
    kinds = questions[0].labels
    labels = {kind: torch.tensor([q.labels[kind] for q in questions]) for kind in kinds}
    said = {kind: torch.tensor([q.said[kind] for q in questions]) for kind in kinds}
    wanted = expect(labels, concepts)
    return {
        name: torch.where(said[name.removeprefix(LABEL)] == ABSENT, ABSENT, values)
        for name, values in wanted.items()
    }


def read_clips(paths: list[Path], size: SceneSize) -> Rows:
    """Return finished clips as the judge sees them; one without sound is silent."""
    parts = []
    for path in paths:
        clip = read_clip(path, SAMPLE_RATE)
        video = torch.from_numpy(clip.frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        audio = torch.zeros(1, round(len(clip.frames) / size.fps * SAMPLE_RATE))
        if clip.audio is not None:
            heard = torch.from_numpy(clip.audio).mean(dim=0)[: audio.shape[1]]
            audio[0, : len(heard)] = heard
        parts.append(examine(video, audio))
    return _join(parts)


@dataclass(frozen=True)
class Rendered:
    """Scenes as the judge sees them, as they are and through the VAEs, and the VAE's error.

    `error` is the mean squared error of pixels in -1…1, of whole frames and inside the box around
    the subject; `answers` what should be named.
    """

    plain: Rows
    through: Rows
    answers: Rows
    error: tuple[float, float]


def render(group: Group, size: SceneSize, networks: Networks, concepts: Concepts) -> Rendered:
    """Return twice as many scenes of a group as it has questions; half go through the VAEs."""
    dice = seeded("exam", group.name, "scenes")
    plain, through, wanted = [], [], []
    errors = torch.zeros(2, 2)
    turns = [min(_AT_ONCE, group.size - begin) for begin in range(0, group.size, _AT_ONCE)]
    for turn, number in enumerate(2 * turns):
        with torch.inference_mode():
            scenes = make_scenes(number, size, dice, group.lesson, group.held_out)
            plain.append(examine(scenes.video, scenes.audio))
            wanted.append(expect(scenes.labels, concepts))
            if turn >= len(turns):
                continue
            video = networks.video_vae.decode(networks.video_vae.encode(scenes.video))
            latents = networks.audio_vae.encode(scenes.audio)
            audio = networks.audio_vae.decode(latents, scenes.audio.shape[1])
            through.append(examine(video, audio))
            off = (video - scenes.video).square().mean(dim=1)
            for at, weight in enumerate((torch.ones_like(off), _boxes(scenes.subject))):
                errors[at] += torch.stack([(off * weight).sum(), weight.sum()])
    error = (errors[:, 0] / errors[:, 1]).tolist()
    return Rendered(_join(plain), _join(through), _join(wanted), (error[0], error[1]))


def _boxes(cover: Tensor) -> Tensor:
    """Return 1 inside the upright box around what a coverage `[B, T, H, W]` shows, 0 outside."""
    shown = cover > _SHOWN
    spans = []
    for axis in (3, 2):
        along = shown.any(dim=axis).float()
        begun = along.cummax(dim=2).values
        spans.append(begun * along.flip(2).cummax(dim=2).values.flip(2))
    return spans[0][..., None] * spans[1][:, :, None]


def mark_group(
    judge: Judge, questions: list[Question], shown: Rows, scenes: Rendered, fps: float
) -> dict[str, Any]:
    """Return all marks of a group: of its clips, of scenes, and of scenes through the VAEs."""
    concepts, half = judge.config.concepts, len(questions)
    said = {
        "clips": consider(judge, shown),
        "scenes": consider(judge, scenes.plain),
        "through": consider(judge, scenes.through),
    }
    wanted = {
        "clips": answers(questions, concepts),
        "scenes": scenes.answers,
        "through": take(scenes.answers, 0, half),
    }
    real = said["scenes"].features
    hits = right(said["clips"], wanted["clips"])["subjects"] == 1
    drawn = {questions[row].labels["subjects"] for row in hits.nonzero()[:, 0].tolist()}
    return {
        "asked": half,
        "drawn": sorted(load_world().subjects[number].id for number in drawn),
        "named": {what: mark(said[what], wanted[what]) for what in said},
        "impacts": {what: mark_impacts(said[what], fps) for what in said},
        "psnr": [-10 * math.log10(error / 4) for error in scenes.error],
        "confusions": confusions(said["scenes"], wanted["scenes"], concepts),
        "frechet": [
            frechet(said["clips"].features, real[:half]),
            frechet(real[half:], real[:half]),
        ],
    }


def mark(said: Judgement, wanted: Rows) -> dict[str, list[Any]]:
    """Return by kind the share that is named right, None of none, and how many were asked."""
    marks = {}
    for kind, hits in right(said, wanted).items():
        asked = hits[~hits.isnan()]
        marks[kind] = [asked.mean().item() if len(asked) else None, len(asked)]
    return marks


def mark_impacts(said: Judgement, fps: float) -> dict[str, Any]:
    """Return how many impacts are seen, the share that is heard in time, and that by chance.

    By chance means with the sound of the next clip; `clips` is the share that shows an impact.
    """
    seen, heard = in_time(said, fps)
    by_chance = in_time(said, fps, shift=1)[1]
    showing = sum(bool(places) for places in peaks(said.seen)) / len(said.seen)
    return {
        "seen": seen,
        "in_time": heard / seen if seen else None,
        "by_chance": by_chance / seen if seen else None,
        "clips": showing,
    }


def confusions(said: Judgement, wanted: Rows, concepts: Concepts) -> dict[str, list[list[Any]]]:
    """Return by kind the most frequent mistakes: what is shown, what is said, share of the shown.

    Only those that are made with a twentieth of what is shown, or more.
    """
    found = {}
    for kind, ids in concepts:
        shown, named = wanted[LABEL + kind], said.scores[kind].argmax(dim=1)
        asked = Counter(shown.tolist())
        pairs = Counter(zip(shown.tolist(), named.tolist(), strict=True))
        mistakes = [
            [ids[a], ids[b], number / asked[a]]
            for (a, b), number in pairs.items()
            if a not in (ABSENT, b) and number >= 0.05 * asked[a]
        ]
        found[kind] = sorted(mistakes, key=lambda row: -row[2])[:6]
    return found


def frechet(here: Tensor, there: Tensor) -> float:
    """Return the Fréchet distance of two sets of features `[N, F]`, taken as normal."""
    first, second = here.double(), there.double()
    apart = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    one, two = first.T.cov(correction=0), second.T.cov(correction=0)
    values, axes = torch.linalg.eigh(one)
    root = (axes * values.clamp(min=0).sqrt()) @ axes.T
    common = torch.linalg.eigvalsh(root @ two @ root).clamp(min=0).sqrt().sum()
    return float(apart + one.trace() + two.trace() - 2 * common)


def script_of(text: str) -> str:
    """Return the script of most letters of a text, as Unicode names it: Latin, Cyrillic, …."""
    letters = [unicodedata.name(each, "?").split()[0] for each in text if each.isalpha()]
    return Counter(letters).most_common(1)[0][0].capitalize() if letters else "?"


def _join(parts: list[Rows]) -> Rows:
    return {name: torch.cat([rows[name] for rows in parts]) for name in parts[0]}
