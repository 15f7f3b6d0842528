"""Clips a second of the scene maker: `python tests/benchmarks/scenes.py`."""

from __future__ import annotations

import time

import torch

from aiprod_studio.training.scenes import SceneSize, make_scenes


def main() -> None:
    """Print clips a second for pictures, short clips and whole clips."""
    dice = torch.Generator().manual_seed(0)
    print(f"{torch.get_num_threads()} threads, 128×128")
    for frames, batch in ((1, 64), (5, 32), (17, 16)):
        size = SceneSize(frames=frames)
        make_scenes(batch, size, dice)
        begin = time.perf_counter()
        for _ in range(3):
            make_scenes(batch, size, dice)
        rate = 3 * batch / (time.perf_counter() - begin)
        print(f"{frames:3d} frames {rate:8.1f} clips a second {rate * frames:8.0f} frames a second")


if __name__ == "__main__":
    main()
