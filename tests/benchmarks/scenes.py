"""Clips a second of the scene maker, with sound: `python tests/benchmarks/scenes.py`.

One process with all threads, then one process a core with a thread each, as beside a trainer.
"""

from __future__ import annotations

import multiprocessing
import os
import time

import torch

from aiprod_studio.training.scenes import make_scenes
from aiprod_studio.training.stage import SceneSize

BATCH = {1: 64, 5: 32, 17: 16}


def rate(frames: int, threads: int, repeats: int = 4) -> float:
    """Return the clips of that many frames that one process makes in a second."""
    torch.set_num_threads(threads)
    dice, size = torch.Generator().manual_seed(0), SceneSize(frames=frames)
    make_scenes(BATCH[frames], size, dice)
    begin = time.perf_counter()
    for _ in range(repeats):
        make_scenes(BATCH[frames], size, dice)
    return repeats * BATCH[frames] / (time.perf_counter() - begin)


def main() -> None:
    """Print clips a second for pictures, short clips and whole clips of 128×128 pixels."""
    cores = os.cpu_count() or 1
    print(f"{'frames':>6} {'one process':>14} {f'{cores} processes':>14}   clips a second")
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        for frames in BATCH:
            alone = pool.apply(rate, (frames, cores))
            together = sum(pool.starmap(rate, [(frames, 1)] * cores))
            print(f"{frames:6d} {alone:14.1f} {together:14.1f}")


if __name__ == "__main__":
    main()
