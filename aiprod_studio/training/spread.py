"""One training over several processes: each computes its part of the same batch (torchrun, DDP).

torchrun --nproc-per-node 2 -m aiprod_studio train starter
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from aiprod_studio.errors import BadRequest
from aiprod_studio.training.data import Rows, count, take


@dataclass(frozen=True)
class Spread:
    """This process's device, and its rank among those that train the same network."""

    device: torch.device
    rank: int = 0
    ranks: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints, metrics and samples."""
        return self.rank == 0

    def part(self, rows: Rows) -> Rows:
        """Return this process's rows of a batch; all processes have the same number of them."""
        each = count(rows) // self.ranks
        return take(rows, self.rank * each, (self.rank + 1) * each)

    def check_batch(self, batch: int) -> None:
        """Raise `BadRequest` unless a batch can be divided among all processes."""
        if batch % self.ranks:
            raise BadRequest(
                f"A batch of {batch} cannot be divided among {self.ranks} processes. Use "
                "batches that are multiples of their number."
            )

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are averaged over all processes."""
        if self.ranks == 1:
            return module
        # Batches of pictures leave the sound's weights unused.
        return DistributedDataParallel(module, find_unused_parameters=True)

    def mean(self, values: list[float]) -> list[float]:
        """Return the mean of each value over all processes."""
        if self.ranks == 1:
            return values
        total = torch.tensor(values, dtype=torch.float32, device=self.device)
        dist.all_reduce(total)
        return [value / self.ranks for value in total.tolist()]

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.ranks > 1:
            dist.barrier()


def without_sync(module: nn.Module, on: bool) -> AbstractContextManager[None]:
    """Return a context in which a wrapped module keeps its gradients to itself, when `on`."""
    if on and isinstance(module, DistributedDataParallel):
        return module.no_sync()
    return nullcontext()


@contextmanager
def joined(device: str | None) -> Iterator[Spread]:
    """Yield the spread that torchrun's environment describes, alone without one.

    `device` is any that torch names; `None` is the best one. Raises `BadRequest` for one that is
    not here.
    """
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        yield Spread(_open(device or _best()))
        return
    kind = device or _best()
    if kind == "cuda":
        kind = f"cuda:{os.environ['LOCAL_RANK']}"
    place = _open(kind)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Spread(place, dist.get_rank(), ranks)
    finally:
        dist.destroy_process_group()


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _open(name: str) -> torch.device:
    """Return the device of that name after it has held a number."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BadRequest(
            f"The device {name!r} cannot be used ({reason}). Try --device cpu."
        ) from error
    return device
