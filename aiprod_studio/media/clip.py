"""The finished product in memory: numpy frames and sound."""

from __future__ import annotations

from dataclasses import dataclass

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
    def seconds(self) -> float:
        """The length of the picture in seconds."""
        return len(self.frames) / self.fps
