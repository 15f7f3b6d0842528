"""The file is written while the video is decoded: flat memory, other plans, clean ends."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aiprod_studio.engines.catalog import find_card, find_engine
from aiprod_studio.engines.engine import Chunks, Latents, run_fitting
from aiprod_studio.engines.native import NativeParts
from aiprod_studio.errors import Cancelled
from aiprod_studio.graph.generate import Work
from aiprod_studio.graph.trail import Trail
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.ladder import cheaper
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.library.provenance import read_settings, save_clip
from aiprod_studio.media.audio import read_audio
from aiprod_studio.media.video import probe
from aiprod_studio.models.audio_vae import latent_count
from aiprod_studio.types import Plan, Progress, Request, complete

CARD = dataclasses.replace(find_card("starter"), frames=(1, 1000))
REQUEST = complete(Request("a dog", seed=1, width=128, height=128, seconds=5.2), CARD)
CHUNKS = [8, 8, 8, 17]
FILES = ["a.mp4", "a.webm", "a.gif", "a_%02d.png"]
SOON = 30.0
# More than any machine has, so that the allocator itself refuses it.
TOO_MUCH = 2**55


@dataclass(frozen=True)
class Watched(NativeParts):
    """The starter's parts, and what became of the chunks that they decoded.

    There is no memory for the third chunk where it is not decoded in tiles, if they are `short`.
    """

    short: bool = False
    made: list[weakref.ref[Any]] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    second: threading.Event = field(default_factory=threading.Event)

    def decode_video(self, latents: Latents, plan: Plan) -> Chunks:
        """Yield the chunks, and note how many of earlier ones are in memory before the first."""
        self.alive.append(sum(one() is not None for one in self.made))
        for number, chunk in enumerate(super().decode_video(latents, plan)):
            if self.short and number == 2 and not plan.tile:
                torch.empty(TOO_MUCH, dtype=torch.uint8)
            self.made.append(weakref.ref(chunk))
            if number == 1:
                self.second.set()
            yield chunk


@contextmanager
def watched(plan: Plan, short: bool = False) -> Iterator[Watched]:
    """Hold the starter's weights."""
    with find_engine("starter").load(plan) as parts:
        yield Watched(parts.networks, parts.device, short)


@pytest.fixture
def plan() -> Plan:
    """A plan for the request that decodes 16 frames at a time."""
    whole = choose_plan(imagine(0, 64), CARD, REQUEST)
    return dataclasses.replace(whole, chunk=16, tiling="stream")


def save(
    parts: Watched, plan: Plan, path: Path, tell: Callable[[Progress], None] = lambda _: None
) -> Plan:
    """Save the clip of latents of chance by the first plan that has memory for it; return that."""
    trail, kept = Trail(), {}
    work = Work(REQUEST, CARD, plan, parts, tell, trail)
    dice, form = torch.Generator().manual_seed(0), parts.networks.backbone.config
    video = torch.randn(1, form.video_channels, 11, 8, 8, generator=dice)
    audio = torch.randn(1, form.audio_channels, latent_count(41 / 8), generator=dice)
    trail.end(work.mark, Latents(video, audio))

    def write(plan: Plan) -> None:
        with dataclasses.replace(work, plan=plan).reel(kept) as reel:
            save_clip(path, reel, REQUEST, plan)

    return run_fitting(plan, write, lambda: "decode")[0]


def test_the_next_chunk_is_decoded_while_one_is_written(plan: Plan, tmp_path: Path) -> None:
    """And the frames that are written are counted."""
    told: list[tuple[str, int, int]] = []

    def tell(progress: Progress) -> None:
        told.append((progress.stage, progress.done, progress.total))
        # Nobody has asked for the second chunk yet.
        if (progress.stage, progress.done) == ("decode", CHUNKS[0]):
            assert parts.second.wait(SOON)

    with watched(plan) as parts:
        save(parts, plan, tmp_path / "a.mp4", tell)
        assert len(parts.made) == len(CHUNKS)
    done = np.cumsum([0, *CHUNKS]).tolist()
    assert [step for step in told if step[0] == "decode"] == [("decode", n, 41) for n in done]
    assert told[-1] == ("save", 0, 1)
    assert probe(tmp_path / "a.mp4").frames == 41


