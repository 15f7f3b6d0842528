from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aiprod_studio.errors import MediaError
from aiprod_studio.media.audio import write_wav
from aiprod_studio.media.images import write_image
from aiprod_studio.media.tags import add_gif_tags, add_mp4_xmp, read_tags
from aiprod_studio.media.video import read_clip
from aiprod_studio.media.writer import write_video

TEXT = "Grüße " * 200


def test_gifs_take_a_comment_and_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    frames = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), np.uint8)
    write_video(path, frames, 10)
    before = read_clip(path)
    add_gif_tags(path, TEXT, b"<xmp/>")
    assert np.array_equal(read_clip(path).frames, before.frames)
    assert read_tags(path)["comment"] == TEXT
    with Image.open(path) as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]


def test_mp4_takes_xmp_and_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    write_video(path, frames, 10, metadata={"comment": TEXT})
    add_mp4_xmp(path, b"<xmp/>")
    assert path.read_bytes().endswith(b"<xmp/>")
    assert len(read_clip(path).frames) == 3
    assert read_tags(path)["comment"] == TEXT


def test_tags_of_pictures_and_sound_are_read(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8), {"Comment": TEXT})
    write_wav(tmp_path / "a.wav", np.zeros((1, 99), np.float32), 8_000, {"comment": TEXT})
    assert read_tags(tmp_path / "a.png")["comment"] == TEXT
    assert read_tags(tmp_path / "a.wav")["comment"] == TEXT


@pytest.mark.parametrize("name", ["a.png", "a.mp4", "a.gif"])
def test_foreign_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("hello")
    with pytest.raises(MediaError):
        read_tags(tmp_path / name)
