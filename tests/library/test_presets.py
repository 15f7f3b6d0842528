"""Presets: those that are shipped, a person's own, and what is refused."""

from pathlib import Path

import pytest

from aiprod_studio.errors import BadRequest
from aiprod_studio.library.presets import load_preset, preset_files, read_preset
from aiprod_studio.settings import settings
from aiprod_studio.types import Request


@pytest.fixture
def home() -> Path:
    folder = settings().home / "presets"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", ["default", "draft", "fast", "quality"])
def test_shipped_presets_are_valid_and_described(name: str) -> None:
    preset = load_preset(name)
    assert preset.description.endswith(".")
    assert Request(prompt="a cat", **preset.values).prompt == "a cat"


def test_shipped_presets_are_ordered_by_steps() -> None:
    steps = [load_preset(name).values["steps"] for name in ("draft", "fast", "quality")]
    assert steps == sorted(steps)


def test_an_unknown_preset_names_the_known(home: Path) -> None:
    with pytest.raises(BadRequest, match=r"'turbo'.*default, draft, fast, quality"):
        load_preset("turbo")


def test_a_persons_own_preset_is_found_and_wins(home: Path) -> None:
    (home / "fast.toml").write_text("steps = 2\nfps = 8\naudio = false\n", encoding="utf-8")
    assert preset_files()["fast"].parent == home
    assert load_preset("fast").values == {"steps": 2, "fps": 8, "audio": False}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("colour = 1", "'colour'"),
        ('prompt = "a cat"', "'prompt'"),
        ("steps = 0", "steps"),
        ('width = "wide"', "width"),
        ("steps = ", "TOML"),
        ("a = " + "[" * 5000, "TOML"),
    ],
)
def test_refuses_a_bad_preset_and_names_the_file(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadRequest, match=word) as caught:
        read_preset(path)
    assert "mine.toml" in str(caught.value)


def test_refuses_a_preset_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadRequest, match=r"mine\.toml"):
        read_preset(tmp_path / "mine.toml")
