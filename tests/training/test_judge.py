import pytest
import torch

from aiprod_studio.errors import ModelUnavailable
from aiprod_studio.training.judge import (
    BANDS,
    PER_FRAME,
    SIDE,
    Judge,
    JudgeConfig,
    listen,
    peaks,
    shrink,
    widen,
)

CONCEPTS = (
    ("subjects", ("ball", "dog", "cat")),
    ("places", ("beach", "snow")),
    ("times", ("day", "night")),
    ("styles", ("glossy", "flat")),
    ("motions", ("still", "bounce")),
    ("cameras", ("still", "pan")),
)


def build(concepts=CONCEPTS):
    torch.manual_seed(0)
    return Judge(JudgeConfig(concepts, width=16, features=8)).eval()


def test_it_scores_every_concept_and_every_moment():
    frames, sound = torch.randn(2, 9, 3, SIDE, SIDE), torch.randn(2, BANDS, 9 * PER_FRAME)
    said = build()(frames, sound)
    assert {kind: tuple(scores.shape) for kind, scores in said.scores.items()} == {
        kind: (2, len(ids)) for kind, ids in CONCEPTS
    }
    assert said.seen.shape == said.heard.shape == (2, 9 * PER_FRAME)
    assert said.features.shape == (2, 24)


def test_picture_and_sound_are_judged_apart():
    judge, frames = build(), torch.randn(1, 9, 3, SIDE, SIDE)
    sounds = torch.randn(2, 1, BANDS, 9 * PER_FRAME)
    first, second = judge(frames, sounds[0]), judge(frames, sounds[1])
    assert torch.equal(first.seen, second.seen)
    assert not torch.equal(first.heard, second.heard)
    assert torch.equal(judge(frames.flip(1), sounds[0]).heard, first.heard)


def test_weights_are_for_their_concepts_alone():
    others = (("subjects", ("ball", "dog", "whale")), *CONCEPTS[1:])
    with pytest.raises(ModelUnavailable, match="other concepts"):
        build(others).load_state_dict(build().state_dict())


def test_frames_are_shrunk_and_widened():
    video = torch.linspace(-1, 1, 5).view(1, 1, 5, 1, 1).expand(1, 3, 5, 128, 96)
    frames = shrink(video)
    assert frames.shape == (1, 5, 3, SIDE, SIDE)
    assert frames.dtype == torch.uint8
    assert (widen(frames)[0, :, 0, 0, 0] - video[0, 0, :, 0, 0]).abs().max() < 0.01


def test_a_spectrogram_has_a_column_a_moment():
    audio = torch.zeros(1, 34_000)
    audio[0, 17_000:17_400] = 1
    heard = listen(audio, 68)
    assert heard.shape == (1, BANDS, 68)
    assert abs(int(heard[0].sum(dim=0).argmax()) - 34) <= 1


def test_peaks_lie_between_the_scores():
    moments = torch.arange(20.0)
    likely = sum(torch.exp(-((moments - at) ** 2) / 2) for at in (4.3, 14.8))
    found = peaks(torch.stack([likely.clamp(1e-6, 1 - 1e-6).logit(), torch.full((20,), -9.0)]))
    assert [round(at, 1) for at in found[0]] == [4.3, 14.8]
    assert found[1] == []


def test_a_peak_at_the_end_is_a_number():
    scores = torch.full((1, 8), -9.0)
    scores[0, -1] = 9.0
    assert peaks(scores) == [[pytest.approx(7, abs=0.1)]]
