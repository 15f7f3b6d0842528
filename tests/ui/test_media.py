"""Media: which addresses lead to a file, and which to none."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiprod_studio.settings import settings
from aiprod_studio.ui.media import locate, locate_absolute, media_url

NAMES = [
    "../secret.mp4",
    "a/../../secret.mp4",
    "./a.mp4",
    "a//b.mp4",
    "/etc/passwd",
    "//server/share/a.mp4",
    "\\\\server\\share\\a.mp4",
    "..\\secret.mp4",
    "C:/secret.mp4",
    "C:secret.mp4",
    ".trash/a.mp4",
    "a.mp4\0.png",
    "link.mp4",
    "folder",
    "gone.mp4",
    "n" * 5000,
    "",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / ".trash").mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    for name in ("a b.mp4", ".trash/a.mp4", "folder/b.mp4"):
        (root / name).write_bytes(b"clip")
    (root / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    return root


def test_a_file_below_the_root_is_found(root: Path) -> None:
    assert locate(root, "a b.mp4") == root / "a b.mp4"
    assert locate(root, "folder/b.mp4") == root / "folder" / "b.mp4"
    assert locate_absolute(root, str(root / "folder" / "b.mp4")) == root / "folder" / "b.mp4"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_else_is(root: Path, name: str) -> None:
    assert locate(root, name) is None
    assert locate_absolute(root, f"{root}/{name}") is None
    assert locate_absolute(root, name) is None


def test_an_address_names_no_folder_of_the_machine() -> None:
    clip = settings().outputs / "drafts" / "50 % & more.mp4"
    assert media_url(clip) == "media/clips/drafts/50%20%25%20%26%20more.mp4"
    assert media_url(settings().home / "thumbnails" / "a.webp") == "media/small/thumbnails/a.webp"
    assert media_url(Path("/elsewhere/a.mp4")) == "media/clips/a.mp4"
