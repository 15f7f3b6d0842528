"""What diffusers' schedulers carry from step to step, so that a stopped run goes on exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aiprod_studio.sampling.solvers import Point

# What the multistep schedulers carry: lists of tensors, tensors, and counts.
_LISTS = ("model_outputs", "timestep_list")
_TENSORS = ("last_sample",)
_COUNTS = ("lower_order_nums", "this_order")


def carried(scheduler: Any, number: int) -> dict[str, Tensor]:
    """Return, by name, what a scheduler carries of one of the clips that it denoises together."""
    found: dict[str, Tensor] = {}
    for name in _LISTS:
        for place, tensor in enumerate(getattr(scheduler, name, ())):
            if tensor is not None:
                found[f"{name}.{place}"] = _row(tensor, number)
    for name in _TENSORS:
        if getattr(scheduler, name, None) is not None:
            found[name] = _row(getattr(scheduler, name), number)
    for name in _COUNTS:
        if hasattr(scheduler, name):
            found[name] = torch.tensor(getattr(scheduler, name))
    return found


def restore(scheduler: Any, points: Sequence[Point], device: torch.device) -> None:
    """Make a scheduler, its times already set, go on from the points of its clips."""
    scheduler.set_begin_index(points[0].done)
    for name in points[0].more:
        rows = [point.more[name].to(device) for point in points]
        whole = torch.cat(rows) if rows[0].dim() else rows[0]
        base, _, place = name.partition(".")
        if place:
            getattr(scheduler, base)[int(place)] = whole
        else:
            setattr(scheduler, base, int(whole) if base in _COUNTS else whole)


def _row(tensor: Tensor, number: int) -> Tensor:
    """Return one clip's row of a tensor; one without axes is the same for all."""
    return tensor[number : number + 1] if tensor.dim() else tensor
