"""Clips through the denoiser together: each is what it is alone, and each has its own fate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from aiprod_studio import Request, Studio
from aiprod_studio.engines.catalog import find_engine
from aiprod_studio.engines.engine import Batching
from aiprod_studio.errors import Cancelled, MediaError
from aiprod_studio.graph.trail import Trail
from aiprod_studio.media.images import write_image
from aiprod_studio.media.video import read_clip
from aiprod_studio.types import Progress, Record

SMALL = {"width": 64, "height": 64, "seconds": 0.6, "steps": 4}
# Sums of several clips are rounded in another order; latents have about unit variance.
ROUNDING = 1e-4
# A level of the decoded picture, after rounding to 8 bits and H.264.
LEVEL = 1.0


def jobs(folder: Path, **wishes: str) -> list[tuple[Request, Path]]:
    """Return three clips of one shape."""
    prompts = ("a cat on a beach", "a dog in the snow", "a red ball")
    return [
        (Request(prompt, seed=seed, **SMALL, **wishes), folder / f"{seed}.mp4")
        for seed, prompt in enumerate(prompts)
    ]


def test_latents_are_those_of_single_renders_to_float_rounding(tmp_path):
    studio = Studio()
    planned = [studio.plan(request) for request, _ in jobs(tmp_path)]
    requests, plan = [full for full, _ in planned], planned[0][1]
    with find_engine("starter").load(plan) as parts:
        assert isinstance(parts, Batching)
        texts = [parts.encode_text(request.prompt) for request in requests]
        nothing = parts.encode_text("")
        points: list[list[torch.Tensor]] = []
        together = parts.denoise_together(
            texts,
            nothing,
            [{}] * 3,
            requests,
            plan,
            lambda *_: None,
            lambda at: points.append([one.clean for one in at]),
        )
        for text, request, latents in zip(texts, requests, together, strict=True):
            alone = parts.denoise(text, nothing, {}, request, plan, lambda *_: None)
            torch.testing.assert_close(latents.video, alone.video, atol=ROUNDING, rtol=0)
            torch.testing.assert_close(latents.audio, alone.audio, atol=ROUNDING, rtol=0)
    assert [len(at) for at in points] == [3] * SMALL["steps"]
    assert not torch.allclose(together[0].video, together[1].video, atol=0.1)


def test_files_are_those_of_single_renders_and_every_clip_tells_its_steps(tmp_path):
    told: list[tuple[int, Progress]] = []
    together = dict(
        Studio(batch=3).render_all(jobs(tmp_path / "a"), lambda n, p: told.append((n, p)))
    )
    alone = dict(Studio().render_all(jobs(tmp_path / "b")))
    for number in range(3):
        assert together[number].plan.batch == 3
        assert alone[number].plan.batch == 1
        one, other = (read_clip(which[number].path).frames for which in (together, alone))
        assert np.abs(one.astype(float) - other).mean() < LEVEL
        assert (number, Progress("denoise", 4, 4)) in told
    # The clips are denoised side by side, not one after the other.
    steps = [number for number, progress in told if progress == Progress("denoise", 1, 4)]
    assert steps == [0, 1, 2]
    assert told.index((2, Progress("denoise", 1, 4))) < told.index((0, Progress("denoise", 2, 4)))


def test_a_bad_picture_fails_alone(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"{number}.png", np.full((64, 64, 3), 60 * number, np.uint8))
    todo = [
        (Request("a cat", seed=n, image=str(tmp_path / f"{n}.png"), **SMALL), tmp_path / f"{n}.mp4")
        for n in range(3)
    ]
    (tmp_path / "1.png").write_bytes(b"no picture")
    outcomes = dict(Studio(batch=3).render_all(todo))
    assert isinstance(outcomes[1], MediaError)
    for number in (0, 2):
        assert isinstance(outcomes[number], Record)
        first = read_clip(todo[number][1]).frames[0]
        assert abs(first.mean() - 60 * number) < 25


def test_a_cancelled_clip_stops_alone(tmp_path):
    told: list[tuple[int, Progress]] = []

    def tell(number: int, progress: Progress) -> None:
        told.append((number, progress))
        if (number, progress) == (1, Progress("denoise", 2, 4)):
            raise Cancelled("Stopped. Start it again to go on.")

    outcomes = dict(Studio(batch=3).render_all(jobs(tmp_path), tell))
    assert isinstance(outcomes[1], Cancelled)
    assert isinstance(outcomes[0], Record)
    assert isinstance(outcomes[2], Record)
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == ["0.mp4", "2.mp4"]
    assert (1, Progress("denoise", 3, 4)) not in told


# Memory that is freed goes back to the system at once, so that a cap measures what is in use.
TIDY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
}
CHILD = """
import os, resource, signal, sys
from pathlib import Path
from aiprod_studio import Request, Studio
from aiprod_studio.graph.trail import Trail

task, folder = sys.argv[1], Path(sys.argv[2])
count, steps = int(sys.argv[3]), int(sys.argv[4])
size = {"width": 64, "height": 64, "seconds": float(sys.argv[5]), "steps": steps}
prompts = ("a cat on a beach", "a dog in the snow", "a red ball") * 3
todo = [(Request(prompts[n], seed=n, **size), folder / f"{n}.mp4") for n in range(count)]

def tell(number, progress):
    if task == "kill" and (number, progress.stage, progress.done) == (2, "denoise", 2):
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "cap" and (number, progress.stage) == (0, "encode"):
        with open("/proc/self/status") as lines:
            data = next(int(line.split()[1]) for line in lines if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, ((data << 10) + (40 << 20), -1))
    if task == "cap" and progress.stage == "decode":
        resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))

trails = {n: Trail(folder / f"job{n}", every=0) for n in range(count)}
for _, record in Studio(batch=count).render_all(todo, tell, trails):
    print(record.plan.batch, *record.plan.because, sep="; ")
    break
"""


def child(*arguments: str | Path | float) -> subprocess.CompletedProcess[str]:
    """Render clips together in a process of its own."""
    words = [sys.executable, "-c", CHILD, *map(str, arguments)]
    environment = {**os.environ, **TIDY}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def test_clips_killed_together_go_on_from_their_latents(tmp_path):
    done = child("kill", tmp_path, 3, SMALL["steps"], SMALL["seconds"])
    assert done.returncode == -signal.SIGKILL, done.stderr
    told: list[tuple[int, Progress]] = []
    trails = {n: Trail(tmp_path / f"job{n}", every=0) for n in range(3)}
    outcomes = dict(
        Studio(batch=3).render_all(jobs(tmp_path), lambda n, p: told.append((n, p)), trails)
    )
    steps = [(n, p.done) for n, p in told if p.stage == "denoise"]
    assert steps[:9] == [(number, done) for done in (2, 3, 4) for number in range(3)]
    for number, record in Studio(batch=3).render_all(jobs(tmp_path / "whole")):
        assert outcomes[number].path.read_bytes() == record.path.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux caps what a process may write to")
def test_too_many_at_once_are_halved_when_memory_runs_out(tmp_path):
    done = child("cap", tmp_path, 8, 1, 2.0)
    assert done.returncode == 0, done.stderr
    batch, *because = done.stdout.strip().split("; ")
    assert int(batch) < 8
    assert because[-1].endswith("at once to save memory")
    assert because[-1] in done.stderr
