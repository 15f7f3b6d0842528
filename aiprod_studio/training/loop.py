"""The training loop: one network, one loss, a budget of time, checkpoints that resume."""

from __future__ import annotations

import copy
import json
import logging
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

WARM_UP = 0.1
CLIP = 1.0
SAVE_SECONDS = 60.0
BAD_LOSSES = 5


@dataclass(frozen=True)
class Course:
    """How long and how fast one network learns: seconds of training, peak learning rate, seed."""

    name: str
    seconds: float
    rate: float
    seed: int = 0
    ema: float = 0.998


Loss = Callable[[torch.Generator, float], Tensor]


def fit(network: nn.Module, loss: Loss, course: Course, folder: Path) -> nn.Module:
    """Train `network` in place until the course's seconds are spent; return its moving average.

    `loss` draws its own batch from the generator; its second argument is the share of the course
    that is done. A checkpoint in `folder` is taken up again, and a termination signal saves one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{course.name}.pt"
    optimiser = torch.optim.AdamW(_groups(network, course.rate), betas=(0.9, 0.98))
    average = copy.deepcopy(network).requires_grad_(False)
    dice = torch.Generator().manual_seed(course.seed)
    step, spent, bad = 0, 0.0, 0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        dice.set_state(state["dice"])
        step, spent = state["step"], state["spent"]
    stop = _Stop()
    saved = mark = time.monotonic()
    while spent < course.seconds and not stop.asked:
        share = spent / course.seconds
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * _schedule(share)
        value = loss(dice, share)
        norm = _learn(network, optimiser, value)
        if math.isfinite(norm):
            _follow(average, network, min(course.ema, (1 + step) / (10 + step)))
            bad = 0
        else:
            bad += 1
            log.warning("%s: step %d is not finite and is left out", course.name, step)
            if bad >= BAD_LOSSES:
                raise FloatingPointError(f"{course.name}: {bad} steps in a row are not finite")
        step += 1
        now = time.monotonic()
        spent, mark = spent + now - mark, now
        if step % 20 == 0:
            note = {
                "step": step,
                "spent": round(spent, 1),
                "loss": value.item(),
                "norm": norm,
            }
            _report(folder / f"{course.name}.jsonl", note)
        if now - saved > SAVE_SECONDS:
            _save(kept, network, average, optimiser, dice, step, spent)
            saved = now
    _save(kept, network, average, optimiser, dice, step, spent)
    if stop.asked:
        raise KeyboardInterrupt
    return average


def _learn(network: nn.Module, optimiser: torch.optim.Optimizer, value: Tensor) -> float:
    """Take one step if loss and gradient are finite; return the gradient's norm."""
    if not torch.isfinite(value):
        return math.nan
    optimiser.zero_grad(set_to_none=True)
    value.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(network.parameters(), CLIP).item()
    if math.isfinite(norm):
        optimiser.step()
    return norm


def _groups(network: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Group the weights by fan-in: a step of Adam moves a sum of many inputs further.

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


class _Stop:
    """Remembers that the process was asked to end, so that a step is never cut in half."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def _schedule(share: float) -> float:
    """Return the learning rate's factor: a straight warm-up, then half a cosine."""
    if share < WARM_UP:
        return max(share / WARM_UP, 0.02)
    return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) * 0.98 + 0.02


def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the average's weights towards the network's."""
    with torch.no_grad():
        mine: list[Tensor] = list(average.parameters())
        theirs = [p.detach() for p in network.parameters()]
        torch._foreach_lerp_(mine, theirs, 1 - decay)
        for kept, new in zip(average.buffers(), network.buffers(), strict=True):
            kept.copy_(new)


def _report(path: Path, note: dict[str, float]) -> None:
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(note) + "\n")
    log.info("%s %s", path.stem, note)


def _save(
    path: Path,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    dice: torch.Generator,
    step: int,
    spent: float,
) -> None:
    """Write the checkpoint under another name first, so that a kill never leaves half of one."""
    state = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
        "dice": dice.get_state(),
        "step": step,
        "spent": spent,
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)
