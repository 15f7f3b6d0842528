"""Clips a minute, together against one by one: `python tests/benchmarks/batches.py [clips]`.

Both ways alternate, so that what else the machine does meets both alike; beside the clock stands
the processor's own time. What the planner chooses by itself is printed first.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from aiprod_studio import Request, Studio

ROUNDS = 3
STEPS = 8


def rate(studio: Studio, folder: Path, clips: int, first: int) -> tuple[float, float]:
    """Return clips a minute by the clock, and by the processor's time; seeds are from `first` on.

    A seed that the studio knows would cost it nothing.
    """
    jobs = [
        (Request("a dog on a beach", seed=seed, steps=STEPS), folder / f"{seed}.mp4")
        for seed in range(first, first + clips)
    ]
    clock, busy = time.perf_counter(), time.process_time()
    for _, outcome in studio.render_all(jobs):
        if isinstance(outcome, Exception):
            raise outcome
    return (
        60 * clips / (time.perf_counter() - clock),
        60 * clips / (time.process_time() - busy),
    )


def main() -> None:
    """Print clips a minute of either way, and their ratio."""
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    planned = Studio().plan(Request("a dog", steps=STEPS), clips)[1]
    print(f"the planner lets {planned.batch} of {clips} clips go together on {planned.device}")
    ways = {"one by one": Studio(hold=True, batch=1), "together": Studio(hold=True, batch=clips)}
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS + 1):
            for name, studio in ways.items():
                found = rate(studio, Path(folder) / name, clips, number * clips)
                if number:  # the first round warms up
                    rates[name].append(found)
    for place, what in enumerate(("by the clock", "by the processor's time")):
        alone, together = (statistics.median(one[place] for one in rates[name]) for name in ways)
        print(
            f"{what}: {alone:.1f} clips a minute one by one, {together:.1f} together, "
            f"ratio {together / alone:.2f}"
        )
    for studio in ways.values():
        studio.close()


if __name__ == "__main__":
    main()
