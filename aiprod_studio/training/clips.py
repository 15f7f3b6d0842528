"""Real clips: a folder of captioned videos, cut into pieces that batch together.

A caption lies beside its video as `name.txt` or `name.json` (`{"caption": "…"}` or a plain
string), or in a .csv of the folder with the columns `file` and `caption`. Pieces, their latents
and their captions' features are kept on disk, under the hash of all that they depend on.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from aiprod_studio.engines.tensors import write_tensors
from aiprod_studio.errors import BadRequest, MediaError
from aiprod_studio.media.audio import fitted, read_audio
from aiprod_studio.media.images import Frame, fit
from aiprod_studio.media.video import probe, read_frames
from aiprod_studio.models.video_vae import SPACE_FACTOR, TIME_FACTOR
from aiprod_studio.training.data import Rows
from aiprod_studio.training.stage import SceneSize

log = logging.getLogger(__name__)

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
ASPECTS = (9 / 16, 3 / 4, 1.0, 4 / 3, 16 / 9)
CUT_CHANGE = 48.0
"""The mean change of a frame's values (0…255) from which a new take begins."""

HELD_OUT = 10
"""One video in this many is never trained on, where there are at least two."""

_FILE_COLUMNS = ("file", "video", "path", "filename")
_TEXT_COLUMNS = ("caption", "text", "prompt")


@dataclass(frozen=True)
class Piece:
    """A piece of a video: its pixels' key on the shelf, its frames, height, width, and caption."""

    key: str
    bucket: tuple[int, int, int]
    caption: str
    held_out: bool


class Shelf:
    """Rows kept on disk by what they were made from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, key: str) -> bool:
        """Return whether there are rows of that key."""
        return self._path(key).exists()

    def put(self, key: str, rows: Rows) -> None:
        """Keep rows under a key, whole or not at all."""
        write_tensors(self._path(key), rows)

    def get(self, key: str, make: Callable[[], Rows] | None = None) -> Rows:
        """Return the rows of a key, made and kept first where there are none."""
        path = self._path(key)
        if make is not None and not path.exists():
            self.put(key, make())
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise MediaError(
                f"The cache {path} cannot be read. Delete its folder; it is made again."
            ) from error

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"


class ClipFolder:
    """The pieces of a folder's videos at one size: that area in the nearest shape, that rate.

    Raises `BadRequest` where there is no video that can be read.
    """

    def __init__(self, folder: Path, shelf: Shelf, size: SceneSize) -> None:
        self.shelf, self.size = shelf, size
        videos = find_videos(folder)
        captions = read_captions(folder, videos)
        self.pieces = [
            piece
            for number, video in enumerate(videos)
            for piece in self._pieces_of(
                video, captions.get(video, ""), len(videos) > 1 and number % HELD_OUT == 0
            )
        ]
        if not any(not piece.held_out for piece in self.pieces):
            raise BadRequest(f"No video in {folder} can be read. Save some as .mp4 and try again.")
        silent = sum(video not in captions for video in videos)
        log.info(
            "%d pieces of %d videos, %d of them without a caption",
            len(self.pieces),
            len(videos),
            silent,
        )

    def draw(
        self,
        batch: int,
        dice: torch.Generator,
        load: Callable[[Piece], Rows],
        held_out: bool = False,
    ) -> Rows:
        """Return `batch` loaded pieces of one bucket, which is drawn by how many it has.

        The row `piece` is each one's number.
        """
        numbers = [n for n, piece in enumerate(self.pieces) if piece.held_out == held_out]
        one = numbers[int(torch.randint(len(numbers), (1,), generator=dice))]
        bucket = self.pieces[one].bucket
        numbers = [n for n in numbers if self.pieces[n].bucket == bucket]
        picks = torch.tensor(numbers)[torch.randint(len(numbers), (batch,), generator=dice)]
        rows = [load(self.pieces[pick]) for pick in picks.tolist()]
        stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return {**stacked, "piece": picks}

    @property
    def has_held_out(self) -> bool:
        """Whether any piece is never trained on."""
        return any(piece.held_out for piece in self.pieces)

    def pixels(self, piece: Piece) -> Rows:
        """Return `video` `[3, T, H, W]` in -1…1 and `audio` `[S]` in -1…1 of a piece."""
        kept = self.shelf.get(piece.key)
        video = kept["video"].permute(3, 0, 1, 2).float() / 127.5 - 1
        return {"video": video, "audio": kept["audio"].float()}

    def _pieces_of(self, video: Path, caption: str, held_out: bool) -> Iterator[Piece]:
        """Yield a video's pieces, cut and kept the first time; one that is damaged has none."""
        stat = video.stat()
        stem = f"{video.resolve()}/{stat.st_size}/{stat.st_mtime_ns}/{self.size}"
        if not self.shelf.has(stem):
            buckets = []
            try:
                for number, rows in enumerate(cut_video(video, self.size)):
                    self.shelf.put(f"{stem}/{number}", rows)
                    buckets.append(list(rows["video"].shape[:3]))
            except MediaError as error:
                log.warning("%s", error)
            # Written last: what is on the shelf is whole.
            self.shelf.put(stem, {"buckets": torch.tensor(buckets, dtype=torch.int64).view(-1, 3)})
        for number, bucket in enumerate(self.shelf.get(stem)["buckets"].tolist()):
            yield Piece(f"{stem}/{number}", (bucket[0], bucket[1], bucket[2]), caption, held_out)


