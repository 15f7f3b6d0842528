"""The pace of learning: how fast which weights move, when, and how their average follows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

WARM_UP = 0.1


def group_weights(network: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Return groups of weights for AdamW, by fan-in: a step of Adam moves a long sum further.

    The rate falls with the root of the fan-in, from 384 on.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        inputs = parameter[0].numel() if parameter.ndim > 1 else 1
        decay = 0.01 if parameter.ndim > 1 else 0.0
        groups.setdefault((rate * min(1.0, (384 / inputs) ** 0.5), decay), []).append(parameter)
    return [
        {"params": members, "lr": peak, "peak": peak, "weight_decay": decay}
        for (peak, decay), members in groups.items()
    ]


def schedule(share: float) -> float:
    """Return the learning rate's factor: a straight warm-up, then half a cosine."""
    if share < WARM_UP:
        return max(share / WARM_UP, 0.02)
    return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) * 0.98 + 0.02


def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the average's weights towards the network's."""
    with torch.no_grad():
        mine: list[Tensor] = list(average.parameters())
        theirs = [p.detach() for p in network.parameters()]
        torch._foreach_lerp_(mine, theirs, 1 - decay)
        for kept, new in zip(average.buffers(), network.buffers(), strict=True):
            kept.copy_(new)
