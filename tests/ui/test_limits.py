"""The limits: what visitors may ask for, and a file that changes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiprod_studio.errors import BadRequest, StudioError
from aiprod_studio.types import Request
from aiprod_studio.ui.limits import FILE, Limits, read_limits


def test_a_file_changes_the_limits(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == Limits()
    (tmp_path / FILE).write_text("seconds = 2.5\njobs = 3\n", encoding="utf-8")
    assert read_limits(tmp_path) == Limits(seconds=2.5, jobs=3)


@pytest.mark.parametrize("text", ["sides = 4", "jobs = 0", "jobs = true", "jobs = 'a'", "jobs ="])
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(StudioError, match=FILE):
        read_limits(tmp_path)


@pytest.mark.parametrize(
    ("wishes", "word"),
    [
        ({"width": 2048}, "pixels"),
        ({"height": 2048}, "pixels"),
        ({"seconds": 2.0}, "seconds"),
        ({"seconds": None}, "seconds"),
        ({"steps": 61}, "steps"),
        ({"loras": ["/etc/passwd"]}, "LoRA"),
        ({"engine": "hub:somebody/private"}, "does not exist"),
    ],
)
def test_more_than_the_limit_is_refused(tmp_path: Path, wishes: dict[str, Any], word: str) -> None:
    limits = Limits(seconds=1.0)
    values = {"seconds": 1.0, **wishes}
    with pytest.raises(BadRequest, match=word):
        limits.check(Request.from_json({"prompt": "a dog", **values}), tmp_path)


def test_only_a_picture_of_ones_own_may_be_used(tmp_path: Path) -> None:
    pictures, limits = tmp_path / "pictures", Limits()
    pictures.mkdir()
    own, foreign = pictures / "a.png", tmp_path / "b.png"
    link = pictures / "link.png"
    for file in (own, foreign):
        file.write_bytes(b"picture")
    link.symlink_to(foreign)
    limits.check(Request("a dog", image=str(own)), pictures)
    for image in (foreign, link, pictures / "../b.png", pictures / "gone.png", Path("a.png")):
        with pytest.raises(BadRequest, match="not one of yours"):
            limits.check(Request("a dog", image=str(image)), pictures)
        with pytest.raises(BadRequest, match="not one of yours"):
            limits.check(Request("a dog", last_image=str(image)), pictures)
