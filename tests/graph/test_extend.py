"""Clips that go on from another one: frames, sound, what is taken over, what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aiprod_studio.cli import main
from aiprod_studio.engines.catalog import find_card
from aiprod_studio.errors import BadRequest, MediaError
from aiprod_studio.graph.extend import append, continued, read_end
from aiprod_studio.library.provenance import read_request
from aiprod_studio.media.clip import Clip, Reel
from aiprod_studio.media.images import write_image
from aiprod_studio.media.video import read_clip
from aiprod_studio.media.writer import write_video
from aiprod_studio.types import Request, complete, frame_count

RATE = 16_000
STEPS = ("--steps", "1", "--seconds", "0.6", "--seed", "3")


def grey(count: int, first: int, step: int, side: tuple[int, int] = (32, 48)) -> np.ndarray:
    """Return frames `[count, *side, 3]`, each lighter than the one before."""
    levels = first + step * np.arange(count)
    return np.broadcast_to(levels[:, None, None, None], (count, *side, 3)).astype(np.uint8).copy()


def reel(frames: np.ndarray, sound: np.ndarray | None = None) -> Reel:
    """Return a new clip whose frames come in two chunks, 8 a second."""
    return Reel(iter(np.split(frames, [2])), len(frames), 8.0, sound, RATE)


def join(path: Path, new: Reel, size: tuple[int, int], fps: float) -> Clip:
    """Return the whole of an extended clip."""
    whole = append(path, new, size, fps)
    frames = np.stack(list(whole.frames))
    assert len(frames) == whole.count
    return Clip(frames, whole.fps, whole.audio, whole.sample_rate)


def levels(frames: np.ndarray) -> list[int]:
    """Return how light each frame is, to the nearest ten."""
    return [int(round(frame.mean(), -1)) for frame in frames]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Six frames of 48x32 from 20 to 70, at 8 a second, with a loud constant sound."""
    path = tmp_path / "old.mp4"
    sound = np.full((1, RATE * 6 // 8), 0.5, np.float32)
    write_video(path, grey(6, 20, 10), 8.0, sound, RATE)
    return path


def test_the_frame_at_the_join_is_not_doubled(old: Path) -> None:
    new = reel(grey(5, 70, 30, (64, 96)), np.full((1, RATE * 5 // 8), -0.5, np.float32))
    whole = join(old, new, (48, 32), 8.0)
    assert whole.frames.shape == (10, 32, 48, 3)
    assert levels(whole.frames) == [20, 30, 40, 50, 60, 70, 100, 130, 160, 190]
    assert levels(read_end(old)[None]) == [70]


def test_the_sound_is_as_long_as_the_picture_and_crosses_over_in_twenty_milliseconds(
    old: Path,
) -> None:
    new = reel(grey(5, 70, 30), np.full((2, RATE * 5 // 8), -0.5, np.float32))
    sound = append(old, new, (48, 32), 8.0).audio
    assert sound is not None
    assert sound.shape == (2, RATE * 10 // 8)
    seam, fade = RATE * 6 // 8, RATE // 50
    assert np.allclose(sound[:, seam - fade - 2000 : seam - fade], 0.5, atol=0.1)
    assert np.allclose(sound[:, seam - fade // 2], 0.0, atol=0.1)
    assert np.allclose(sound[:, seam:], -0.5, atol=0.01)


@pytest.mark.parametrize("loud", ["old", "new", "none"])
def test_a_part_without_sound_is_silent(tmp_path: Path, loud: str) -> None:
    path, sound = tmp_path / "old.mp4", np.full((1, RATE), 0.5, np.float32)
    write_video(path, grey(8, 20, 10), 8.0, sound if loud == "old" else None, RATE)
    new = reel(grey(9, 90, 10), sound if loud == "new" else None)
    whole = append(path, new, (48, 32), 8.0).audio
    if loud == "none":
        assert whole is None
        return
    assert whole is not None
    assert whole.shape == (1, 2 * RATE)
    quiet, heard = (whole[:, RATE + 9 :], whole[:, : RATE - 999])
    if loud == "new":
        quiet, heard = whole[:, : RATE - 999], whole[:, RATE + 9 : 2 * RATE - 2000]
    assert np.abs(quiet).max() < 0.01
    assert np.abs(heard).mean() > 0.4


@pytest.mark.parametrize(("fps", "count"), [(8.0, 4), (16.0, 8), (24.0, 12), (4.0, 2), (3.0, 2)])
def test_the_new_part_plays_as_fast_at_another_frame_rate(
    tmp_path: Path, fps: float, count: int
) -> None:
    path = tmp_path / "old.mp4"
    write_video(path, grey(6, 20, 10), fps)
    whole = join(path, reel(grey(5, 70, 30)), (48, 32), fps)
    assert len(whole.frames) == 6 + count
    assert levels(whole.frames[5:7])[1] > 90
    assert levels(whole.frames[-1:]) == [190]


def test_the_old_part_is_fitted_to_a_size_and_a_frame_rate_that_are_asked_for(old: Path) -> None:
    whole = join(old, reel(grey(5, 70, 30)), (96, 64), 4.0)
    assert levels(whole.frames) == [20, 40, 60, 130, 190]
    assert whole.frames.shape[1:3] == (64, 96)


def test_frames_are_taken_one_chunk_after_the_other(old: Path) -> None:
    """None of the new clip's before the old one is over, and none for the sound."""
    taken: list[int] = []

    def chunks() -> Iterator[np.ndarray]:
        for number in range(3):
            taken.append(number)
            yield grey(3, 70, 30)

    sound = np.full((1, RATE), -0.5, np.float32)
    whole = append(old, Reel(chunks(), 9, 8.0, sound, RATE), (48, 32), 8.0)
    assert whole.audio is not None
    assert whole.count == 14
    seen = [(levels(frame[None]), len(taken)) for frame in whole.frames]
    assert [count for _, count in seen] == [0] * 6 + [1] * 2 + [2] * 3 + [3] * 3


def test_what_is_left_open_is_the_clips(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    write_video(path, grey(6, 20, 10, (70, 100)), 25.0)
    full = complete(continued(Request("on", extend=str(path))), find_card("starter"))
    assert (full.width, full.height, full.fps) == (100, 70, 25.0)
    assert frame_count(full, find_card("starter")) == 17
    own = continued(Request("on", extend=str(path), width=64, height=48, fps=8.0))
    assert (own.width, own.height, own.fps) == (64, 48, 8.0)
    assert continued(Request("on")) == Request("on")


def test_what_cannot_be_extended_is_refused(tmp_path: Path, old: Path) -> None:
    with pytest.raises(BadRequest, match="first picture already"):
        Request("on", image="a.png", extend="b.mp4")
    picture, text = tmp_path / "a.png", tmp_path / "a.mp4"
    write_image(picture, grey(1, 20, 0)[0])
    text.write_text("no clip", encoding="utf-8")
    for path, said in (
        (picture, "single picture"),
        (text, "cannot be extended"),
        (tmp_path / "gone.mp4", "does not exist"),
    ):
        with pytest.raises(BadRequest, match=said):
            continued(Request("on", extend=str(path)))
    with pytest.raises(BadRequest, match="too long"):
        continued(Request("on", extend=str(old), seconds=599.9))
    unable = dataclasses.replace(find_card("starter"), tasks=("text",))
    with pytest.raises(BadRequest, match="go on from another clip"):
        complete(Request("on", extend=str(old)), unable)
    with pytest.raises(MediaError, match="does not exist"):
        read_end(tmp_path / "gone.mp4")


def test_the_command_line_extends_and_does_so_again_from_the_settings(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--cli", "a dog", "--extend", str(old), *STEPS, "--out", str(tmp_path)]) == 0
    path = Path(capsys.readouterr().out.strip())
    whole = read_clip(path)
    assert whole.frames.shape == (10, 32, 48, 3)
    assert whole.audio is not None
    assert abs(whole.audio.shape[1] / whole.sample_rate - 10 / 8) < 0.01
    assert levels(whole.frames[:6]) == [20, 30, 40, 50, 60, 70]
    made = read_request(path)
    assert (made.extend, made.image, made.width, made.fps) == (str(old), None, 48, 8.0)
    assert main(["--from", str(path), "--out", str(tmp_path)]) == 0
    again = Path(capsys.readouterr().out.strip())
    assert again != path
    assert again.read_bytes() == path.read_bytes()
    assert main(["--cli", "a dog", "--extend", str(tmp_path / "gone.mp4")]) == 2
    assert "cannot be extended" in capsys.readouterr().err
