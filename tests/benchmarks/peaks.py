"""Predicted beside traced peaks at real shapes: `python tests/benchmarks/peaks.py [ENGINE ...]`.

A network is run on the meta device, which computes shapes and nothing else, while every live
tensor is counted; no weights, no GPU, seconds each. Fused attention keeps no scores, so that it is
left out. `layers` blocks stand for all, as what a block keeps is gone when the next one runs.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aiprod_studio.engines.catalog import cards
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.ladder import predict
from aiprod_studio.hardware.memory import STAGES, device_weights
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.types import Plan, Request
from tests.benchmarks import architectures

LAYERS = 2


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, but for what was there before; `peak`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        tensors = [*network.parameters(), *network.buffers()]
        self._known = {StorageWeakRef(one.untyped_storage()).cdata for one in tensors}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for key in [key for key, (ref, _) in self._live.items() if ref.expired()]:
            self._now -= self._live.pop(key)[1]
        for one in tree_leaves(out):
            if isinstance(one, torch.Tensor):
                ref = StorageWeakRef(one.untyped_storage())
                if ref.cdata not in self._known and ref.cdata not in self._live:
                    self._live[ref.cdata] = ref, one.untyped_storage().nbytes()
                    self._now += self._live[ref.cdata][1]
        self.peak = max(self.peak, self._now)
        return out


@contextmanager
def shapes_only(precision: torch.dtype = torch.bfloat16) -> Iterator[None]:
    """Let everything be made on the meta device, and fused attention return its queries' shape."""
    functional = torch.nn.functional
    attend = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = lambda query, *_, **__: torch.empty_like(query)
    torch.set_default_dtype(precision)
    try:
        with torch.device("meta"), torch.no_grad():
            yield
    finally:
        torch.set_default_dtype(torch.float32)
        functional.scaled_dot_product_attention = attend


def trace(network: nn.Module, run: Callable[[], Any]) -> int:
    """Return the bytes that a run of the network keeps alive at most, its weights not counted."""
    with Live(network) as live:
        run()
    return live.peak


@dataclass(frozen=True)
class Case:
    """One stage of an engine at one size; what is decoded is decoded whole."""

    engine: str
    stage: str
    width: int
    height: int
    frames: int

    @property
    def size(self) -> tuple[int, int, int]:
        """Width, height and frames."""
        return self.width, self.height, self.frames


CASES = (
    Case("wan2.1-1.3b", "encode", 832, 480, 81),
    Case("wan2.1-1.3b", "denoise", 832, 480, 81),
    Case("wan2.1-1.3b", "decode", 832, 480, 81),
    Case("wan2.1-1.3b", "decode", 832, 480, 17),
    Case("wan2.2-5b", "denoise", 1280, 704, 121),
    Case("wan2.2-5b", "denoise", 832, 480, 49),
    Case("wan2.2-5b", "decode", 1280, 704, 121),
    Case("wan2.2-5b", "decode", 1280, 704, 17),
    Case("wan2.2-a14b", "denoise", 832, 480, 81),
    Case("wan2.2-a14b", "denoise", 1280, 720, 81),
    Case("ltx-video-2b", "encode", 704, 512, 121),
    Case("ltx-video-2b", "denoise", 704, 512, 121),
    Case("ltx-video-2b", "decode", 704, 512, 121),
    Case("ltx-2", "encode", 768, 512, 121),
    Case("ltx-2", "denoise", 768, 512, 121),
    Case("ltx-2", "denoise", 1920, 1088, 121),
    Case("ltx-2", "decode", 768, 512, 121),
    Case("ltx-2", "decode", 1280, 704, 121),
)


def plan_of(case: Case) -> Plan:
    """Return the plan of a case on a machine that has room for everything."""
    card = cards()[case.engine]
    seconds = case.frames / card.default_fps
    size = {"width": case.width, "height": case.height, "seconds": seconds}
    request = Request("x", case.engine, guidance=1.0, audio=False, **size)
    plan = choose_plan(imagine(200, 512), card, request)
    return predict(
        dataclasses.replace(
            plan,
            placement=dict.fromkeys(STAGES[1:], "model"),
            tile=0,
            overlap=0,
            chunk=0,
            tiling="none",
        )
    )


def predicted(case: Case) -> tuple[int, int]:
    """Return the bytes that a stage works in by its formula, and its whole peak with weights."""
    plan, memory = plan_of(case), cards()[case.engine].memory
    whole = plan.peak_bytes[case.stage]
    work = (whole - device_weights(plan, case.stage) - memory.reserve) / memory.slack
    return round(work), whole


def traced(case: Case) -> int:
    """Return the bytes that a stage keeps alive at most at the real widths."""
    with shapes_only():
        if case.stage == "encode":
            return _trace_encoder(case)
        if case.stage == "denoise":
            network = architectures.transformer(case.engine, LAYERS)
            tokens = cards()[case.engine].memory.prompt_tokens
            inputs = architectures.denoiser_inputs(case.engine, *case.size, tokens)
            return trace(network, lambda: network(**inputs))
        return _trace_decoder(case)


def _trace_encoder(case: Case) -> int:
    network = architectures.text_encoder(case.engine, words=1024)
    ids = torch.zeros(1, cards()[case.engine].memory.prompt_tokens, dtype=torch.long)
    more = {"logits_to_keep": 1} if case.engine == "ltx-2" else {}
    return trace(network, lambda: network(ids, output_hidden_states=bool(more), **more))


def _trace_decoder(case: Case) -> int:
    network = architectures.video_vae(case.engine)
    latents = torch.randn(architectures.latents_shape(case.engine, *case.size))
    more = {"temb": torch.zeros(1)} if case.engine == "ltx-video-2b" else {}
    return trace(network, lambda: network.decode(latents, return_dict=False, **more))


def main() -> None:
    """Print the table."""
    chosen = sys.argv[1:] or architectures.ENGINES
    print(f"{'':44}{'formula':>9} {'traced':>9}   GB, off, of the whole peak")
    for case in CASES:
        if case.engine in chosen:
            began = time.perf_counter()
            (work, whole), seen = predicted(case), traced(case)
            name = f"{case.engine} {case.stage} {case.width}×{case.height}×{case.frames}"
            print(
                f"{name:44}{work / 1e9:9.2f} {seen / 1e9:9.2f} {work / seen - 1:+8.0%}"
                f"{(work - seen) / whole:+8.1%}   {time.perf_counter() - began:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
