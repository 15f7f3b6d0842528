"""What step caches and LoRAs cost or save a step of ours, as parts of a plain one.

With weights of chance, when a cache leaves out work is chance too. So both ends are measured: with
a threshold of 0 it leaves out nothing, and what a step takes longer is its price; with one that
nothing reaches it leaves out all that it ever can.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from aiprod_studio.engines.blocks import blocks_of
from aiprod_studio.engines.engine import Parts, Text
from aiprod_studio.hardware.gauges import wait
from aiprod_studio.types import Plan, Request

# The first step has nothing to compare with, and "mag" never leaves out the first fifth.
STEPS = 6
RANK = 32
ENDLESS = 1e30


@dataclass(frozen=True)
class Case:
    """A way to take steps: with a step cache as in a request, or with so many LoRAs."""

    name: str
    cache: str = ""
    loras: int = 0


CASES = (
    Case("plain"),
    Case("first-block, all done", "first-block:0"),
    Case("first-block, left out", f"first-block:{ENDLESS}"),
    Case("mag, all done", "mag:0"),
    Case("mag, left out", f"mag:{ENDLESS}"),
    Case("1 LoRA", loras=1),
    Case("3 LoRAs", loras=3),
)


def step_costs(
    parts: Parts, text: Text, request: Request, plan: Plan, read: Callable[[], float]
) -> list[float]:
    """Return by how much `read` grows in each step of a clip but the first."""
    marks: list[float] = []
    parts.denoise(text, text, {}, request, plan, lambda *_: marks.append(read()))
    return [end - begin for begin, end in itertools.pairwise(marks)]


def clock(device: str) -> float:
    """Return the time in seconds when the device has done all that it was asked to.

    It is this process's own where one thread of a CPU computes.
    """
    wait(device)
    alone = device == "cpu" and torch.get_num_threads() == 1
    return time.process_time() if alone else time.perf_counter()


def report_steps(name: str, parts: Any, request: Request, plan: Plan, rounds: int) -> None:
    """Print a table of an engine's steps, LoRAs written beside its networks' folder."""
    text = parts.encode_text(request.prompt)
    with parts.components.use("transformer") as network:
        loras = _write_loras(network, parts.components.folder)
    asked = dataclasses.replace(request, steps=STEPS)
    ways = [
        (
            dataclasses.replace(asked, loras=loras[: case.loras]),
            dataclasses.replace(plan, cache=case.cache),
        )
        for case in CASES
    ]
    # A first run with "mag" only measures what the cache must know.
    step_costs(parts, text, asked, dataclasses.replace(plan, cache="mag"), lambda: 0.0)
    works = [_work(parts, text, *way) for way in ways]
    found: list[list[float]] = [[] for _ in CASES]
    for _ in range(rounds):
        for way, row in zip(ways, found, strict=True):
            row.append(min(step_costs(parts, text, *way, lambda: clock(plan.device))))
    _print(f"{name}; {STEPS} steps, LoRAs of rank {RANK}", works, found)


def _print(title: str, works: Sequence[float], found: Sequence[Sequence[float]]) -> None:
    print(f"\n{title}")
    print(f"{'':24}{'a step':>8}{'ratio':>8}{'by arithmetic':>16}")
    for case, work, row in zip(CASES, works, found, strict=True):
        ratio = statistics.median(one / plain for one, plain in zip(row, found[0], strict=True))
        print(f"{case.name:24}{min(row):7.3f}s{ratio:8.2f}{work / works[0]:16.2f}", flush=True)


def _work(parts: Parts, text: Text, request: Request, plan: Plan) -> float:
    """Return the operations of the step that has the fewest."""
    # The counter does not know products that are added in place, as those of LoRAs are.
    more = {torch.ops.aten.addmm_: _product_work}
    with FlopCounterMode(display=False, custom_mapping=more) as counter:
        return min(step_costs(parts, text, request, plan, counter.get_total_flops))


def _product_work(total: Any, left: Any, right: Any, **_: Any) -> int:
    """Return the operations of a product of matrices, of which the shapes are given."""
    return int(2 * left[0] * left[1] * right[1])


def _write_loras(network: torch.nn.Module, folder: Path) -> tuple[str, ...]:
    """Write LoRAs for every matrix of a network's blocks, as many as a case has; return them."""
    inside = {id(module) for block in blocks_of(network) for module in block.modules()}
    layers = {
        name: layer
        for name, layer in network.named_modules()
        if id(layer) in inside and isinstance(layer, torch.nn.Linear)
    }
    paths = [folder / f"lora{number}.safetensors" for number in range(max(c.loras for c in CASES))]
    for path in paths:
        tensors: dict[str, torch.Tensor] = {}
        for name, layer in layers.items():
            for role, shape in (
                ("lora_A", (RANK, layer.in_features)),
                ("lora_B", (layer.out_features, RANK)),
            ):
                values = 0.02 * torch.randn(shape)
                tensors[f"{name}.{role}.weight"] = values.to(layer.weight.dtype)
        save_file(tensors, path)
    return tuple(map(str, paths))
