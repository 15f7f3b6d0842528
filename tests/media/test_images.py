from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aiprod_studio.errors import MediaError
from aiprod_studio.media.images import (
    PIXEL_LIMIT,
    fit,
    read_image,
    resize,
    write_image,
    write_sequence,
)

QUADRANTS = np.zeros((20, 40, 3), np.uint8)
QUADRANTS[:10, :20] = (250, 10, 10)
QUADRANTS[10:, 20:] = (10, 10, 250)


def test_png_comes_back_exactly(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", QUADRANTS)
    assert np.array_equal(read_image(tmp_path / "a.png"), QUADRANTS)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.webp"])
def test_lossy_formats_come_back_nearly(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, QUADRANTS)
    assert np.abs(read_image(tmp_path / name).astype(int) - QUADRANTS).mean() < 5


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(QUADRANTS).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), np.rot90(QUADRANTS, -1))


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image[:2].max() == 0
    assert image[2:].min() == 255


def test_palette_with_transparency_is_read(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "a.png", transparency=0)
    read = read_image(tmp_path / "a.png")
    assert read[0, 0].tolist() == [255, 255, 255]
    assert read[1, 1].tolist() == [0, 0, 255]


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path: Path) -> None:
    grey = np.array([[0, 128 * 257, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_the_first_frame_of_an_animation_is_read(tmp_path: Path, name: str) -> None:
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    red.save(tmp_path / name, save_all=True, append_images=[blue], lossless=True)
    assert read_image(tmp_path / name)[4, 4].tolist() == [255, 0, 0]


def test_missing_text_empty_and_truncated_files_are_explained(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    write_image(tmp_path / "whole.png", noise)
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    for name, reason in [
        ("missing.png", "does not exist"),
        ("text.png", "not a picture"),
        ("empty.png", "is empty"),
        ("cut.png", "cut short"),
        (".", "is a folder"),
    ]:
        with pytest.raises(MediaError, match=reason):
            read_image(tmp_path / name)


@pytest.mark.parametrize("side", [7_100, 10_000, 20_000])
def test_huge_pictures_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    assert side * side > PIXEL_LIMIT
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="50 megapixels"):
        read_image(tmp_path / "a.png")


def test_resize_and_fit_cover_the_size() -> None:
    assert resize(QUADRANTS[None].repeat(3, 0), 10, 6).shape == (3, 6, 10, 3)
    square = fit(QUADRANTS, 20, 20)
    assert square.shape == (20, 20, 3)
    assert square[2, 2].tolist() == [250, 10, 10]
    assert square[17, 17].tolist() == [10, 10, 250]


def test_sequences_go_to_patterns_and_folders(tmp_path: Path) -> None:
    frames = [np.full((4, 4, 3), value, np.uint8) for value in (10, 20, 30)]
    assert write_sequence(tmp_path / "name_%03d.png", frames) == 3
    assert write_sequence(tmp_path / "folder", frames) == 3
    assert read_image(tmp_path / "name_002.png")[0, 0, 0] == 30
    assert read_image(tmp_path / "folder" / "frame_00001.png")[0, 0, 0] == 20
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_a_sequence_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    frames = [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)]
    for name in ("name_%03d.png", "folder"):
        with pytest.raises(MediaError, match="uint8 pictures"):
            write_sequence(tmp_path / name, frames)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["plain.png", "two_%d_%d.png", "name_%s.jpg"])
def test_patterns_without_a_number_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="pattern"):
        write_sequence(tmp_path / name, [QUADRANTS])


def test_foreign_suffixes_and_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="suffix"):
        write_image(tmp_path / "a.bmp2", QUADRANTS)
    with pytest.raises(MediaError, match="uint8"):
        write_image(tmp_path / "a.png", QUADRANTS.astype(np.float32))  # type: ignore[arg-type]