def cut_video(path: Path, size: SceneSize) -> Iterator[Rows]:
    """Yield a video's pieces: `video` uint8 `[T, H, W, 3]` and `audio` float16 `[S]`, mono.

    A take is cut into pieces of `size.frames` at `size.fps`; what remains of it is cut to the
    longest shorter bucket. Raises `MediaError` for a file that cannot be read.
    """
    info = probe(path)
    height, width = nearest_shape(info.width / info.height, size)
    sound = np.zeros((1, 0), np.float32)
    if info.has_audio:
        sound = read_audio(path, size.sample_rate)
    mono = sound.mean(axis=0, keepdims=True)
    yielded = 0
    for begin, take in _takes(path, size):
        length = max((n for n in lengths(size.frames) if n <= len(take)), default=0)
        if not length or (length < TIME_FACTOR and yielded):
            continue  # a single frame counts only where a video has no more
        frames = np.stack([fit(frame, width, height) for frame in take[:length]])
        first = round(begin / size.fps * size.sample_rate)
        samples = round(length / size.fps * size.sample_rate)
        heard = fitted(mono[:, first:], samples)[0].astype(np.float16)
        yielded += 1
        yield {"video": torch.from_numpy(frames), "audio": torch.from_numpy(heard)}


def _takes(path: Path, size: SceneSize) -> Iterator[tuple[int, list[Frame]]]:
    """Yield runs of at most `size.frames` frames without a cut, each with its first number."""
    take: list[Frame] = []
    begin = 0
    for number, frame in enumerate(read_frames(path, size.fps)):
        if take and (len(take) == size.frames or _is_cut(take[-1], frame)):
            yield begin, take
            take, begin = [], number
        take.append(frame)
    if take:
        yield begin, take


def _is_cut(before: Frame, after: Frame) -> bool:
    """Return whether two frames have so little in common that a take must end between them."""
    coarse = [frame[::8, ::8].astype(np.float32) for frame in (before, after)]
    return bool(np.abs(coarse[0] - coarse[1]).mean() > CUT_CHANGE)


def lengths(frames: int) -> tuple[int, ...]:
    """Return the lengths in frames of pieces of at most `frames`: that, its halves, and one."""
    found = {1, frames}
    while frames > TIME_FACTOR + 1:
        frames = frames // 2 // TIME_FACTOR * TIME_FACTOR + 1
        found.add(frames)
    return tuple(sorted(found))


def nearest_shape(aspect: float, size: SceneSize) -> tuple[int, int]:
    """Return height and width in pixels: the area of `size` in the shape nearest to `aspect`."""
    near = min(ASPECTS, key=lambda one: abs(np.log(one / aspect)))
    side = (size.height * size.width) ** 0.5
    height, width = side / near**0.5, side * near**0.5
    step = SPACE_FACTOR
    return max(step, round(height / step) * step), max(step, round(width / step) * step)


def read_captions(folder: Path, videos: list[Path]) -> dict[Path, str]:
    """Return the captions of videos; those beside a file win over those in a .csv."""
    found: dict[Path, str] = {}
    for table in sorted(folder.rglob("*.csv")):
        found.update(_read_table(table, set(videos)))
    for video in videos:
        text = video.with_suffix(".txt")
        data = video.with_suffix(".json")
        if text.is_file():
            found[video] = _read_text(text).strip()
        elif data.is_file():
            found[video] = _read_json(data)
    return {video: caption for video, caption in found.items() if caption}


def _read_table(table: Path, videos: set[Path]) -> Iterator[tuple[Path, str]]:
    reader = csv.DictReader(_read_text(table).splitlines())
    names = {name.strip().lower(): name for name in reader.fieldnames or ()}
    file = next((names[name] for name in _FILE_COLUMNS if name in names), None)
    text = next((names[name] for name in _TEXT_COLUMNS if name in names), None)
    if file is None or text is None:
        return
    for row in reader:
        video = table.parent / (row[file] or "")
        if video in videos:
            yield video, (row[text] or "").strip()


def _read_json(path: Path) -> str:
    try:
        value: Any = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise BadRequest(f"{path} is not valid JSON ({error}). Correct it.") from error
    if isinstance(value, dict):
        value = next((value[name] for name in _TEXT_COLUMNS if name in value), "")
    return str(value).strip()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} cannot be read. Save it as UTF-8 text.") from error


def find_videos(folder: Path) -> list[Path]:
    """Return the videos in a folder and those below it; raises `BadRequest` for none."""
    if not folder.is_dir():
        raise BadRequest(f"{folder} is no folder. Give one that holds videos, or 'scenes'.")
    videos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not videos:
        raise BadRequest(f"There are no videos in {folder}. Put some there: {' '.join(SUFFIXES)}.")
    return videos


def digest(network: nn.Module) -> str:
    """Return a hash of a network's weights."""
    whole = hashlib.sha256()
    for name, values in network.state_dict().items():
        whole.update(name.encode())
        whole.update(
            values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return whole.hexdigest()[:16]
