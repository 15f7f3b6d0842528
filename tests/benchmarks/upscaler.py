"""What a trained upscaler gains over Lanczos, on scenes that training never shows.

    python tests/benchmarks/upscaler.py [bundle]

Without a bundle it is the one that the trainer left in the data folder.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from aiprod_studio.engines.bundle import load_bundle
from aiprod_studio.media.images import resize
from aiprod_studio.settings import settings
from aiprod_studio.training.losses import peak_ratio
from aiprod_studio.training.scenes import EVERYTHING, make_scenes
from aiprod_studio.training.stage import SceneSize

SCENES = 64


def main(bundle: Path) -> None:
    """Print the peak signal-to-noise ratio, whole frame and inside the subject, and the time."""
    upscaler = load_bundle(bundle).upscaler
    if upscaler is None:
        sys.exit(
            f"{bundle} has no upscaler. Train one: aiprod-studio train starter --only upscaler"
        )
    dice = torch.Generator().manual_seed(20)
    size = SceneSize(frames=1, height=256, width=256)
    made = make_scenes(SCENES, size, dice, EVERYTHING, held_out=True)
    large, subject = made.video[:, :, 0], made.subject
    small = F.avg_pool2d(large, 2)
    pixels = ((small + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    start = time.perf_counter()
    lanczos = resize(np.ascontiguousarray(pixels), 256, 256)
    middle = time.perf_counter()
    with torch.inference_mode():
        seen = upscaler(torch.tensor(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1)
    end = time.perf_counter()
    smooth = torch.tensor(lanczos).permute(0, 3, 1, 2).float() / 127.5 - 1
    print(f"{'':<10}{'whole':>8}{'subject':>9}{'ms a frame':>12}")
    for name, made_so, seconds in (
        ("Lanczos", smooth, middle - start),
        ("upscaler", seen.clamp(-1, 1), end - middle),
    ):
        whole = peak_ratio(made_so, large, torch.ones_like(subject))
        inside = peak_ratio(made_so, large, subject)
        print(f"{name:<10}{whole:>8.2f}{inside:>9.2f}{seconds / SCENES * 1e3:>12.1f}")


if __name__ == "__main__":
    left = settings().training / "starter" / "starter.safetensors"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else left)
