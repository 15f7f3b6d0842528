"""A small moving picture and a tone, for tests that write and read real files."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

Frame = npt.NDArray[np.uint8]


@pytest.fixture
def moving() -> Callable[..., Iterator[Frame]]:
    """Return a maker of frames whose blue tells the frame's number: 8 + 5 * n."""

    def frames(count: int, width: int = 64, height: int = 48) -> Iterator[Frame]:
        y, x = np.mgrid[:height, :width]
        for number in range(count):
            base = 8 + 5 * (number % 40)
            shades = [base + x // 8, base + y // 8, np.full_like(x, base)]
            yield np.stack(shades, -1).astype(np.uint8)

    return frames


@pytest.fixture
def numbers() -> Callable[[Frame], list[int]]:
    """Return a reader of the numbers that frames `[T, H, W, 3]` of `moving` show."""
    return lambda frames: [round((float(frame[..., 2].mean()) - 8) / 5) for frame in frames]


@pytest.fixture
def tone() -> Callable[..., npt.NDArray[np.float32]]:
    """Return a maker of a tone of 440 Hz, float32 `[C, S]`."""

    def sound(samples: int, rate: int, channels: int = 1) -> npt.NDArray[np.float32]:
        wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(samples) / rate)
        return np.tile(wave.astype(np.float32), (channels, 1))

    return sound
