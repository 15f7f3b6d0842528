import torch

from aiprod_studio.models.layout import ALIKE, lay_cells, read_tracks
from aiprod_studio.training.scenes import EVERYTHING, Lesson, draw_labels, make_scenes
from aiprod_studio.training.stage import SceneSize, set_stage, track
from aiprod_studio.training.world import ABSENT, load_world

SIZE = SceneSize(frames=17, height=64, width=64)


def stage_of(lesson, batch=8):
    dice = torch.Generator().manual_seed(1)
    labels = draw_labels(batch, dice, lesson)
    stage = set_stage(labels, SIZE, dice)
    return labels, stage, read_tracks(track(stage, labels, SIZE))


def test_the_cells_of_the_tracks_show_what_the_scenes_show():
    size = SceneSize(frames=5, height=64, width=96)
    scenes = make_scenes(16, size, torch.Generator().manual_seed(2), EVERYTHING)
    cells = lay_cells(scenes.tracks, (4, 6))[:, 0]
    inside = cells[..., 0]
    clear = inside > 0.9
    assert clear.any()
    for axis in (0, 1):
        point = cells[..., 1 + axis] / inside
        shown = scenes.surface[:, axis, 0]
        torch.testing.assert_close(point[clear], shown[clear], atol=1e-4, rtol=0)


def test_every_slot_is_filled_by_who_is_there():
    lesson = Lesson(relations=("beside",), counts=("one", "three"), thirds=0.5)
    labels, _, (figures, _, _) = stage_of(lesson, 32)
    there = figures.there[:, 0] > 0
    assert there[:, 0].all()
    assert torch.equal(there[:, :ALIKE].sum(dim=1), labels["counts"] + 1)
    assert torch.equal(there[:, ALIKE], labels["others"] != ABSENT)
    assert torch.equal(there[:, ALIKE + 1], labels["thirds"] != ABSENT)


def test_the_camera_is_told():
    names = {"still": 0.0, "pan": 0.1, "zoom": 0.1}
    for row, (name, least) in enumerate(names.items()):
        _, _, (_, camera, _) = stage_of(Lesson(cameras=(name,)))
        moves = camera.amax(dim=1) - camera.amin(dim=1)
        assert (moves.amax(dim=1) >= least).all()
        assert (moves.argmax(dim=1) == {1: 0, 2: 2}.get(row, 0)).all()


def test_landings_are_where_the_subject_is_lowest():
    _, stage, (figures, _, landing) = stage_of(Lesson(motions=("bounce",)))
    lowest = figures.y[..., 0].topk(3, dim=1).indices
    near = landing.amax(dim=2).gather(1, lowest)
    assert near.mean() > 2 * landing.mean()
    assert stage.time.shape == (8, 17)


def test_only_who_walks_is_heard_to_step():
    labels, _, (_, _, landing) = stage_of(Lesson(motions=("walk",)), 64)
    gaits = [load_world().subjects[row].facts["gait"] for row in labels["subjects"].tolist()]
    steps = torch.tensor([gait == "walker" for gait in gaits])
    assert steps.any()
    assert landing[steps].amax(dim=(1, 2)).min() > 0.3
    assert landing[~steps].max() < 0.01
