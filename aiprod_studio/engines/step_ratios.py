"""How much each step of a denoiser changes from the last, measured once on this machine.

The step cache "mag" needs to know it (Ma et al., MagCache, 2025). A clip that asks for the cache
before anybody knows renders every step, which is when it is measured, and the next one uses it.
What is kept belongs to a network of a repository's commit and a number of steps, and leaves with
the weights.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aiprod_studio.engines.blocks import blocks_of
from aiprod_studio.engines.hub.copies import converted_folder
from aiprod_studio.errors import StudioError
from aiprod_studio.media.files import write_bytes

log = logging.getLogger(__name__)

Turn = Callable[[str], AbstractContextManager[None]]
"""What each run of a denoiser goes inside of, called with the name of its guide."""

# So that a change of nothing divides nothing.
_TINY = 1e-8
_STREAMS = ("hidden_states", "audio_hidden_states")


def find_ratios(folder: Path, steps: range) -> list[float]:
    """Return the measured ratios of a network's `steps`, none where they are not known.

    `folder` is the one of its weights. The second of two denoisers knows only steps of its own:
    what is missing at the end are steps that the network does not see.
    """
    try:
        found = json.loads(_path(folder, steps).read_text(encoding="utf-8"))
        first, ratios = int(found["first"]), [float(one) for one in found["ratios"]]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    known = ratios[steps.start - first :] if first <= steps.start else []
    return known + [1.0] * (len(steps) - len(known)) if known else []


@contextmanager
def measuring(network: Any, folder: Path, steps: range) -> Iterator[Turn]:
    """Measure the ratios of a network's `steps` and keep them, if the `with` ends well.

    Of several guides and streams, picture and sound, the ratio that is farthest from 1 counts.
    """
    log.warning(
        "The step cache 'mag' does not know this model at %d steps yet: this clip is rendered "
        "without it and measured, for the next one.",
        steps.stop,
    )
    blocks, gauge = blocks_of(network), _Gauge()
    handles = (
        blocks[0].register_forward_pre_hook(gauge.enter, with_kwargs=True),
        blocks[-1].register_forward_hook(gauge.leave),
    )
    try:
        yield gauge.turn
    finally:
        for handle in handles:
            handle.remove()
    _keep(_path(folder, steps), steps.start, gauge.ratios())


class _Gauge:
    """What the blocks of a denoiser change of their streams, and how that goes from step to step.

    Only the lengths of the changes are kept, one a token.
    """

    def __init__(self) -> None:
        self._guide = ""
        self._before: list[Tensor] = []
        self._last: dict[str, list[Tensor]] = {}
        self._ratios: dict[str, list[float]] = {}

    def ratios(self) -> list[float]:
        """Return the ratio of each step that was measured."""
        rows = zip(*self._ratios.values(), strict=True)
        return [max(row, key=lambda ratio: abs(ratio - 1)) for row in rows]

    @contextmanager
    def turn(self, guide: str) -> Iterator[None]:
        """Let what runs in the `with` be a guide's."""
        self._guide = guide
        yield

    def enter(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember what comes into the first block."""
        given = {**dict(zip(_STREAMS[:1], args, strict=False)), **kwargs}
        self._before = [given[name] for name in _STREAMS if name in given]

    def leave(self, block: nn.Module, args: Any, output: Tensor | Sequence[Tensor]) -> None:
        """Compare what all blocks together have changed with what they did at the last step."""
        after = [output] if isinstance(output, Tensor) else output
        now = [
            torch.linalg.vector_norm((new - old).float(), dim=-1)
            for new, old in zip(after, self._before, strict=True)
        ]
        # The first step has none before it, and is never left out.
        last = self._last.get(self._guide, now)
        found = [
            ((one + _TINY) / (other + _TINY)).mean().item()
            for one, other in zip(now, last, strict=True)
        ]
        farthest = max(found, key=lambda ratio: abs(ratio - 1))
        self._ratios.setdefault(self._guide, []).append(farthest)
        self._last[self._guide], self._before = now, []


def _keep(path: Path, first: int, ratios: list[float]) -> None:
    """Write ratios, the first of which is that of step `first`, unless they are no numbers."""
    if not ratios or not all(map(math.isfinite, ratios)):
        log.warning("What was measured for the step cache is no number and not kept: %s", ratios)
        return
    text = json.dumps({"first": first, "ratios": [round(ratio, 6) for ratio in ratios]})
    try:
        write_bytes(path, text.encode())
    except StudioError as error:
        log.warning("What was measured for the step cache is not kept: %s", error)


def _path(folder: Path, steps: range) -> Path:
    """Return where the ratios of a network are kept, for runs of so many steps in all."""
    # A snapshot's folder is models--owner--name/snapshots/commit.
    snapshot = folder.parent
    name = f"mag-{snapshot.name}-{folder.name}-{steps.stop}.json"
    return converted_folder(snapshot.parent.parent.name) / name
