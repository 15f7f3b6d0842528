import pytest
import torch

from aiprod_studio.media.writer import write_video
from aiprod_studio.training.data import LABEL, seeded
from aiprod_studio.training.exam import (
    answers,
    ask,
    frechet,
    list_groups,
    mark_group,
    read_clips,
    render,
    script_of,
)
from aiprod_studio.training.family import build_networks
from aiprod_studio.training.judge import PER_FRAME, SIDE
from aiprod_studio.training.judging import build_judge, find_lesson, name_concepts
from aiprod_studio.training.samples import to_frames
from aiprod_studio.training.scenes import make_scenes
from aiprod_studio.training.transcript import write_transcript
from aiprod_studio.training.world import ABSENT, held_out_combinations


@pytest.fixture
def groups(tiny):
    """Return the groups of a small exam."""
    return list_groups(find_lesson(tiny), 4)


def test_held_out_questions_are_about_what_training_never_showed(groups):
    for name, held_out in (("held out", True), ("seen", False)):
        for question in ask(groups[name]):
            combination = [question.labels[kind] for kind in ("subjects", "places", "motions")]
            assert held_out_combinations()[tuple(combination)] == held_out


def test_every_language_is_asked_the_same(groups):
    english, german = ask(groups["held out"]), ask(groups["held out"], "de", most=2)
    assert len(german) == 2
    for one, other in zip(english, german, strict=False):
        assert (one.labels, one.seed) == (other.labels, other.seed)
        assert one.prompt != other.prompt


def test_pairs_name_both(groups):
    for question in ask(groups["pair"]):
        assert question.said["others"] == question.labels["others"] != ABSENT


def test_what_a_prompt_does_not_say_is_not_asked(tiny, groups):
    questions = ask(groups["seen"])
    questions[0].said["places"] = ABSENT
    wanted = answers(questions, name_concepts(tiny))
    assert wanted[f"{LABEL}places"][0] == ABSENT
    assert (wanted[f"{LABEL}subjects"] != ABSENT).all()


def test_sets_are_as_far_apart_as_their_means():
    torch.manual_seed(0)
    here = torch.randn(400, 3)
    assert frechet(here, here) == pytest.approx(0, abs=1e-6)
    assert frechet(here, here + torch.tensor([2.0, 0, 0])) == pytest.approx(4, abs=1e-4)
    assert frechet(here, 3 * here) > 5


def test_scripts_have_names():
    assert [script_of(text) for text in ("ein Hund", "собака", "12")] == ["Latin", "Cyrillic", "?"]


def test_a_whole_exam_becomes_a_page(tiny, groups, tmp_path):
    judge, networks = build_judge(tiny).eval(), build_networks(tiny)
    size = tiny.phases[0].size
    marks = {}
    for name, group in groups.items():
        scenes = make_scenes(group.size, size, seeded(name), group.lesson)
        paths = [tmp_path / f"{name}-{row}.mp4" for row in range(group.size)]
        for path, video, audio in zip(paths, scenes.video, scenes.audio, strict=True):
            write_video(path, to_frames(video), size.fps, audio[None].numpy())
        shown = read_clips(paths, size)
        assert shown["frames"].shape == (group.size, size.frames, 3, SIDE, SIDE)
        assert shown["sound"].shape[2] == PER_FRAME * size.frames
        rendered = render(group, size, networks, judge.config.concepts)
        assert len(rendered.plain["frames"]) == 2 * len(rendered.through["frames"])
        marks[name] = mark_group(judge, ask(group), shown, rendered, size.fps)
    named = marks["held out"]["named"]
    assert named["clips"]["subjects"][1] == 4
    assert 0 <= named["scenes"]["motions"][0] <= 1
    assert marks["held out"]["psnr"][0] > 0
    taken = {"backbone": {"steps": 10, "hours": 0.5}}
    page = write_transcript(
        {
            "clips": 4,
            "preset": "default",
            "each": 1,
            "subjects": 2,
            "groups": marks,
            "languages": {
                "en": {**named["clips"], "subjects": [1.0, 4], "script": "Latin"},
                "uk": {**named["clips"], "subjects": [0.5, 4], "script": "Cyrillic"},
            },
            "seconds": {"default": 5.0, "fast": 3.0},
            "machine": {"name": "a processor", "cores": 2, "gflops": 100.0},
            "training": taken,
            "judge": {"eye": taken["backbone"]},
        }
    )
    assert "| 50 % · 50 % (uk) |" in page
    assert "| Cyrillic | uk | 50 % |" in page
    assert "| backbone | 10 | 0.50 | 0.18 |" in page
    assert "None" not in page
    assert all(len(line) <= 105 for line in page.splitlines() if not line.startswith("|"))
