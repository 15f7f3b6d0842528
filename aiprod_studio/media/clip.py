"""The product: numpy frames and sound, finished in memory or as they come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Clip:
    """Frames uint8 `[T, H, W, 3]` (RGB) at `fps`, and sound float32 `[C, S]` in -1…1 or none."""

    frames: npt.NDArray[np.uint8]
    fps: float
    audio: npt.NDArray[np.float32] | None = None
    sample_rate: int = 16_000

    @property
    def count(self) -> int:
        """The number of frames."""
        return len(self.frames)

    @property
    def seconds(self) -> float:
        """The length of the picture in seconds."""
        return self.count / self.fps


@dataclass(frozen=True)
class Reel:
    """A clip whose `count` frames are made as they are taken, once: `chunks` of `[t, H, W, 3]`.

    All else is as in `Clip`.
    """

    chunks: Iterator[npt.NDArray[np.uint8]]
    count: int
    fps: float
    audio: npt.NDArray[np.float32] | None = None
    sample_rate: int = 16_000

    @property
    def frames(self) -> Iterator[npt.NDArray[np.uint8]]:
        """The frames `[H, W, 3]` that were not taken yet."""
        return chain.from_iterable(self.chunks)
