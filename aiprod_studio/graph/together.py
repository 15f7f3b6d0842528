"""Clips that differ in prompt, seed and pictures only, denoised together in their first stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from aiprod_studio.engines.engine import Batching, Given, Latents, Text
from aiprod_studio.errors import StudioError
from aiprod_studio.graph.generate import Work
from aiprod_studio.sampling.solvers import Point
from aiprod_studio.types import Progress


@dataclass(frozen=True)
class _Ready:
    """A clip with all that its denoiser reads, and the point where it goes on, if it was begun."""

    work: Work
    text: Text
    nothing: Text
    given: Given
    start: Point | None

    @property
    def done(self) -> int:
        """The steps that were taken."""
        return self.start.done if self.start else 0


def denoise_together(works: Sequence[Work], parts: Batching, kept: dict[str, Any]) -> None:
    """Denoise clips, as many at once as their plan says, and leave the latents in their trails.

    A clip that cannot be encoded, or that is cancelled, is left out: it says why when it is made
    alone. `kept` is as in `Graph.run`. Clips that were begun go on from where they were.
    """
    ready = sorted(_prepare(works, kept), key=lambda one: one.done)
    for _, level in groupby(ready, key=lambda one: one.done):
        clips = list(level)
        batch = clips[0].work.plan.batch
        for first in range(0, len(clips), batch):
            _denoise(clips[first : first + batch], parts)


def _prepare(works: Sequence[Work], kept: dict[str, Any]) -> Iterator[_Ready]:
    """Yield the clips whose latents are not there yet, encoded."""
    for work in works:
        try:
            graph, found = work.graph(), work.trail.find(work.mark)
            if isinstance(found, Latents) or graph.prints()["latents"] in kept:
                continue
            text, nothing, given = (
                graph.run(kept, until) for until in ("prompt", "nothing", "given")
            )
        except StudioError:
            continue
        yield _Ready(work, text, nothing, given, found)


def _denoise(clips: Sequence[_Ready], parts: Batching) -> None:
    """Denoise clips that were begun equally far; one that is cancelled only stops being told of."""
    wanted = set(range(len(clips)))

    def on_points(points: Sequence[Point]) -> None:
        for number in wanted:
            clips[number].work.pass_point(points[number])

    def on_step(done: int, total: int) -> None:
        for number in sorted(wanted):
            try:
                clips[number].work.tell(Progress("denoise", done, total))
            except StudioError:
                wanted.remove(number)
                if not wanted:
                    raise

    steps = clips[0].work.request.steps
    assert steps is not None
    on_step(clips[0].done, steps)
    latents = parts.denoise_together(
        [clip.text for clip in clips],
        clips[0].nothing,
        [clip.given for clip in clips],
        [clip.work.rendered for clip in clips],
        clips[0].work.first,
        on_step,
        on_points,
        [clip.start for clip in clips if clip.start] or None,
    )
    for number in wanted:
        work = clips[number].work
        work.trail.end(work.mark, latents[number])
