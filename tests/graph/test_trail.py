from pathlib import Path

import numpy as np
import pytest
import torch

from aiprod_studio.engines.engine import Latents
from aiprod_studio.graph.trail import Trail
from aiprod_studio.sampling.solvers import Point

POINT = Point(3, torch.arange(6.0) / 7, torch.arange(6.0) * 1e-30, {"before": torch.ones(2)})
PICTURE = np.zeros((4, 4, 3), np.uint8)


def found(folder: Path, mark: str = "a") -> Latents | Point | None:
    """Return what another process finds in a folder."""
    return Trail(folder).find(mark)


def test_points_and_latents_come_back_to_the_bit_and_only_under_their_mark(tmp_path):
    trail = Trail(tmp_path / "job", every=0)
    assert trail.find("a") is None
    trail.pass_point("a", POINT, lambda: PICTURE)
    point = found(tmp_path / "job")
    assert isinstance(point, Point)
    assert point.done == 3
    assert torch.equal(point.x, POINT.x)
    assert torch.equal(point.clean, POINT.clean)
    assert torch.equal(point.more["before"], POINT.more["before"])
    assert found(tmp_path / "job", "b") is None
    trail.end("a", Latents(torch.ones(1, 2, 1, 1, 1), None))
    ended = found(tmp_path / "job")
    assert isinstance(ended, Latents)
    assert torch.equal(ended.video, torch.ones(1, 2, 1, 1, 1))
    assert ended.audio is None
    trail.end("a", Latents(ended.video, torch.zeros(1, 2, 3)))
    assert found(tmp_path / "job").audio.shape == (1, 2, 3)
    assert found(tmp_path / "job").more == {}
    trail.end("a", Latents(ended.video, None, {"tracks": torch.full((1, 5, 45), 2.0)}))
    kept = found(tmp_path / "job")
    assert kept.audio is None
    assert torch.equal(kept.more["tracks"], torch.full((1, 5, 45), 2.0))


def test_memory_has_every_point_and_the_disk_some(tmp_path):
    shown: list[np.ndarray] = []
    trail = Trail(tmp_path, shown.append, every=100, pause=100)
    for done in (1, 2, 3):
        trail.pass_point("a", Point(done, POINT.x, POINT.clean), lambda: PICTURE)
    assert found(tmp_path).done == 1
    assert trail.find("a").done == 3
    assert trail.find("b") is None
    assert len(shown) == 1


def test_without_a_folder_nothing_is_written_or_shown():
    trail = Trail()
    trail.pass_point("a", POINT, lambda: pytest.fail("nobody wants a picture"))
    assert trail.find("a") is POINT


@pytest.mark.parametrize("size", [0, 5, 100])
def test_a_damaged_file_is_as_good_as_none(tmp_path, size):
    Trail(tmp_path, every=0).pass_point("a", POINT, lambda: PICTURE)
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:size])
    assert found(tmp_path) is None


def test_a_disk_that_takes_nothing_does_not_stop_a_clip(tmp_path):
    (tmp_path / "file").write_text("in the way")
    shown: list[np.ndarray] = []
    trail = Trail(tmp_path / "file" / "job", shown.append, every=0)
    trail.pass_point("a", POINT, lambda: PICTURE)
    trail.end("a", Latents(torch.ones(1), None))
    assert found(tmp_path / "file" / "job") is None
    assert len(shown) == 1
