"""The planner over every model, memory, size and length: it fits by its own word, or says why not.

More memory never gives a slower plan, and every answer takes less than 50 ms.
"""

from __future__ import annotations

import statistics
import time

import pytest

from aiprod_studio.engines.catalog import cards
from aiprod_studio.errors import DoesNotFit
from aiprod_studio.hardware.budget import fits
from aiprod_studio.hardware.memory import pinned_bytes
from aiprod_studio.hardware.nearest import AsksTooMuch
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.types import Hardware, ModelCard, Plan, Request

GB = 2**30
MEMORIES = (6, 8, 12, 16, 24, 32, 48, 80)
RAMS = (8, 16, 32, 64, 128)
SIZES = ((None, None), (1280, 704), (704, 1280), (1920, 1088))
SHORT, LONG = 2.0, 10.0
QUICK = 0.05
MODES = [(engine, 1) for engine in sorted(cards())]
MODES += [(engine, 2) for engine, card in cards().items() if "upscale" in card.tasks]


def gpu(memory_gb: float, ram_gb: float) -> Hardware:
    """Return a machine of which only the memory differs from the others."""
    return Hardware(
        device="cuda",
        name=f"a GPU of {memory_gb:g} GB",
        total_bytes=int(memory_gb * GB),
        free_bytes=int(memory_gb * GB),
        ram_bytes=int(ram_gb * GB),
        ram_free_bytes=int(ram_gb * GB * 0.8),
        cores=8,
        disk_free_bytes=500 * GB,
        dtypes=("float32", "bfloat16", "float16", "float8", "int8"),
        because="on a GPU",
        flops=5e13,
        half_flops=1e14,
    )


def plan_or_refusal(
    machine: Hardware, card: ModelCard, request: Request
) -> tuple[Plan | DoesNotFit, float]:
    """Return what the planner says, and the seconds of CPU that it took."""
    began = time.process_time()
    try:
        said: Plan | DoesNotFit = choose_plan(machine, card, request)
    except DoesNotFit as error:
        said = error
    return said, time.process_time() - began


@pytest.mark.parametrize("ram", [16, 64], ids=["16 GB of RAM", "64 GB of RAM"])
@pytest.mark.parametrize(("engine", "stages"), MODES)
def test_every_plan_fits_or_names_one_that_does(engine: str, stages: int, ram: int) -> None:
    card = cards()[engine]
    took = []
    for size in SIZES:
        for length in lengths(card) if size == SIZES[0] else (SHORT,):
            request = Request(
                "x", engine, width=size[0], height=size[1], seconds=length, stages=stages
            )
            best = float("inf")
            for memory in MEMORIES:
                said, seconds = plan_or_refusal(gpu(memory, ram), card, request)
                took.append(seconds)
                if isinstance(said, Plan):
                    check_plan(said, gpu(memory, ram))
                    assert said.seconds <= best, f"{memory} GB is slower than less: {said}"
                    best = said.seconds
                    continue
                assert best == float("inf"), f"{memory} GB does not fit, though less did"
                check_refusal(said, gpu(memory, ram), card, request)
    assert statistics.median(took) < QUICK  # of one alone a busy machine tells nothing


@pytest.mark.parametrize("memory", [8, 24], ids=["8 GB", "24 GB"])
@pytest.mark.parametrize("engine", sorted(cards()))
def test_more_ram_never_gives_a_slower_plan(engine: str, memory: int) -> None:
    card, best = cards()[engine], float("inf")
    request = Request("x", engine, seconds=card.default_seconds)
    for ram in RAMS:
        said, _ = plan_or_refusal(gpu(memory, ram), card, request)
        if isinstance(said, Plan):
            assert said.seconds <= best, f"{ram} GB of RAM is slower than less: {said}"
            best = said.seconds
        else:
            assert best == float("inf"), f"{ram} GB of RAM does not fit, though less did"
            check_refusal(said, gpu(memory, ram), card, request)


def lengths(card: ModelCard) -> list[float]:
    """Return the seconds to try: short, the model's own, and long where it goes that far."""
    most = card.frames[1] / card.default_fps
    return sorted({min(SHORT, most), card.default_seconds, min(LONG, most)})


def check_plan(plan: Plan, machine: Hardware) -> None:
    """Hold a plan's predictions against the machine's free memory, RAM and RAM to pin."""
    assert fits(plan)
    assert max(plan.peak_bytes.values()) < machine.free_bytes
    assert max(plan.ram_bytes.values()) < machine.ram_free_bytes
    assert pinned_bytes(plan) <= machine.ram_bytes / 2
    assert plan.seconds == pytest.approx(sum(plan.stage_seconds.values()))
    assert all(seconds >= 0 for seconds in plan.stage_seconds.values())


def check_refusal(said: DoesNotFit, machine: Hardware, card: ModelCard, request: Request) -> None:
    """Hold a refusal to its word: what it names as the nearest fits, and is less than was asked."""
    assert isinstance(said, AsksTooMuch)
    assert str(said).endswith("choose a smaller engine.")
    if said.nearest is None:
        assert "Ask for" not in str(said)
        return
    assert fits(choose_plan(machine, card, said.nearest))
    shorter = said.nearest.seconds is not None and said.nearest.seconds < (request.seconds or 0)
    smaller = said.nearest.width is not None and said.nearest.width < (
        request.width or card.default_width
    )
    assert shorter or smaller
