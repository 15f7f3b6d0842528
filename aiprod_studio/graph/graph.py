"""A graph of typed steps: checked when it is built, run in order, finished results kept."""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiprod_studio.errors import BadRequest


@dataclass(frozen=True)
class Step:
    """One named piece of work: an annotated function of earlier results.

    `needs` names the steps whose results are its arguments, in order; `facts` is everything else
    that decides its result, so that equal steps of another run need not run again.
    """

    name: str
    run: Callable[..., Any]
    needs: tuple[str, ...] = ()
    facts: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Graph:
    """Steps in the order of their work; `BadRequest` when they do not fit together."""

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        """Check that every step's arguments exist before it and are of the annotated types."""
        made: dict[str, Any] = {}
        for step in self.steps:
            hints = typing.get_type_hints(step.run)
            result = hints.pop("return", Any)
            wanted = list(hints.values())
            if step.name in made:
                raise BadRequest(f"Two steps are named '{step.name}'. Rename one of them.")
            if len(wanted) != len(step.needs):
                raise BadRequest(
                    f"Step '{step.name}' takes {len(wanted)} results, not {len(step.needs)}. "
                    "Correct what it needs."
                )
            for need, kind in zip(step.needs, wanted, strict=True):
                if need not in made:
                    raise BadRequest(
                        f"Step '{step.name}' needs '{need}', which no earlier step makes. "
                        "Put that step before it."
                    )
                if not _fits(made[need], kind):
                    raise BadRequest(
                        f"Step '{step.name}' cannot take what '{need}' makes "
                        f"({made[need]} instead of {kind}). Connect another step."
                    )
            made[step.name] = result

    def run(self, kept: dict[str, Any] | None = None, until: str = "") -> Any:
        """Run the steps, or those up to the one named `until`, and return the last result.

        `kept` maps fingerprints to results of earlier runs; what is found there is not made
        again, and what is made is added.
        """
        kept = {} if kept is None else kept
        results: dict[str, Any] = {}
        prints = self.prints()
        for step in self.steps:
            print_ = prints[step.name]
            if print_ not in kept:
                kept[print_] = step.run(*[results[need] for need in step.needs])
            results[step.name] = kept[print_]
            if step.name == until:
                break
        return results[step.name]

    def prints(self) -> dict[str, str]:
        """Return every step's fingerprint, under which its result is kept, by the step's name."""
        found: dict[str, str] = {}
        for step in self.steps:
            found[step.name] = fingerprint(step, [found[need] for need in step.needs])
        return found


def fingerprint(step: Step, inward: Sequence[str]) -> str:
    """Return a hash of a step's name, its facts and the fingerprints of its inputs."""
    text = repr((step.name, step.facts, tuple(inward)))
    return hashlib.sha256(text.encode()).hexdigest()


def _fits(made: Any, wanted: Any) -> bool:
    """Tell whether a result annotated `made` may be an argument annotated `wanted`."""
    if Any in (made, wanted) or made == wanted:
        return True
    return made in typing.get_args(wanted)
