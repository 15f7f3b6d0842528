"""What tiles cost and what their seams show: `python tests/benchmarks/tiling.py [PICTURE.png]`.

The starter's decoder on rendered scenes. Even tiles and tiles laid by content take turns; seams are
judged by the worst 2 % of all cells of 16 × 16 pixels, where an edge would be seen. A long
clip is streamed and the growth of the process printed. The picture shows, per way of decoding,
what it changed in the clip with the worst seams, 16 times as strong.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor

from aiprod_studio.engines.bundle import load_bundle
from aiprod_studio.models.video_vae import VideoVAE
from aiprod_studio.sampling.layout import lay_by_content, lay_evenly, work
from aiprod_studio.sampling.tiling import Tiling, decode_stream, decode_tiled, encode_tiled
from aiprod_studio.settings import settings
from aiprod_studio.training.scenes import EVERYTHING, make_scenes
from aiprod_studio.training.stage import SceneSize

SIZE = SceneSize(frames=9, height=256, width=384)
CLIPS = 4
PAIRS = ((96, 32), (96, 64), (128, 32), (128, 48), (128, 80), (192, 64))


@dataclass(frozen=True)
class Sample:
    """A scene `[1, 3, T, H, W]`, its latents and what the whole decoder makes of them."""

    video: Tensor
    latents: Tensor
    whole: Tensor


@dataclass(frozen=True)
class Score:
    """Processor seconds, and how far the pieces are from the whole."""

    seconds: float
    loss: float
    worst: float
    apart: float


def judge(vae: VideoVAE, sample: Sample, tiling: Tiling) -> Score:
    """Decode a sample in pieces; `loss` is in dB of PSNR, `apart` the PSNR against the whole."""
    begin = time.process_time()
    seen = decode_tiled(vae.decode, sample.latents, tiling)
    seconds = time.process_time() - begin
    change = (seen - sample.whole).square()
    cells = torch.nn.functional.avg_pool2d(change.mean(dim=(0, 1)), 16).flatten().sort().values
    loss = (seen - sample.video).square().mean() / (sample.whole - sample.video).square().mean()
    apart = 10 * math.log10(4 / max(change.mean().item(), 1e-12))
    return Score(seconds, 10 * math.log10(loss), cells[-len(cells) // 50 :].mean().item(), apart)


def show(name: str, scores: list[Score], area: float) -> None:
    """Print one row of the table."""
    print(
        f"{name:<22}{area:7.2f}{sum(one.seconds for one in scores):9.2f} s"
        f"{max(one.loss for one in scores):11.4f} dB"
        f"{statistics.fmean(one.apart for one in scores):9.1f} dB"
        f"{statistics.fmean(one.worst for one in scores):11.1e}"
    )


def compare(vae: VideoVAE, samples: list[Sample]) -> None:
    """Print even tiles beside those laid by content, clip by clip in turn."""
    print(f"{'tiles':<22}{'area':>7}{'seconds':>11}{'PSNR loss':>14}{'to whole':>12}{'worst':>11}")
    whole = Tiling(16, 4)
    show("none", [judge(vae, sample, whole) for sample in samples], 1.0)
    for tile, overlap in PAIRS:
        even, laid = (Tiling(16, 4, tile, overlap, by_content=way) for way in (False, True))
        turns = [(judge(vae, one, even), judge(vae, one, laid)) for one in samples]
        H, W = samples[0].latents.shape[-2:]
        areas = [
            work(lay_by_content(one.latents, laid.side, laid.shared)) / H / W for one in samples
        ]
        show(f"uniform {tile}/{overlap}", [turn[0] for turn in turns], area_of(even, H, W))
        show(f"content {tile}/{overlap}", [turn[1] for turn in turns], statistics.fmean(areas))
        first, second = (sum(turn[way].seconds for turn in turns) for way in (0, 1))
        print(f"{'':<22}content takes {second / first:.2f} of the time of uniform")


def stream_seams(vae: VideoVAE) -> None:
    """Print what chunks of 16 frames cost in clips of 33."""
    samples = sample_scenes(vae, SceneSize(33, 128, 128))
    tiling = Tiling(16, 4, chunk=16)
    spans = tiling.spans(9)
    twice = sum(span.length for span in spans) / 9
    show("none, 33 frames", [judge(vae, one, Tiling(16, 4)) for one in samples], 1.0)
    show("stream 16", [judge(vae, one, tiling) for one in samples], twice)


def sample_scenes(vae: VideoVAE, size: SceneSize) -> list[Sample]:
    """Return scenes of that size, encoded and decoded at once."""
    videos = make_scenes(CLIPS, size, torch.Generator().manual_seed(7), EVERYTHING).video
    latents = [vae.encode(video) for video in videos.split(1)]
    return [
        Sample(video, one, vae.decode(one))
        for video, one in zip(videos.split(1), latents, strict=True)
    ]


def area_of(even: Tiling, height: int, width: int) -> float:
    """Return what even tiles decode, as a multiple of the frame."""
    return work(lay_evenly(height, width, even.side, even.shared)) / height / width


def lay_cost(vae: VideoVAE, sample: Sample) -> None:
    """Print what laying tiles by content costs beside decoding."""
    begin = time.process_time()
    for _ in range(20):
        lay_by_content(sample.latents, 8, 2)
    laid = (time.process_time() - begin) / 20
    begin = time.process_time()
    vae.decode(sample.latents)
    share = laid / (time.process_time() - begin)
    print(f"laying tiles by content: {1e3 * laid:.1f} ms, {share:.2%} of the whole decode")


def encode_seams(vae: VideoVAE, sample: Sample) -> None:
    """Print how far latents encoded in pieces are from those encoded at once."""
    found = encode_tiled(vae.encode, sample.video, Tiling(16, 4, 128, 32))
    change = (found - sample.latents).square().mean().item()
    seen = vae.decode(found)
    loss = (seen - sample.video).square().mean() / (sample.whole - sample.video).square().mean()
    print(f"encoded in tiles: mean square {change:.1e} apart, {10 * math.log10(loss):.4f} dB lost")


def stream_long(vae: VideoVAE) -> None:
    """Print the growth of the process while ever longer clips are streamed, after one of them."""
    tiling, process = Tiling(16, 4, chunk=16), psutil.Process()
    channels = vae.config.latent_channels
    for groups in (33, 65, 129):
        latents, count, most = torch.randn(1, channels, groups, 8, 8), 0, 0
        before, begin = process.memory_info().rss, time.process_time()
        for frames in decode_stream(vae.decode, latents, tiling):
            count += frames.shape[2]
            most = max(most, process.memory_info().rss - before)
        spent = time.process_time() - begin
        whole = 3 * 4 * count * 128 * 128
        print(
            f"streamed {count:4d} frames: {most / 2**20:+6.1f} MiB "
            f"(all frames: {whole / 2**20:.0f} MiB), {spent:.1f} s"
        )
        assert count == 4 * (groups - 1) + 1


def draw(vae: VideoVAE, samples: list[Sample], path: str) -> None:
    """Write what each way of decoding changed, below the frame that it was worst in."""
    ways = [Tiling(16, 4, 128, 32, by_content=way) for way in (False, True)]
    sample = max(samples, key=lambda one: judge(vae, one, ways[0]).worst)
    rows = [sample.whole[0, :, -1] / 2 + 0.5]
    for tiling in ways:
        change = decode_tiled(vae.decode, sample.latents, tiling) - sample.whole
        rows.append(change[0, :, -1] * 8 + 0.5)
    picture = torch.cat(rows, dim=1).clamp(0, 1).mul(255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(picture)).save(path)


def main() -> None:
    """Print the tables, and draw the picture where a path is given."""
    torch.set_num_threads(1)
    vae = load_bundle(settings().assets / "starter" / "starter.safetensors").video_vae
    with torch.inference_mode():
        stream_long(vae)
        samples = sample_scenes(vae, SIZE)
        compare(vae, samples)
        stream_seams(vae)
        lay_cost(vae, samples[0])
        encode_seams(vae, samples[0])
        if sys.argv[1:]:
            draw(vae, samples, sys.argv[1])


if __name__ == "__main__":
    main()
