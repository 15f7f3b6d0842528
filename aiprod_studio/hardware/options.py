"""Every way to run one clip on one canvas: weights, batch, placement, decoder, compiled or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from aiprod_studio.hardware.budget import device_limit, pin, ram_limit
from aiprod_studio.hardware.duration import COMPILE_SECONDS
from aiprod_studio.hardware.ladder import coarser_weights, predict, shorter_chunk, smaller_tile
from aiprod_studio.hardware.memory import basis_of, shares_memory
from aiprod_studio.types import Basis, Plan


def options(first: Plan) -> Iterator[Plan]:
    """Yield `first` and everything that saves memory on the same canvas, predicted."""
    ways = _decoders(first)
    for weights in _weights(first):
        for batch in batches(basis_of(first)):
            for placed in _placed(dataclasses.replace(weights, batch=batch), ways):
                yield placed
                if _may_compile(placed):
                    yield predict(dataclasses.replace(placed, compiled=True))


def leanest(first: Plan) -> Plan:
    """Return the plan that takes the least memory on the same canvas."""
    plan = dataclasses.replace(list(_weights(first))[-1], batch=1)
    if basis_of(first).card.parts:
        plan = _place(plan, "disk", "disk")
    decoded = (_decode_by(plan, way) for way in _decoders(first))
    return min(decoded, key=lambda one: one.peak_bytes["decode"])


def _decoders(first: Plan) -> list[Plan]:
    """Return `first` with every way of decoding, the fastest first."""
    found: list[Plan] = []
    tiled: Plan | None = first
    while tiled is not None:
        chunked: Plan | None = tiled
        while chunked is not None:
            found.append(chunked)
            chunked = shorter_chunk(chunked)
        tiled = smaller_tile(tiled)
    return sorted(found, key=lambda plan: plan.stage_seconds["decode"])


def _weights(first: Plan) -> Iterator[Plan]:
    """Yield `first` with its weights in full and in ever fewer bits."""
    plan = first
    while True:
        yield plan
        name = coarser_weights(plan)
        if name is None:
            return
        plan = dataclasses.replace(plan, quantisation=name)


def batches(basis: Basis) -> list[int]:
    """Return the batches to try, the one that is wanted most first.

    A small model on a GPU gains from as many clips at once as fit. One clip of a large one fills
    the device, so that more pay only where weights travel. On a CPU one clip of the starter fills
    the cores: two and four at once took 0.93 to 1.0 of the time on one core. A step cache decides
    for a whole batch, so that a clip would change with its company.
    """
    if basis.request.cache:
        return [1]
    if basis.card.parts:
        return [2**power for power in range(basis.clips.bit_length())]
    if basis.hardware.device == "cpu":
        return [1]
    return [basis.clips >> power for power in range(basis.clips.bit_length())]


def _placed(plan: Plan, ways: list[Plan]) -> Iterator[Plan]:
    """Yield `plan` with its weights at every place, those that never travel first."""
    yield _decode_within(plan, ways)
    if not basis_of(plan).card.parts:
        return
    staged = _decode_within(_place(plan, "model", "model"), ways)
    places = ("model", "disk") if shares_memory(plan) else ("model", "group", "disk")
    for encode in places:
        for denoise in places:
            yield predict(_place(staged, encode, denoise))


def _place(plan: Plan, encode: str, denoise: str) -> Plan:
    """Return `plan` with its weights there; the decoder comes as a whole."""
    placement = {"encode": encode, "denoise": denoise, "decode": "model"}
    return pin(dataclasses.replace(plan, placement=placement))


def _decode_within(plan: Plan, ways: list[Plan]) -> Plan:
    """Return `plan` with the fastest decoder that fits, or with the last one tried."""
    hardware = basis_of(plan).hardware
    decoded = plan
    for way in ways:
        decoded = _decode_by(plan, way)
        peak, ram = decoded.peak_bytes["decode"], decoded.ram_bytes["decode"]
        if peak <= device_limit(hardware) and ram <= ram_limit(hardware):
            break
    return decoded


def _decode_by(plan: Plan, way: Plan) -> Plan:
    """Return `plan`, predicted, with the decoder of another one."""
    decoder = {"tile": way.tile, "overlap": way.overlap, "chunk": way.chunk, "tiling": way.tiling}
    return predict(dataclasses.replace(plan, **decoder))  # type: ignore[arg-type]


def _may_compile(plan: Plan) -> bool:
    """Say whether compiling is possible and could pay back within the job."""
    basis = basis_of(plan)
    if plan.device != "cuda" or not basis.card.parts:
        return False
    return plan.stage_seconds["denoise"] * basis.clips > COMPILE_SECONDS
