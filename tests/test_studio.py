import hashlib
from pathlib import Path

import numpy as np
import pytest

from aiprod_studio import Request, Studio, StudioError
from aiprod_studio.library.provenance import read_request, read_settings
from aiprod_studio.media.images import write_image
from aiprod_studio.media.video import probe, read_clip
from aiprod_studio.types import Progress, Record

FAST = {"steps": 2, "seconds": 0.6}


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio()


def test_a_prompt_becomes_a_clip_with_sound_and_its_settings(studio, tmp_path):
    record = studio.render("a dog on a beach", tmp_path / "dog.mp4", seed=5, **FAST)
    clip = read_clip(record.path)
    assert clip.frames.shape == (5, 256, 256, 3)
    assert clip.audio is not None
    assert abs(clip.audio.shape[1] / clip.sample_rate - 5 / 8) < 0.01
    assert read_request(record.path) == record.request
    assert read_settings(record.path)["plan"]["width"] == record.plan.width == 128


def test_the_same_request_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    prints = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        record = Studio().render("a cat", tmp_path / f"{name}.mp4", seed=seed, **FAST)
        prints.append(hashlib.sha256(record.path.read_bytes()).hexdigest())
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


def test_a_batch_goes_on_after_a_bad_job_and_tells_its_progress(studio, tmp_path):
    told: list[tuple[int, Progress]] = []
    jobs = [
        (Request("a cat", seed=1, **FAST), tmp_path / "cat.mp4"),
        (Request("a cat", engine="nonesuch"), tmp_path / "none.mp4"),
        (Request("a cat", width=136, height=128), tmp_path / "odd.mp4"),
        (Request("a dog", seed=1, audio=False, **FAST), tmp_path / "dog.mp4"),
    ]
    outcomes = dict(studio.render_all(jobs, lambda n, p: told.append((n, p))))
    assert isinstance(outcomes[0], Record)
    assert isinstance(outcomes[3], Record)
    assert isinstance(outcomes[1], StudioError)
    assert isinstance(outcomes[2], StudioError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.mp4", "dog.mp4"]
    assert not probe(tmp_path / "dog.mp4").has_audio
    assert (0, Progress("denoise", 2, 2)) in told
    steps = [progress for number, progress in told if number == 0]
    assert steps[-4:-2] == [Progress("decode", 0, 5), Progress("decode", 5, 5)]
    assert steps[-2:] == [Progress("save", 0, 1), Progress("save", 1, 1)]


def test_a_first_picture_is_kept(studio, tmp_path):
    picture = np.zeros((90, 160, 3), np.uint8)
    picture[:, :80] = (220, 60, 40)
    picture[:, 80:] = (40, 80, 220)
    write_image(tmp_path / "first.png", picture)
    image = str(tmp_path / "first.png")
    record = studio.render("a dog", tmp_path / "clip.mp4", seed=3, image=image, **FAST)
    first = read_clip(record.path).frames[0].astype(float)
    left, right = first[96:160, 20:100].mean(axis=(0, 1)), first[96:160, 156:236].mean(axis=(0, 1))
    assert left[0] > right[0] + 60
    assert right[2] > left[2] + 60


def test_a_clip_ends_with_a_last_picture_alone_and_after_a_first(studio, tmp_path):
    halves = np.zeros((128, 128, 3), np.uint8)
    halves[:, :64], halves[:, 64:] = (220, 60, 40), (40, 80, 220)
    for name, picture in (("last", halves), ("first", halves[:, ::-1])):
        write_image(tmp_path / f"{name}.png", picture)
    files = {"last_image": str(tmp_path / "last.png")}
    for name in ("alone", "both"):
        record = studio.render("a dog", tmp_path / f"{name}.mp4", seed=3, **FAST, **files)
        frames = read_clip(record.path).frames.astype(float)
        left, right = frames[-1, 96:160, 20:100], frames[-1, 96:160, 156:236]
        assert left[..., 0].mean() > right[..., 0].mean() + 60
        assert right[..., 2].mean() > left[..., 2].mean() + 60
        assert read_request(record.path).last_image == files["last_image"]
        files["image"] = str(tmp_path / "first.png")
    assert frames[0, 96:160, 20:100, 2].mean() > frames[0, 96:160, 156:236, 2].mean() + 60


def test_a_clip_without_a_seed_remembers_the_one_it_drew(studio, tmp_path):
    record = studio.render("a ball", Path(tmp_path / "ball.mp4"), **FAST)
    assert record.request.seed is not None
    assert read_request(record.path).seed == record.request.seed
