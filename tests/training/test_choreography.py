import pytest
import torch

from aiprod_studio.training.choreography import choreograph, look, pair, stand
from aiprod_studio.training.scenes import draw_labels
from aiprod_studio.training.stage import SceneSize, scene_time
from aiprod_studio.training.world import load_world

SIZE = SceneSize(frames=9)


def play(**wanted: str):
    """Return path, other path and time of 16 scenes of which some kinds are as wanted."""
    dice = torch.Generator().manual_seed(2)
    labels = draw_labels(16, dice)
    for kind in ("motions", "cameras", "relations"):
        ids = [concept.id for concept in load_world().kinds[kind]]
        labels[kind][:] = ids.index(wanted.get(kind, ids[0]))
    time = scene_time(16, SIZE, dice)
    path, _ = choreograph(labels, time, dice)
    path, other = pair(labels["relations"], path, dice)
    return labels, path, other, look(labels["cameras"], path, time, dice)


@pytest.mark.parametrize(
    ("motion", "what"),
    [("run", "x"), ("walk", "x"), ("roll", "turn"), ("bounce", "lift"), ("grow", "size"),
     ("spin", "turn"), ("shake", "turn"), ("swing", "turn"), ("orbit", "size"), ("fly", "lift"),
     ("fall", "lift")],
)  # fmt: skip
def test_motions_move_and_stillness_does_not(motion, what):
    moved = getattr(play(motions=motion)[1], what)
    rested = getattr(play()[1], what)
    assert (moved.amax(dim=1) - moved.amin(dim=1)).min() > 0.01
    assert (rested.amax(dim=1) - rested.amin(dim=1)).max() < 1e-6


def test_what_runs_looks_where_it_goes():
    path = play(motions="run")[1]
    speed = path.x[:, -1] - path.x[:, 0]
    assert (speed.sign() == -path.size[:, 0].sign()).all()


def test_pairs_stand_as_their_relation_says():
    _, path, other, _ = play(relations="beside")
    assert ((path.x - other.x).abs() > 0.35).all()
    _, path, other, _ = play(relations="above")
    assert (path.lift > other.lift + 0.3).all()
    _, path, other, _ = play(relations="behind")
    assert (path.lift > other.lift).all()
    assert (path.size.abs() < other.size.abs()).all()
    _, path, other, _ = play(relations="chasing", motions="run")
    ahead = (other.x - path.x).mean(dim=1)
    assert (ahead.sign() == (path.x[:, -1] - path.x[:, 0]).sign()).all()


@pytest.mark.parametrize("camera", ["pan", "tilt", "zoom", "orbit"])
def test_cameras_move(camera):
    view = play(cameras=camera)[3]
    assert (view.pan.abs() + view.tilt.abs() + view.zoom.abs()).amax(dim=1).min() > 0.05


def test_a_camera_that_follows_keeps_the_subject_in_place():
    _, path, _, view = play(cameras="follow", motions="run")
    _, same, _, rest = play(cameras="still", motions="run")
    followed, passed = stand(path, view, 1.0).x, stand(same, rest, 1.0).x
    span = [x.amax(dim=1) - x.amin(dim=1) for x in (followed, passed)]
    assert (span[0] < 0.2 * span[1] + 1e-6).all()
