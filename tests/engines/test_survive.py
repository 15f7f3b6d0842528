"""Memory that runs out, for real: down every rung, on from the last step, to the same clip."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from aiprod_studio import Studio
from aiprod_studio.engines.catalog import cards
from aiprod_studio.engines.engine import (
    Chunks,
    Frame,
    Given,
    Latents,
    OnStep,
    Pictures,
    Sound,
    Text,
    run_fitting,
)
from aiprod_studio.engines.held import Held
from aiprod_studio.errors import DoesNotFit
from aiprod_studio.graph.generate import Work
from aiprod_studio.graph.trail import Trail
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.ladder import cheaper
from aiprod_studio.hardware.memory import count_passes
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.library.provenance import read_settings
from aiprod_studio.media.clip import Clip
from aiprod_studio.media.images import read_image
from aiprod_studio.sampling.schedules import shifted
from aiprod_studio.sampling.solvers import OnPoint, Point, sample_multistep
from aiprod_studio.types import ModelCard, Plan, Request, complete

STEPS = 6
# Memory runs out half-way, in the steps after this time.
LATE = 0.6
# More than any machine has, so that the allocator itself refuses it.
TOO_MUCH = 2**55
DTYPES = ("float32", "bfloat16", "float16", "float8", "int8", "int4")


@dataclass
class Device:
    """A device with a budget of bytes for one stage, and a diary of what an engine did on it."""

    budget: int
    stage: str
    diary: list[str] = field(default_factory=list)
    loads: list[Plan] = field(default_factory=list)

    def take(self, stage: str, plan: Plan) -> None:
        """Note a stage, or have the allocator raise its own error when the plan is too dear."""
        if stage == self.stage and plan.peak_bytes[stage] > self.budget:
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        self.diary.append(stage)


@dataclass(frozen=True)
class Sketch:
    """A model without weights whose clips depend on prompt, seed and canvas."""

    device: Device

    def encode_text(self, prompt: str) -> Text:
        self.device.diary.append("text")
        return Text(torch.full((1, 1, 1), float(len(prompt))), torch.zeros(1, 1))

    def encode_media(self, pictures: Pictures, plan: Plan) -> Given:
        return {}

    def denoise(
        self,
        text: Text,
        nothing: Text,
        given: Given,
        request: Request,
        plan: Plan,
        on_step: OnStep,
        on_point: OnPoint | None = None,
        start: Point | None = None,
    ) -> Latents:
        def model(x: torch.Tensor, t: float) -> torch.Tensor:
            if t < LATE:
                self.device.take("denoise", plan)
            else:
                self.device.diary.append("denoise")
            return torch.tanh(x * (1 - t) + text.features.mean() / 100)

        def tell(point: Point) -> None:
            assert on_point is not None
            on_point(point)
            on_step(point.done, STEPS)

        dice = torch.Generator().manual_seed(request.seed or 0)
        noise = torch.randn(1, 3, 1, plan.height // 32, plan.width // 32, generator=dice)
        return Latents(sample_multistep(model, noise, shifted(STEPS), tell, start), None)

    def preview(self, point: Point, request: Request, plan: Plan) -> Frame:
        return np.zeros((8, 8, 3), np.uint8)

    def decode_video(self, latents: Latents, plan: Plan) -> Chunks:
        self.device.take("decode", plan)
        pixels = ((latents.video[0].permute(1, 2, 3, 0) + 1) * 127).clamp(0, 255).byte().numpy()
        yield pixels.repeat(32, axis=1).repeat(32, axis=2)

    def decode_audio(self, latents: Latents, seconds: float) -> Sound | None:
        return None


@dataclass(frozen=True)
class SketchEngine:
    """An engine whose memory is as large as the plans of a model of the catalogue say."""

    card: ModelCard
    device: Device

    @contextmanager
    def load(self, plan: Plan) -> Iterator[Sketch]:
        self.device.loads.append(plan)
        yield Sketch(self.device)
        self.device.diary.append("unload")


def roomy(engine: str, ram_gb: float = 512) -> tuple[Request, Plan]:
    """Return a request and the plan for it that saves nothing."""
    card = cards()[engine]
    asked = Request("a dog", engine, width=384, height=256, seconds=0.4, seed=4, steps=STEPS)
    request = complete(asked, card)
    machine = dataclasses.replace(imagine(200, ram_gb), dtypes=DTYPES)
    return request, choose_plan(machine, card, request)


def make(request: Request, plan: Plan, device: Device) -> tuple[Plan, Clip]:
    """Make a clip on a device, down the ladder as far as it must be."""
    card, kept, trail = cards()[request.engine], {}, Trail()
    held = Held(lambda _: SketchEngine(card, device))

    def work(plan: Plan) -> Clip:
        parts = held.load(request.engine, plan)
        with Work(request, card, plan, parts, lambda _: None, trail).reel(kept) as reel:
            return Clip(np.stack(list(reel.frames)), reel.fps)

    try:
        return run_fitting(plan, work)
    finally:
        held.close()


def ladder(plan: Plan) -> list[Plan]:
    """Return a plan and all below it."""
    steps = [plan]
    while (below := cheaper(steps[-1])) is not None:
        steps.append(below)
    return steps


@pytest.fixture(autouse=True)
def young_heap() -> Iterator[None]:
    """Spare each collection of garbage the thousands of objects that libraries made."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(("engine", "stage"), [("ltx-2", "denoise"), ("wan2.1-1.3b", "decode")])
