import pytest

from aiprod_studio.errors import BadRequest
from aiprod_studio.settings import settings
from aiprod_studio.training.curriculum import NETWORKS, find_curriculum, read_curriculum


@pytest.mark.parametrize("name", ["starter", "base", "demo"])
def test_what_is_shipped_can_be_read_and_trains_every_network(name):
    assert (settings().presets / "training" / f"{name}.toml").is_file()
    curriculum = find_curriculum(name)
    assert [phase.number for phase in curriculum.phases] == list(
        range(1, len(curriculum.phases) + 1)
    )
    assert {n for phase in curriculum.phases for n in phase.exercises} == set(NETWORKS)
    if name != "demo":
        assert len(curriculum.phases) == 5


def test_a_phase_reviews_what_those_before_it_taught(tiny):
    first, second = tiny.phases
    assert tiny.lessons(1) == ((first.lesson, 1.0),)
    assert tiny.lessons(2) == ((first.lesson, 0.5), (second.lesson, 0.5))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 3", "seed = 'three'", "seed is 'three'"),
        ('"ball", "dog"', '"ball", "unicat"', "no 'unicat' among the subjects"),
        ("cameras = [", "kameras = [", "'kameras' is unknown"),
        ("height = 32", "height = 30", "multiples of 16"),
        ("frames = 5", "frames = 6", "6 frames cannot be grouped"),
        ("steps = 2", "steps = 0", "at least 1"),
        ("share = 0.1", "share = 0", "above 0"),
        ("batch = 8\n", "", "batch is missing"),
        ("window = 16", "window = 64", "within the frame"),
        ('family = "starter"', 'family = "huge"', "Use starter or base"),
        ("pictures = 0.5", "pictures = 2", "from 0 to 1"),
        ("pictures = 0.5", "windowed = 0.5", "a share from 0 to 1 with a window"),
        ("whole_world = 1.0", "whole_world = 1.5", "whole_world is a share of the scenes"),
        ("pictures = 0.5", "learns = '('", "no regular expression"),
        ("seed = 3", "seed =", "not valid TOML"),
        ("cameras = [", 'sizes = ["giant"]\ncameras = [', "no 'giant' among the sizes"),
        ("cameras = [", "thirds = 2\ncameras = [", "thirds is the share"),
        ("cameras = [", "thirds = true\ncameras = [", "thirds is True"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tiny_file, old, new, said):
    text = tiny_file.read_text(encoding="utf-8")
    assert old in text
    tiny_file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(BadRequest, match=said):
        read_curriculum(tiny_file)


def test_base_shows_sizes_counts_and_thirds_after_its_first_phase():
    first, *others = (phase.lesson for phase in find_curriculum("base").phases)
    assert (first.sizes, first.counts, first.thirds) == (("usual",), ("one",), 0.0)
    assert all(lesson.sizes == lesson.counts == () for lesson in others)
    assert sum(lesson.thirds > 0 for lesson in others) >= 3


def test_what_holds_everywhere_gives_way_to_what_a_phase_says(tiny_file):
    text = tiny_file.read_text(encoding="utf-8")
    everywhere = '[everywhere]\ncameras = ["pan"]\nfps = 4\n\n'
    tiny_file.write_text(text.replace("[[phases]]", everywhere + "[[phases]]", 1), encoding="utf-8")
    first, second = read_curriculum(tiny_file).phases
    assert (first.lesson.cameras, second.lesson.cameras) == (("still",), ("pan",))
    assert first.size.fps == second.size.fps == 4


def test_a_curriculum_has_phases(tiny_file):
    tiny_file.write_text('description = "none"', encoding="utf-8")
    with pytest.raises(BadRequest, match="no phases"):
        read_curriculum(tiny_file)


def test_an_unknown_name_lists_those_that_exist():
    with pytest.raises(BadRequest, match=r"base, demo, starter"):
        find_curriculum("unknown")
