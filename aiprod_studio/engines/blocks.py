"""Weights that come to the device and leave again: of a whole network, or block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

Table = dict[str, Any]


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of a network: the entries of every outermost `ModuleList`."""
    found: list[nn.Module] = []
    for child in network.children():
        found += child if isinstance(child, nn.ModuleList) else blocks_of(child)
    return found


@contextmanager
def holding(networks: Iterable[nn.Module], device: torch.device) -> Iterator[None]:
    """Hold networks as a whole on a device; afterwards their weights are where they were."""
    weights = _Weights(chain.from_iterable(network.modules() for network in networks))
    try:
        weights.bring(device)
        yield
    finally:
        weights.leave()


@contextmanager
def streaming(network: nn.Module, device: torch.device, pinned: bool) -> Iterator[None]:
    """Hold what is outside of a network's blocks on a device, and each block while it works.

    On a GPU the next block comes while one works; `pinned` RAM lets it come without a stop.
    """
    blocks = blocks_of(network)
    inside = {module for block in blocks for module in block.modules()}
    outside = _Weights(module for module in network.modules() if module not in inside)
    streams = [_Weights(block.modules()) for block in blocks]
    ahead = _Ahead(device) if device.type == "cuda" else None
    with ExitStack() as stack:
        for number, (block, weights) in enumerate(zip(blocks, streams, strict=True)):
            after = streams[number + 1] if number + 1 < len(streams) else None
            _stream(block, weights, after, ahead, device, stack)
            if pinned and device.type == "cuda":
                weights.pin()
        stack.callback(outside.leave)
        outside.bring(device)
        yield


def _stream(
    block: nn.Module,
    weights: _Weights,
    after: _Weights | None,
    ahead: _Ahead | None,
    device: torch.device,
    stack: ExitStack,
) -> None:
    """Make a block bring its weights before it works, until `stack` ends."""

    def enter(*_: Any) -> None:
        if ahead:
            ahead.wait()
        if not weights.here:
            weights.bring(device)

    def leave(*_: Any) -> None:
        weights.leave()
        if ahead and after:
            ahead.bring(after)

    stack.callback(weights.leave)
    stack.enter_context(_removing(block.register_forward_pre_hook(enter)))
    stack.enter_context(_removing(block.register_forward_hook(leave)))


@contextmanager
def _removing(handle: Any) -> Iterator[None]:
    """Remove a hook at the end."""
    try:
        yield
    finally:
        handle.remove()


class _Weights:
    """The parameters and buffers of some modules, at home or on a device.

    What is at home is never changed, so that leaving costs nothing. Copies are made outside of
    inference mode, in which quantised tensors cannot be.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        tables: list[Table] = []
        for module in modules:
            tables += [module._parameters, module._buffers]
        self.home: list[tuple[Table, str, Tensor]] = [
            (table, name, tensor)
            for table in tables
            for name, tensor in table.items()
            if tensor is not None
        ]
        self.here = False

    @torch.inference_mode(False)
    @torch.no_grad()
    def pin(self) -> None:
        """Move what is at home to RAM from which a GPU can read by itself."""
        pinned = {id(tensor): _like(tensor, _pinned(tensor.detach())) for *_, tensor in self.home}
        self.home = [(table, name, pinned[id(tensor)]) for table, name, tensor in self.home]
        self.leave()

    @torch.inference_mode(False)
    @torch.no_grad()
    def bring(self, device: torch.device) -> None:
        """Put copies on the device in their places; weights that are tied stay one."""
        self.here = True
        copies: dict[int, Tensor] = {}
        for table, name, tensor in self.home:
            if id(tensor) not in copies:
                moved = tensor.detach().to(device, non_blocking=True)
                copies[id(tensor)] = _like(tensor, moved)
            table[name] = copies[id(tensor)]

    def leave(self) -> None:
        """Put what is at home back in its places."""
        self.here = False
        for table, name, tensor in self.home:
            table[name] = tensor


class _Ahead:
    """A stream of a GPU that brings the next block while one works."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.worked = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def bring(self, weights: _Weights) -> None:
        """Begin to bring weights when the block before the one at work has done its own."""
        self.worked.synchronize()
        self.worked.record()
        with torch.cuda.stream(self.stream):
            weights.bring(self.device)
        main = torch.cuda.current_stream(self.device)
        for table, name, _ in weights.home:
            for piece in _pieces(table[name]):
                piece.record_stream(main)

    def wait(self) -> None:
        """Let the main stream wait for what has begun to come."""
        torch.cuda.current_stream(self.device).wait_stream(self.stream)


def _like(tensor: Tensor, copy: Tensor) -> Tensor:
    """Return a copy as a parameter where `tensor` is one."""
    return nn.Parameter(copy, requires_grad=False) if isinstance(tensor, nn.Parameter) else copy


def _pieces(tensor: Tensor) -> list[Tensor]:
    """Return the ordinary tensors that a tensor, which may be quantised, is made of."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [getattr(tensor, name) for name in names]


def _pinned(tensor: Tensor) -> Tensor:
    """Return a tensor, which may be quantised, in pinned RAM."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return tensor.pin_memory()
    names, context = tensor.__tensor_flatten__()
    inner = {name: getattr(tensor, name).pin_memory() for name in names}
    kind: Any = type(tensor)
    whole: Tensor = kind.__tensor_unflatten__(inner, context, tensor.size(), tensor.stride())
    return whole
