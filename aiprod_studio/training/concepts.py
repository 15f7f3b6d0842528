"""The table of concepts: what each of the text encoder's registers should say.

Every register belongs to one kind of concept. A concept's row depends on nothing but its name, so
that the world can grow, and the text encoder learn more languages, while the backbone goes on
reading the same table.
"""

from __future__ import annotations

import hashlib
from functools import cache

import torch
from torch import Tensor

from aiprod_studio.training.world import ABSENT, Concept, load_world

# How often something goes unsaid: by kind, and what a scene shows unless the prompt says otherwise.
_LEFT_OUT = {"places": 0.1, "times": 0.05, "cameras": 0.05, "motions": 0.05}
_UNSAID = {
    ("times", "day"): 0.5,
    ("cameras", "still"): 0.5,
    ("motions", "still"): 0.5,
    ("styles", "glossy"): 0.7,
    ("weathers", "clear"): 0.7,
    ("relations", "alone"): 1.0,
    ("sizes", "usual"): 1.0,
    ("counts", "one"): 1.0,
}
# In the order of their registers, which trained networks know them by: new kinds come last.
_KINDS = (
    *("subjects", "places", "times", "motions", "cameras", "styles", "weathers", "relations"),
    *("others", "sizes", "counts", "thirds"),
)

FIGURES = ("subjects", "others", "thirds")
"""The kinds that name figures, in the order of a layout's."""


@cache
def concept_table(kind: str, width: int) -> Tensor:
    """Return the rows of a kind `[concepts + 1, width]`; the last one means "not said"."""
    rows = [_row(f"{kind}/{concept.id}", width) for concept in concepts_of(kind)]
    return torch.stack([*rows, _row("", width)])


def kinds() -> tuple[str, ...]:
    """Return the kinds of concept in the order of their registers."""
    return _KINDS


def codebook(width: int) -> Tensor:
    """Return the tables of all kinds below each other `[rows, width]`."""
    return torch.cat([concept_table(kind, width) for kind in kinds()])


def write_registers(said: dict[str, Tensor], registers: int, width: int) -> Tensor:
    """Return the features `[B, registers, width]` of what is said, class numbers `[B]` by kind.

    A register says nothing where its kind is usual in a way that no prompt ever says.
    """
    batch = len(said["subjects"])
    features = _row("", width).expand(batch, registers, width).clone()
    for kind, values in hear(said).items():
        features[:, kinds().index(kind)] = concept_table(kind, width)[values]
    return features


def hear(said: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return class numbers `[B]` by kind with `ABSENT` for what is so usual that nobody says it."""
    return {
        kind: torch.where(_goes_unsaid(kind)[values] == 1, ABSENT, values)
        for kind, values in said.items()
    }


def draw_said(labels: dict[str, Tensor], dice: torch.Generator) -> dict[str, Tensor]:
    """Return what a prompt for these scenes says: what goes without saying often goes unsaid."""
    said = {}
    for kind, values in labels.items():
        left_out = torch.rand(values.shape, generator=dice) < _goes_unsaid(kind)[values]
        said[kind] = torch.where(left_out, ABSENT, values)
    return said


@cache
def _goes_unsaid(kind: str) -> Tensor:
    """Return how often each concept of a kind is left out `[concepts + 1]`; the last: absence."""
    usual = _LEFT_OUT.get(kind, 0.0)
    shares = [_UNSAID.get((kind, concept.id), usual) for concept in concepts_of(kind)]
    return torch.tensor([*shares, usual])


def concepts_of(kind: str) -> tuple[Concept, ...]:
    """Return the concepts of a kind; `others` and `thirds` are further subjects."""
    return load_world().kinds["subjects" if kind in FIGURES else kind]


def _row(name: str, width: int) -> Tensor:
    """Return the random vector `[width]` of unit scale that belongs to a name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    return torch.randn(width, generator=torch.Generator().manual_seed(seed))
