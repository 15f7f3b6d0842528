import numpy as np
import pytest
import torch

from aiprod_studio.engines.engine import Latents
from aiprod_studio.graph.trail import Trail
from aiprod_studio.sampling.solvers import Point

POINT = Point(3, torch.arange(6.0) / 7, torch.arange(6.0) * 1e-30)
PICTURE = np.zeros((4, 4, 3), np.uint8)


def test_points_and_latents_come_back_to_the_bit_and_only_under_their_mark(tmp_path):
    trail = Trail(tmp_path / "job", lambda _: None, every=0)
    assert trail.find("a") is None
    trail.pass_point("a", POINT, lambda: PICTURE)
    found = Trail(tmp_path / "job", lambda _: None).find("a")
    assert isinstance(found, Point)
    assert found.done == 3
    assert torch.equal(found.x, POINT.x)
    assert torch.equal(found.clean, POINT.clean)
    assert trail.find("b") is None
    trail.end("a", Latents(torch.ones(1, 2, 1, 1, 1), None))
    ended = trail.find("a")
    assert isinstance(ended, Latents)
    assert torch.equal(ended.video, torch.ones(1, 2, 1, 1, 1))
    assert ended.audio is None
    trail.end("a", Latents(ended.video, torch.zeros(1, 2, 3)))
    assert trail.find("a").audio.shape == (1, 2, 3)


def test_points_and_pictures_have_their_pauses(tmp_path):
    shown: list[np.ndarray] = []
    trail = Trail(tmp_path, shown.append, every=100, pause=100)
    for done in (1, 2, 3):
        trail.pass_point("a", Point(done, POINT.x, POINT.clean), lambda: PICTURE)
    assert trail.find("a").done == 1
    assert len(shown) == 1


@pytest.mark.parametrize("size", [0, 5, 100])
def test_a_damaged_file_is_as_good_as_none(tmp_path, size):
    trail = Trail(tmp_path, lambda _: None, every=0)
    trail.pass_point("a", POINT, lambda: PICTURE)
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:size])
    assert trail.find("a") is None


def test_a_disk_that_takes_nothing_does_not_stop_a_clip(tmp_path):
    (tmp_path / "file").write_text("in the way")
    shown: list[np.ndarray] = []
    trail = Trail(tmp_path / "file" / "job", shown.append, every=0)
    trail.pass_point("a", POINT, lambda: PICTURE)
    trail.end("a", Latents(torch.ones(1), None))
    assert trail.find("a") is None
    assert len(shown) == 1