def test_memory_that_runs_out_in_a_chunk_begins_the_file_anew(
    plan: Plan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By a cheaper plan, from the same latents, with nothing of the first try in memory."""
    less = cheaper(plan, "decode")
    assert less is not None
    assert less.tile
    stages: list[str] = []
    with watched(plan, short=True) as parts:
        ran = save(parts, plan, tmp_path / "short.mp4", lambda one: stages.append(one.stage))
        assert parts.alive == [0, 0]
        assert len(parts.made) == 2 + len(CHUNKS)
        save(parts, less, tmp_path / "less.mp4")
    assert ran == less
    assert "decoded in tiles" in caplog.text
    assert read_settings(tmp_path / "short.mp4")["plan"]["tile"] == less.tile
    assert (tmp_path / "short.mp4").read_bytes() == (tmp_path / "less.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["less.mp4", "short.mp4"]
    assert stages.count("denoise") == 1


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("error", [Cancelled, RuntimeError, KeyboardInterrupt])
def test_an_end_in_the_middle_leaves_no_file(
    plan: Plan, tmp_path: Path, name: str, error: type[BaseException]
) -> None:
    def tell(progress: Progress) -> None:
        if progress.done == CHUNKS[0]:
            if error is not KeyboardInterrupt:
                raise error("Stopped. Start it again.")
            os.kill(os.getpid(), signal.SIGINT)

    with watched(plan) as parts:
        with pytest.raises(error):
            save(parts, plan, tmp_path / name, tell)
        assert 1 <= len(parts.made) < len(CHUNKS)
    assert list(tmp_path.iterdir()) == []
    assert not [one for one in threading.enumerate() if one.name.startswith("ahead")]


def test_nothing_is_decoded_for_the_sound_alone(plan: Plan, tmp_path: Path) -> None:
    with watched(plan) as parts:
        save(parts, plan, tmp_path / "a.wav")
        assert parts.made == parts.alive == []
    assert read_audio(tmp_path / "a.wav", 16_000).shape == (1, 41 * 2_000)


# Memory that is freed goes back to the system at once, so that the peak is what was in use.
TIDY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
}
LONG = """
import dataclasses, resource, sys
from pathlib import Path
import torch
from aiprod_studio.engines.catalog import find_card, find_engine
from aiprod_studio.engines.engine import Latents
from aiprod_studio.graph.generate import Work
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.library.provenance import save_clip
from aiprod_studio.types import Request, complete

card = dataclasses.replace(find_card("starter"), frames=(1, 1000))
size = {"width": 64, "height": 64, "seconds": float(sys.argv[2])}
request = complete(Request("a dog", seed=1, audio=False, **size), card)
plan = choose_plan(imagine(0, 64), card, request)
plan = dataclasses.replace(plan, width=64, height=64, chunk=32, tiling="stream")
with find_engine("starter").load(plan) as parts:
    work = Work(request, card, plan, parts, lambda _: None)
    shape = (1, parts.networks.backbone.config.video_channels, plan.frames // 4 + 1, 4, 4)
    work.trail.end(work.mark, Latents(torch.randn(shape), None))
    with work.reel({}) as reel:
        save_clip(Path(sys.argv[1]), reel, request, plan)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no getrusage")
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    peaks = []
    for seconds in (8, 40):
        path = tmp_path / f"{seconds}.mp4"
        command = [sys.executable, "-c", LONG, str(path), str(seconds)]
        environment = {**os.environ, **TIDY}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
        assert probe(path).frames == 8 * seconds + 1
    # Measured: 1.003, and 1.16 decoded as a whole.
    assert peaks[1] < 1.05 * peaks[0]
