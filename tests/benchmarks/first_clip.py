"""Seconds and peak memory of the first clip, per stage: `python tests/benchmarks/first_clip.py`."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "a brown dog running on a beach at sunset"


def run(*arguments: str) -> tuple[float, str]:
    """Return the wall-clock seconds of a new Python and what it printed."""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return time.perf_counter() - begin, done.stdout


def stages(folder: Path) -> None:
    """Render one clip in this process; print each stage's seconds and the peak memory."""
    begin = time.perf_counter()
    from aiprod_studio import Request, Studio
    from aiprod_studio.engines import native  # noqa: F401  (this is where torch starts)

    marks = [("start torch", begin), ("load", time.perf_counter())]

    def tell(_: int, progress: object) -> None:
        stage = progress.stage  # type: ignore[attr-defined]
        if marks[-1][0] != stage:
            marks.append((stage, time.perf_counter()))

    outcomes = list(Studio().render_all([(Request(PROMPT, seed=1), folder / "clip.mp4")], tell))
    end = time.perf_counter()
    ends = [mark[1] for mark in marks[1:]] + [end]
    for (stage, start), stop in zip(marks, ends, strict=True):
        print(f"{stage:<14}{stop - start:8.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'in all':<14}{end - begin:8.2f} s, peak memory {peak:.2f} GiB")
    print(outcomes[0][1].path.stat().st_size, "bytes")  # type: ignore[union-attr]


def main() -> None:
    """Print the table."""
    print(f"{'import':<14}{run('-c', 'import aiprod_studio')[0]:8.2f} s")
    print(f"{'--help':<14}{run('-m', 'aiprod_studio', '--help')[0]:8.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        seconds, _ = run("-m", "aiprod_studio", "--cli", PROMPT, "--out", folder)
        print(f"{'command':<14}{seconds:8.2f} s from start to file")
        stages(Path(folder))


if __name__ == "__main__":
    main()
