"""Engines at their real widths, ours beside plain diffusers: `python -m tests.benchmarks.engines`.

Weights are of chance and depth is reduced (`--layers`), as only the arithmetic is of interest. Both
sides run the same files in turn, in one process; a time is the best of its rounds, the ratio the
median of theirs. MFU is the share that a model's arithmetic reaches of the rate of plain matrix
products, the best that was seen between the rounds. On a CPU the canvas is small, on a GPU it is
the engine's own; nothing else changes. With one thread (OMP_NUM_THREADS=1) seconds are those of the
processor, so that other programs do not count. Two more tables tell what step caches and LoRAs make
of a step (`steps`, of two layers or more), and how networks come from their files (`starts`).
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Else the profiler, which watches the CPU's allocator, says when it starts and stops.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")

import torch
from torch.utils.flop_counter import FlopCounterMode

from aiprod_studio.engines.catalog import cards, find_engine
from aiprod_studio.engines.engine import Latents, Parts
from aiprod_studio.engines.weights import quiet
from aiprod_studio.hardware.gauges import SIDES, allocator_peak
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.hardware.probe import probe
from aiprod_studio.settings import settings
from aiprod_studio.types import ModelCard, Plan, Request, complete, frame_count
from tests.benchmarks import architectures
from tests.benchmarks.starts import report_starts
from tests.benchmarks.steps import clock, report_steps, step_costs
from tests.engines import tiny_pipelines

PROMPT = "a red fox running in the sunset"
STEPS, PRODUCTS = 3, 10
# What a CPU denoises of a large model, and the side of what it decodes: two latents of each.
SMALL, SMALL_SIDE = (128, 128, 9), 64
STAGES = ("encode", "step", "decode")
TABLES = ("sides", "steps", "starts")


@dataclass(frozen=True)
class Side:
    """One way to run an engine: encode a prompt, denoise to the seconds of each step, decode."""

    encode: Callable[[], Any]
    denoise: Callable[[], list[float]]
    decode: Callable[[], Any]


@dataclass
class Found:
    """What was measured of one side: the seconds of each round, and peaks in bytes, per stage."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STAGES})
    peaks: dict[str, int] = field(default_factory=dict)


def plan_for(card: ModelCard, device: str, size: tuple[int, int, int]) -> tuple[Request, Plan]:
    """Return a request of few steps without guidance, and its plan with all weights resident."""
    request = Request(
        PROMPT, card.id, seed=1, steps=STEPS, guidance=1.0, audio=bool(card.sample_rate)
    )
    full = complete(request, card)
    machine = dataclasses.replace(imagine(200, 512), dtypes=("float32", precision(card, device)))
    plan = choose_plan(machine, card, full)
    width, height, frames = size
    assert full.fps is not None
    return dataclasses.replace(full, seconds=frames / full.fps), dataclasses.replace(
        plan,
        device=device,
        width=width,
        height=height,
        frames=frames,
        placement=dict.fromkeys(plan.placement, "resident"),
        tile=0,
        chunk=0,
        tiling="none",
        quantisation="",
        compiled=False,
        attention="native",
    )


def precision(card: ModelCard, device: str) -> str:
    """Return the precision of a model's arithmetic: 16 bits where the device is fast in it."""
    fast = "bfloat16" in probe().dtypes
    return "bfloat16" if card.parts and (device != "cpu" or fast) else "float32"


def canvases(card: ModelCard, device: str) -> list[tuple[int, int, int]]:
    """Return the sizes at which an engine denoises and decodes here."""
    if device == "cpu" and card.parts:
        return [SMALL, (SMALL_SIDE, SMALL_SIDE, card.frame_step + 1)]
    full = complete(Request(PROMPT, card.id), card)
    plan = choose_plan(imagine(200, 512), card, full)
    return [(plan.width, plan.height, frame_count(full, card))] * 2


def build(engine: str, layers: int, kind: torch.dtype, folder: Path) -> None:
    """Write an engine's networks of so many layers to a folder in diffusers' layout."""
    quiet()
    tiny = {"ltx-video-2b": "ltx", "ltx-2": "ltx2-newer", "wan2.2-5b": "wan5b"}.get(engine, "wan")
    pipeline = tiny_pipelines.build(tiny)[0]
    with torch.device("meta"):
        parts = {
            "transformer": architectures.transformer(engine, layers),
            "vae": architectures.video_vae(engine),
            "text_encoder": architectures.text_encoder(engine, layers, 1024),
        }
        if engine == "ltx-2":
            parts["connectors"] = architectures.connectors(layers)
            parts["audio_vae"] = architectures.audio_vae()
    for name, network in parts.items():
        filled = fill(network.to(kind).to_empty(device="cpu"))
        pipeline.register_modules(**{name: filled})
    pipeline.save_pretrained(folder, safe_serialization=True)


