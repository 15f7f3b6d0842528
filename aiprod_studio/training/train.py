"""`aiprod-studio train`: the networks of a family, phase by phase, one after the other."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from aiprod_studio.engines.bundle import Networks, save_bundle
from aiprod_studio.errors import BadRequest
from aiprod_studio.media.files import write_bytes
from aiprod_studio.training.checkpoints import read_state
from aiprod_studio.training.curriculum import NETWORKS
from aiprod_studio.training.family import build_networks
from aiprod_studio.training.loop import Stopped, Task, fit, listening
from aiprod_studio.training.losses import (
    Pupil,
    start_from_animatics,
    start_from_components,
    start_from_least_squares,
)
from aiprod_studio.training.order import Order, open_parser, read_order
from aiprod_studio.training.page import NAME as PAGE
from aiprod_studio.training.page import read_progress, write_page
from aiprod_studio.training.scales import (
    fix_audio_scale,
    fix_track_scale,
    fix_video_scale,
    some_animatics,
    some_video,
)
from aiprod_studio.training.source import Ground
from aiprod_studio.training.spread import Spread, joined
from aiprod_studio.training.tasks import (
    audio_task,
    backbone_task,
    decoder_task,
    finisher_task,
    layout_task,
    sketch_task,
    text_task,
    upscaler_task,
    video_task,
)
from aiprod_studio.training.teachers import Teachers

log = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)

# What they learn real clips do not tell.
_SCENES_ALONE = ("text_encoder", "layout", "sketcher", "finisher")
# Clips can be made without them.
_SPARED = ("layout", "sketcher", "decoder", "finisher", "upscaler")


def train(order: Order) -> Path:
    """Train all networks, or take them up again; return the bundle of their averages.

    Raises `BadRequest` for what cannot be trained, and as `loop.fit` does.
    """
    networks = build_networks(order.curriculum)
    if order.spread.leads:
        _announce(order)
    text_encoder = _teach(order, "text_encoder", networks.text_encoder, text_task)
    assert networks.layout is not None
    assert networks.sketcher is not None
    assert networks.finisher is not None
    teachers = Teachers(networks.video_vae, networks.audio_vae, text_encoder)  # taught in place
    torch.manual_seed(0)
    fix_track_scale(order, networks.layout)
    planner = _teach(order, "layout", networks.layout, lambda g, p: layout_task(g, p, teachers))
    drawing = networks.sketcher
    sketcher = _teach(order, "sketcher", drawing, lambda g, s: sketch_task(g, s, teachers))
    if (order.folder / "sketcher.pt").exists():
        teachers = dataclasses.replace(teachers, sketcher=sketcher)
    audio_vae = _teach(order, "audio_vae", networks.audio_vae, audio_task)
    fix_audio_scale(order, audio_vae)
    if not (order.folder / "video_vae.pt").exists():
        start_from_components(networks.video_vae, some_video(order, 0, 5))
    video_vae = _teach(order, "video_vae", networks.video_vae, video_task)
    fix_video_scale(order, video_vae)
    if teachers.sketcher is not None and not (order.folder / "backbone.pt").exists():
        start_from_animatics(networks.backbone, some_animatics(order, teachers))
    torch.manual_seed(0)
    pupil = Pupil(networks.backbone)
    pupil = _teach(order, "backbone", pupil, lambda g, p: backbone_task(g, p, teachers))

    def mend(ground: Ground, decoder: nn.Module) -> Task:
        return decoder_task(ground, decoder, teachers, pupil.backbone)

    _teach(order, "decoder", video_vae.decoder, mend)
    finisher = networks.finisher
    if teachers.sketcher is not None:
        finisher = _teach(
            order,
            "finisher",
            finisher,
            lambda g, f: finisher_task(g, f, teachers, pupil.backbone),
        )
    assert networks.upscaler is not None
    if not (order.folder / "upscaler.pt").exists():
        start_from_least_squares(networks.upscaler, some_video(order, 0, 1))
    upscaler = _teach(order, "upscaler", networks.upscaler, upscaler_task)
    learnt = Networks(pupil.backbone, video_vae, audio_vae, text_encoder)
    spared = {"layout": planner, "sketcher": sketcher, "finisher": finisher, "upscaler": upscaler}
    here: dict[str, Any] = {
        n: one for n, one in spared.items() if (order.folder / f"{n}.pt").exists()
    }
    learnt = dataclasses.replace(learnt, **here)
    bundle = order.folder / f"{order.curriculum.family}.safetensors"
    if order.spread.leads:
        save_bundle(bundle, learnt)
        write_page(order.folder)
    return bundle


def _teach(
    order: Order, name: str, network: Network, make: Callable[[Ground, Network], Task]
) -> Network:
    """Train one network through its phases; return its average, frozen, on the device."""
    network.to(order.spread.device)
    for phase in order.phases:
        if not order.trains(name, phase):
            continue
        _free(network, phase.exercises[name].learns)
        samples = order.folder / "samples"
        clips = None if name in _SCENES_ALONE else order.open_clips(phase.size)
        ground = Ground(order.curriculum, phase, name, samples, clips, order.workers)
        task, course = make(ground, network), order.course(name, phase)
        with _quick_attention(order.spread):
            fit(task, course, order.folder, order.spread, order.asked)
    kept = order.folder / f"{name}.pt"
    if kept.exists():
        network.load_state_dict(read_state(kept, order.spread.device)["average"])
    elif name not in _SPARED:
        log.warning("%s has no exercise in these phases and stays untrained", name)
    return network.requires_grad_(False).eval()


def _free(network: nn.Module, learns: str) -> None:
    """Let only the weights move whose names the pattern finds; raises `BadRequest` if none do."""
    for weight, parameter in network.named_parameters():
        parameter.requires_grad_(re.search(learns, weight) is not None)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise BadRequest(f"No weight's name has {learns!r} in it. Correct what this phase learns.")


def _quick_attention(spread: Spread) -> AbstractContextManager[None]:
    """Return the context in which attention is quick on this device.

    The fused kernel is slow backwards on a processor when there are few tokens.
    """
    if spread.device.type != "cpu":
        return nullcontext()
    quick: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return quick


def _announce(order: Order) -> None:
    """Write what will be trained to `run.json`, for the page."""
    courses = [
        {"network": name, "phase": phase.number, "name": phase.name}
        | {"steps": course.steps, "seconds": course.seconds}
        for name in NETWORKS
        for phase in order.phases
        if order.trains(name, phase)
        for course in [order.course(name, phase)]
    ]
    run = {"title": order.curriculum.description, "networks": NETWORKS, "courses": courses}
    write_bytes(order.folder / "run.json", json.dumps(run, indent=1).encode())


def main(argv: Sequence[str]) -> int:
    """Run `aiprod-studio train`; return the exit code: 0 also when asked to end, 130 by Ctrl-C.

    Raises `BadRequest` for options that make no sense, before anything is written.
    """
    options = open_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    with joined(options.device) as spread, listening() as asked:
        order = dataclasses.replace(read_order(options, spread), asked=asked)
        try:
            bundle = train(order)
        except Stopped as stopped:
            if spread.leads:
                write_page(order.folder)
            sys.stderr.write(f"{stopped}\n")
            return 130 if signal.SIGINT in asked else 0
    if spread.leads:
        if options.demo:
            sys.stderr.write(read_progress(order.folder))
        sys.stdout.write(f"{order.folder / PAGE if options.demo else bundle}\n")
    return 0
