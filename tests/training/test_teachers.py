import torch

from aiprod_studio.engines.engine import Text
from aiprod_studio.training.data import seeded
from aiprod_studio.training.teachers import (
    GIVEN,
    GUESSED,
    GUESSED_GIVEN,
    UNEVEN,
    UNSTEADY,
    add_noise,
)

B, T, H, W, SOUNDS = 2, 3, 2, 2, 5
ROWS = {"video": torch.zeros(B, 4, T, H, W), "audio": torch.zeros(B, 4, SOUNDS)}
TEXT = Text(torch.zeros(B, 12, 8), torch.zeros(B, 8))


def kind_of(times):
    """Return how the times `[B, N]` of a step's clips were drawn."""
    if times.shape[1] == 1:
        return "one for all"
    frames = times[:, : T * H * W].view(B, T, H * W)
    assert (frames == frames[:, :, :1]).all(), "one time per frame"
    assert (times[:, T * H * W :] == times[:, -1:]).all(), "one time for the sound"
    if (frames[:, 0] == 0).all():
        assert (frames[:, 1:, 0] == times[:, -1:]).all()
        return "first given"
    return "one for each frame"


def test_steps_have_one_time_or_a_first_frame_or_a_time_for_each():
    kinds = [kind_of(add_noise(ROWS, TEXT, 0.8, seeded("noise", n))["times"]) for n in range(600)]
    for kind, share in (("first given", GIVEN), ("one for each frame", UNEVEN)):
        assert abs(kinds.count(kind) / len(kinds) - share) < 0.06


def test_most_layouts_are_told_and_fewer_where_a_picture_is_given():
    rows = ROWS | {"tracks": torch.zeros(B, 9, 4)}
    laid = {"first given": [], "one for all": []}
    for number in range(400):
        noisy = add_noise(rows, TEXT, 0.8, seeded("laid", number))
        laid.setdefault(kind_of(noisy["times"]), []).append(noisy["laid"].float().mean().item())
        assert noisy["tracks"].abs().max() < 6 * UNSTEADY
    for kind, untold in (("first given", GUESSED_GIVEN), ("one for all", GUESSED)):
        assert abs(sum(laid[kind]) / len(laid[kind]) - (1 - untold)) < 0.1


def test_pictures_have_one_time_each():
    picture = {"video": ROWS["video"][:, :, :1]}
    kinds = {add_noise(picture, TEXT, 0.8, seeded(n))["times"].shape for n in range(20)}
    assert kinds == {(B, 1)}
