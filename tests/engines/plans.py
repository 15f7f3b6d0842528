"""Cards and plans of the tiny pipelines, for tests that need no planner, and what they decode."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from aiprod_studio.engines.catalog import cards
from aiprod_studio.engines.engine import Frames, Latents, Parts
from aiprod_studio.types import Basis, Hardware, ModelCard, Plan, Request

ENGINES = {"wan": "wan2.1-1.3b", "wan5b": "wan2.2-5b"}


def card_of(kind: str) -> ModelCard:
    """Return the card of the model that a tiny pipeline stands for."""
    return cards()[ENGINES.get(kind, "wan2.2-a14b")]


def machine() -> Hardware:
    """Return a computer without a GPU."""
    return Hardware(
        device="cpu",
        name="CPU",
        total_bytes=2**34,
        free_bytes=2**34,
        ram_bytes=2**34,
        ram_free_bytes=2**34,
        cores=2,
        disk_free_bytes=2**36,
        dtypes=("float32",),
        because="a test",
    )


def plan_of(kind: str, place: str = "resident", **more: Any) -> Plan:
    """Return a plan for a short clip of a tiny pipeline, all weights at one place."""
    side = 64 if kind == "wan5b" else 32
    plan = Plan(
        device="cpu",
        precision="float32",
        width=side,
        height=side,
        frames=9,
        batch=1,
        tile=0,
        peak_bytes={},
        seconds=0.0,
        because=(),
        placement={"encode": place, "denoise": place, "decode": place},
        basis=Basis(machine(), card_of(kind), Request("a red fox running")),
    )
    return dataclasses.replace(plan, **more)


def decode(parts: Parts, latents: Latents, plan: Plan) -> Frames:
    """Return the frames of all chunks; no mode of torch may be left on between two of them."""
    chunks = []
    for chunk in parts.decode_video(latents, plan):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        chunks.append(chunk)
    return np.concatenate(chunks)


def to_frames(video: torch.Tensor) -> Frames:
    """Return a video `[1, 3, T, H, W]` in -1…1 as frames."""
    return ((video[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0).numpy()
