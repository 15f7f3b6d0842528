import torch

from aiprod_studio.training.data import Mix, Pool, SceneRefills, cut_latents, cut_windows, seeded
from aiprod_studio.training.scenes import Lesson
from aiprod_studio.training.stage import SceneSize

REFILLS = SceneRefills(((Lesson(), 1.0),), SceneSize(1, 32, 32), 2, ("a", "test"))


def keep(rows):
    return {"video": rows["video"]}


def test_dice_belong_to_their_names():
    first = torch.rand(4, generator=seeded("a", 1))
    assert torch.equal(first, torch.rand(4, generator=seeded("a", 1)))
    assert not torch.equal(first, torch.rand(4, generator=seeded("a", 2)))


def test_a_pool_that_begins_late_draws_what_one_from_the_start_does():
    whole, late = Pool(REFILLS, keep, 3), Pool(REFILLS, keep, 3)
    for number in range(6):
        drawn = whole.draw(number, 4, seeded(number))["video"]
    again = late.draw(5, 4, seeded(5))["video"]
    assert torch.equal(drawn, again)
    assert drawn.shape == (4, 3, 1, 32, 32)


def test_a_process_beside_this_one_makes_the_same_scenes():
    beside, inline = Pool(REFILLS, keep, 2, workers=1), Pool(REFILLS, keep, 2)
    for number in (3, 4):
        rows = beside.draw(number, 4, seeded(number))
        assert torch.equal(rows["video"], inline.draw(number, 4, seeded(number))["video"])


def test_pictures_and_clips_are_counted_each_on_their_own():
    mix = Mix(0.3)
    pictures = [step for step in range(100) if mix.is_picture(step)]
    clips = [step for step in range(100) if not mix.is_picture(step)]
    assert len(pictures) == 30
    assert [mix.number(step) for step in pictures] == list(range(30))
    assert [mix.number(step) for step in clips] == list(range(70))
    assert not any(Mix(0.0).is_picture(step) for step in range(10))
    assert all(Mix(1.0).is_picture(step) for step in range(10))


def test_windows_lie_about_the_subject_and_within_the_frame():
    subject = torch.zeros(1, 1, 64, 64)
    subject[..., 40:48, 8:16] = 1
    video = torch.rand(1, 3, 1, 64, 64)
    for seed in range(8):
        cut = cut_windows({"video": video, "subject": subject}, 32, seeded(seed))
        assert cut["video"].shape == (1, 3, 1, 32, 32)
        assert cut["subject"].sum() == 64
    anywhere = cut_windows({"video": video[..., :16, :]}, 32, seeded(1))["video"]
    assert anywhere.shape == (1, 3, 1, 16, 32)


def test_latents_are_cut_about_the_subject_with_their_surface():
    video = torch.arange(2 * 3 * 64.0).view(2, 3, 1, 8, 8)
    surface = torch.zeros(2, 3, 1, 8, 8)
    surface[0, 2, 0, 5:7, 1:3] = 1
    surface[1, 2, 0, 0, 7] = 1
    rows = {"video": video, "surface": surface, "more": torch.ones(2)}
    cut = cut_latents(rows, 5, seeded(1))
    assert cut["surface"][0, 2].sum() == 4
    assert cut["surface"][1, 2].sum() == 1
    for row, (y, x, height, width) in enumerate(cut["window"].tolist()):
        assert torch.equal(cut["video"][row], video[row, ..., y : y + 5, x : x + 5])
        assert (height, width) == (8, 8)
    assert torch.equal(cut["more"], rows["more"])
