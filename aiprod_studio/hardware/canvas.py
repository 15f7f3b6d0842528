"""The canvas that the networks see: about the area they were trained on, in the clip's aspect."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from aiprod_studio.types import Plan


def first_stage(plan: Plan) -> Plan:
    """Return `plan` with the canvas of its first stage, of half the sides where there are two."""
    if plan.stages == 1:
        return plan
    return dataclasses.replace(plan, width=plan.width // 2, height=plan.height // 2, stages=1)


def choose_canvas(width: int, height: int, pixels: int, step: int) -> tuple[int, int]:
    """Return the canvas of about `pixels` area, in pixels, for a clip of `width` × `height`.

    Its sides are multiples of `step` and keep the aspect as far as that allows.
    """
    if width * height == pixels and width % step == height % step == 0:
        return width, height

    def distance(size: tuple[int, int]) -> float:
        aspect = math.log(size[0] * height / (size[1] * width))
        area = math.log(size[0] * size[1] / pixels)
        return abs(aspect) + abs(area) / 2

    return min(_near_sizes(width, height, pixels, step), key=distance)


def _near_sizes(width: int, height: int, pixels: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield the sizes around the ideal one whose sides are multiples of `step`."""
    scale = math.sqrt(pixels / (width * height)) / step
    columns, rows = math.floor(width * scale), math.floor(height * scale)
    for column in range(columns - 1, columns + 3):
        for row in range(rows - 1, rows + 3):
            if column > 0 and row > 0:
                yield column * step, row * step
