import json

import numpy as np
import pytest
import torch

from aiprod_studio.errors import BadRequest
from aiprod_studio.media.writer import write_video
from aiprod_studio.training.clips import (
    ClipFolder,
    Shelf,
    cut_video,
    lengths,
    nearest_shape,
    read_captions,
)
from aiprod_studio.training.data import seeded
from aiprod_studio.training.stage import SceneSize

SIZE = SceneSize(frames=9, height=32, width=32)


def film(path, frames=20, height=48, width=64, fps=8.0, cut=None, sound=True):
    """Write a clip whose grey rises slowly, and jumps at the frame `cut`."""
    grey = np.arange(frames) * 2 + 40
    if cut is not None:
        grey[cut:] += 120
    pictures = np.broadcast_to(grey[:, None, None, None], (frames, height, width, 3))
    tone = np.sin(np.arange(round(frames / fps * 16_000)) * 0.3)[None].astype(np.float32) * 0.5
    write_video(path, pictures.astype(np.uint8), fps, tone if sound else None)
    return path


def test_a_video_is_cut_into_pieces_of_one_take_and_rate(tmp_path):
    pieces = list(cut_video(film(tmp_path / "a.mp4", 20, cut=12), SIZE))
    # Nine frames; three before the cut, too few for a piece; five of the eight after it.
    assert [tuple(piece["video"].shape) for piece in pieces] == [(9, 32, 32, 3), (5, 32, 32, 3)]
    assert pieces[0]["audio"].shape == (18_000,)
    assert pieces[0]["audio"].abs().max() > 0.3
    assert (pieces[1]["video"].float().mean() - pieces[0]["video"].float().mean()) > 100


def test_a_video_of_another_rate_without_sound_has_silent_pieces(tmp_path):
    path = film(tmp_path / "a.mp4", 36, fps=24.0, sound=False)
    pieces = list(cut_video(path, SIZE))
    assert [len(piece["video"]) for piece in pieces] == [9]
    assert not pieces[0]["audio"].any()


def test_a_single_frame_counts_where_there_is_no_more(tmp_path):
    pieces = list(cut_video(film(tmp_path / "a.mp4", 2), SIZE))
    assert [len(piece["video"]) for piece in pieces] == [1]


def test_shapes_keep_the_area_and_lengths_fit_the_vae():
    size = SceneSize(17, 128, 128)
    assert nearest_shape(1.0, size) == (128, 128)
    assert nearest_shape(16 / 9, size) == (96, 176)
    assert nearest_shape(0.5, size) == (176, 96)
    assert lengths(17) == (1, 5, 9, 17)
    assert lengths(1) == (1,)
    assert all(n % 4 == 1 for n in lengths(49))


def test_captions_come_from_beside_the_file_before_the_table(tmp_path):
    videos = [tmp_path / f"{name}.mp4" for name in "abcde"]
    (tmp_path / "a.txt").write_text(" a dog \n", encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps({"caption": "a cat"}), encoding="utf-8")
    (tmp_path / "c.json").write_text('"a car"', encoding="utf-8")
    table = "File,Caption\nd.mp4,ein Hund\na.mp4,not this\nx.mp4,nothing\n"
    (tmp_path / "list.csv").write_text(table, encoding="utf-8")
    told = read_captions(tmp_path, videos)
    assert [told.get(video) for video in videos] == ["a dog", "a cat", "a car", "ein Hund", None]
    (tmp_path / "c.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadRequest, match="not valid JSON"):
        read_captions(tmp_path, videos)


def test_batches_are_of_one_bucket_and_pieces_are_kept_on_disk(tmp_path, caplog):
    folder = tmp_path / "videos"
    folder.mkdir()
    film(folder / "a.mp4", 9)
    film(folder / "b.mp4", 18)
    film(folder / "c.mp4", 9, height=64, width=48)
    (folder / "b.txt").write_text("grey", encoding="utf-8")
    (folder / "d.mp4").write_bytes(b"no video")
    shelf = Shelf(tmp_path / "cache")
    with caplog.at_level("INFO"):
        clips = ClipFolder(folder, shelf, SIZE)
    assert "d.mp4 cannot be read" in caplog.text
    assert "4 pieces of 4 videos, 3 of them without a caption" in caplog.text
    assert [piece.held_out for piece in clips.pieces] == [True, False, False, False]
    assert [piece.caption for piece in clips.pieces] == ["", "grey", "grey", ""]
    for seed in range(4):
        rows = clips.draw(3, seeded(seed), clips.pixels)
        assert len({clips.pieces[n].bucket for n in rows["piece"].tolist()}) == 1
        assert rows["video"].shape[:3] == (3, 3, 9)
        assert rows["video"].abs().max() <= 1
        assert torch.equal(rows["video"], clips.draw(3, seeded(seed), clips.pixels)["video"])
    assert clips.draw(1, seeded(0), clips.pixels, held_out=True)["piece"].tolist() == [0]
    kept = {path: path.stat().st_mtime_ns for path in shelf.folder.iterdir()}
    assert ClipFolder(folder, shelf, SIZE).pieces == clips.pieces
    assert {path: path.stat().st_mtime_ns for path in shelf.folder.iterdir()} == kept


def test_a_folder_without_videos_is_told(tmp_path):
    shelf = Shelf(tmp_path / "cache")
    with pytest.raises(BadRequest, match="is no folder"):
        ClipFolder(tmp_path / "none", shelf, SIZE)
    with pytest.raises(BadRequest, match="There are no videos"):
        ClipFolder(tmp_path, shelf, SIZE)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(BadRequest, match="No video in"):
        ClipFolder(tmp_path, shelf, SIZE)