def fill(network: torch.nn.Module) -> torch.nn.Module:
    """Fill a network's weights with the same million small numbers again and again."""
    torch.manual_seed(0)
    chance = (torch.randn(2**20) * 0.02).to(next(network.parameters()).dtype)
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor.is_floating_point():
            count = tensor.numel()
            values = chance.repeat(count // len(chance) + 1)[:count]
            tensor.data.copy_(values.view(tensor.shape))
        else:
            tensor.data.zero_()
    return network


def load_ours(engine: str, folder: Path, plan: Plan) -> AbstractContextManager[Parts]:
    """Return our engine, where it has no weights of its own over the networks in a folder."""
    found: Any = find_engine(engine)
    if cards()[engine].parts:
        found = dataclasses.replace(found, find_folder=lambda task: folder)
    loaded: AbstractContextManager[Parts] = found.load(plan)
    return loaded


def our_side(parts: Parts, request: Request, plan: Plan, smaller: Plan, latents: Any) -> Side:
    """Return what our engine does."""
    text = parts.encode_text(PROMPT)

    return Side(
        lambda: parts.encode_text(PROMPT),
        lambda: step_costs(parts, text, request, plan, lambda: clock(plan.device)),
        lambda: list(parts.decode_video(Latents(latents, None), smaller)),
    )


def plain_side(engine: str, pipeline: Any, plan: Plan, latents: Any) -> Side:
    """Return what diffusers' own pipeline does, called as its documentation says."""
    tokens = cards()[engine].memory.prompt_tokens

    @torch.inference_mode()
    def encode() -> dict[str, Any]:
        names = ("prompt_embeds", "prompt_attention_mask")
        found = pipeline.encode_prompt(
            PROMPT, do_classifier_free_guidance=False, max_sequence_length=tokens
        )
        if engine in architectures.WAN:
            return {"prompt_embeds": found[0]}
        if engine == "ltx-2":
            # The pipeline runs them at every call; ours keeps what they give.
            pipeline.connectors(found[0], found[1], padding_side="left")
        return dict(zip(names, found, strict=False))

    text = encode()
    more = dict(tiny_pipelines.UNGUIDED) if engine == "ltx-2" else {"guidance_scale": 1.0}

    def denoise() -> list[float]:
        marks: list[float] = []

        def on_step(_: Any, step: int, time_step: Any, state: dict[str, Any]) -> dict[str, Any]:
            marks.append(clock(plan.device))
            return state

        size = {"width": plan.width, "height": plan.height, "num_frames": plan.frames}
        steps = {"num_inference_steps": STEPS, "callback_on_step_end": on_step}
        pipeline(**text, **size, **steps, **more, output_type="latent")
        return [end - begin for begin, end in itertools.pairwise(marks)]

    @torch.inference_mode()
    def decode() -> Any:
        vae = pipeline.vae
        told = {"temb": torch.tensor([0.05], device=vae.device, dtype=vae.dtype)}
        video = vae.decode(
            latents.to(vae.dtype), return_dict=False, **(told if engine == "ltx-video-2b" else {})
        )[0]
        return pipeline.video_processor.postprocess_video(video, output_type="np")

    return Side(encode, denoise, decode)


def measure(
    sides: Sequence[Side], plan: Plan, rounds: int
) -> tuple[list[Found], dict[str, int], float]:
    """Return what each side took in turn, the arithmetic of ours per stage, and of products."""
    found, counts, rates = [Found() for _ in sides], {}, []
    device = plan.device
    for side, one in zip(sides, found, strict=True):
        works = (side.encode, side.denoise, side.decode)
        for stage, work in zip(STAGES, works, strict=True):
            # Weights that come when they are first used come here.
            with FlopCounterMode(display=False) as counter:
                work()
            # The other's may do in each call what ours does with the prompt.
            counts.setdefault(stage, counter.get_total_flops() // (STEPS if stage == "step" else 1))
            one.peaks[stage] = allocator_peak(device, work)[1]
    for _ in range(rounds):
        rates.append(product_rate(device, plan.precision))
        for side, one in zip(sides, found, strict=True):
            one.seconds["encode"].append(timed(side.encode, device))
            one.seconds["step"].append(min(side.denoise()))
            one.seconds["decode"].append(timed(side.decode, device))
    return found, counts, max(rates)


def product_rate(device: str, precision: str) -> float:
    """Return the operations a second of the fastest of some square matrix products."""
    side = SIDES[device]
    left, right = torch.randn(2, side, side, device=device).to(getattr(torch, precision))
    return float(2 * side**3 / min(timed(lambda: left @ right, device) for _ in range(PRODUCTS)))


def timed(work: Callable[[], Any], device: str) -> float:
    """Return the seconds that `work` takes."""
    began = clock(device)
    work()
    return clock(device) - began


def report(name: str, found: Sequence[Found], counts: dict[str, int], rate: float) -> None:
    """Print an engine's table."""
    plain = len(found) > 1
    print(f"\n{name}; matrix products {rate / 1e9:,.0f} GFLOP/s")
    print(f"{'':8}{'ours':>9}{'plain':>9}{'ratio':>8}{'GFLOP':>9}{'MFU':>6}   peak: ours, plain")
    for stage in STAGES:
        rows = [one.seconds[stage] for one in found]
        best = [min(row) for row in rows]
        ratios = [ours / other for ours, other in zip(rows[0], rows[-1], strict=True)]
        peaks = ", ".join(f"{one.peaks[stage] / 1e6:,.0f} MB" for one in found)
        print(
            f"{stage:8}{best[0]:8.3f}s"
            + (f"{best[1]:8.3f}s{statistics.median(ratios):8.2f}" if plain else f"{'–':>9}{'–':>8}")
            + f"{counts[stage] / 1e9:9.1f}{counts[stage] / best[0] / rate:6.0%}   {peaks}",
            flush=True,
        )


def run(engine: str, device: str, layers: int, rounds: int, tables: Sequence[str]) -> None:
    """Measure one engine and print its tables; of its own networks there is the first only."""
    card = cards()[engine]
    large, small = canvases(card, device)
    (request, plan), (_, smaller) = (plan_for(card, device, size) for size in (large, small))
    shape = "×".join(map(str, large))
    deep = f", {layers} layers" if card.parts else ""
    title = f"{engine}{deep}, {plan.precision}, {shape}"
    with tempfile.TemporaryDirectory() as name:
        # Where a repository's commit would be, as what is measured of a model is kept by these.
        folder = Path(name) / "models--tests--benchmark" / "snapshots" / "0"
        if card.parts:
            build(engine, layers, getattr(torch, plan.precision), folder)
        if "sides" in tables:
            compare(title, folder, request, plan, smaller, rounds)
        if "steps" in tables and card.parts and layers > 1:
            with load_ours(engine, folder, plan) as parts:
                report_steps(title, parts, request, plan, rounds)
        if "starts" in tables and card.parts:
            report_starts(f"{engine}{deep}", folder, device, plan.precision, rounds)


def compare(
    title: str, folder: Path, request: Request, plan: Plan, smaller: Plan, rounds: int
) -> None:
    """Print the table of our engine, and where it has networks of diffusers, beside these."""
    engine, device = request.engine, plan.device
    has_parts = bool(cards()[engine].parts)
    with load_ours(engine, folder, plan) as parts:
        if has_parts:
            size = smaller.width, smaller.height, smaller.frames
            latents = torch.randn(architectures.latents_shape(engine, *size), device=device)
        else:
            latents = parts.denoise(
                parts.encode_text(PROMPT), parts.encode_text(""), {}, request, plan, print_none
            ).video
        sides = [our_side(parts, request, plan, smaller, latents)]
        if has_parts:
            import diffusers

            kind = getattr(torch, plan.precision)
            pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, dtype=kind)
            pipeline.set_progress_bar_config(disable=True)
            sides.append(plain_side(engine, pipeline.to(device), plan, latents))
        found, counts, rate = measure(sides, plan, rounds)
    report(title, found, counts, rate)


def print_none(done: int, total: int) -> None:
    """Say nothing of a step."""


def main() -> None:
    """Print a table per engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add = parser.add_argument
    add("--engine", action="append", choices=architectures.ENGINES, help="repeat; default: all")
    add("--device", default=probe().device, help="cpu or cuda (default: this machine's)")
    add("--layers", type=int, help="of denoiser and text encoder (default: 1 on a CPU, else 4)")
    add("--rounds", type=int, default=3, help="how often both sides run in turn")
    add("--table", action="append", choices=TABLES, help="repeat; default: all")
    options = parser.parse_args()
    layers = options.layers or (1 if options.device == "cpu" else 4)
    with tempfile.TemporaryDirectory() as home:
        # Nothing that is measured here is kept.
        os.environ["AIPROD_HOME"] = home
        settings.cache_clear()
        for engine in options.engine or architectures.ENGINES:
            run(engine, options.device, layers, options.rounds, options.table or TABLES)


if __name__ == "__main__":
    main()