def test_every_rung_is_reached_and_nothing_is_done_twice(engine, stage, caplog):
    request, first = roomy(engine)
    steps = ladder(first)
    canvases = list(dict.fromkeys((step.width, step.height) for step in steps))
    assert len(canvases) > 3
    whole = make(request, first, Device(2**60, stage))[1]
    last_alike = [step for step in steps if (step.width, step.height) == canvases[0]][-1]
    for rung in (last_alike, steps[-1]):
        caplog.clear()
        device = Device(rung.peak_bytes[stage], stage)
        ran, clip = make(request, first, device)
        place = steps.index(ran)
        assert ran.because == steps[place].because
        assert ran.peak_bytes[stage] <= rung.peak_bytes[stage]
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == place
        for step, line in zip(steps[1:], told, strict=False):
            assert step.because[-1] in line
        # The prompt is encoded once, its absence where it guides; denoising starts anew on another
        # canvas.
        assert device.diary.count("text") == count_passes(request)
        if (ran.width, ran.height) == canvases[0]:
            assert np.array_equal(clip.frames, whole.frames)
            assert device.diary.count("denoise") == STEPS
        else:
            assert device.diary.count("denoise") > STEPS
        assert clip.frames.shape == whole.frames.shape


def test_weights_are_loaded_anew_only_where_they_change():
    request, first = roomy("ltx-2")
    device = Device(0, "decode")
    with pytest.raises(DoesNotFit, match="smaller or shorter"):
        make(request, first, device)
    hows = [(plan.quantisation, plan.placement, plan.pinned) for plan in device.loads]
    assert all(before != after for before, after in itertools.pairwise(hows))
    assert {plan.quantisation for plan in device.loads} == {"", "float8", "int4"}
    assert {plan.placement["denoise"] for plan in device.loads} >= {"resident", "model", "group"}
    assert device.diary.count("unload") == len(device.loads)


def test_what_failed_is_free_before_the_next_plan_is_tried():
    _, first = roomy("wan2.1-1.3b")
    alive: list[int] = []

    class Block(bytearray):
        """Memory that can be told from other memory."""

    def work(plan: Plan) -> str:
        alive.append(len([one for one in gc.get_objects() if type(one) is Block]))
        block = Block(b"held by the frame that fails")
        if len(alive) < 3:
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        return block.decode()

    assert run_fitting(first, work)[1].startswith("held")
    assert alive == [0, 0, 0]


# Memory that is freed goes back to the system at once, so that a cap measures what is in use.
TIDY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
}
CAPPED = """
import json, logging, resource, sys, threading
from pathlib import Path
from aiprod_studio import Request, Studio

logging.basicConfig(level=logging.WARNING, format="%(message)s")
request = Request.from_json(json.loads(sys.argv[1]))
# The decoder's thread takes as much everywhere.
threading.stack_size(2 << 20)
steps = []

def tell(number, progress):
    if progress.stage == "decode" and "decode" not in [stage for stage, _ in steps]:
        with open("/proc/self/status") as lines:
            data = next(int(line.split()[1]) for line in lines if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, ((data << 10) + (22 << 20), -1))
    if progress.stage == "save":
        resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))
    steps.append((progress.stage, progress.done))

((_, record),) = Studio().render_all([(request, Path(sys.argv[2]))], tell)
if isinstance(record, Exception):
    raise record
print(json.dumps(steps))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux caps what a process may write to")
def test_the_starter_decodes_under_a_cap_of_the_system(tmp_path):
    request = Request("a dog on a beach", seed=1, steps=2, width=128, height=128)
    words = [sys.executable, "-c", CAPPED, json.dumps(request.to_json())]
    words.append(str(tmp_path / "capped_%02d.png"))  # x264 would need more than the decoder
    environment = {**os.environ, **TIDY}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    capped = sorted(tmp_path.glob("capped_*.png"))
    plan = read_settings(capped[0])["plan"]
    assert "Memory ran out" in done.stderr
    assert plan["because"][-1].endswith("to save memory")
    assert plan["because"][-1] in done.stderr
    steps = [step for stage, step in json.loads(done.stdout) if stage == "denoise"]
    if plan["width"] == 128:
        assert steps == [0, 1, 2]
        assert plan["tile"]
        list(Studio().render_all([(request, tmp_path / "whole_%02d.png")]))
        whole = sorted(tmp_path.glob("whole_*.png"))
        one, other = (np.stack([read_image(file) for file in files]) for files in (capped, whole))
        # Tiles fade into each other.
        assert np.square(one.astype(float) - other).mean() < 255**2 / 10**3.5
    else:
        assert steps[-2:] == [1, 2]
