"""Teach the judge, and let it mark the starter: `python tests/benchmarks/judge.py train|report`.

`train` goes on where it stopped. `report` renders what it asks for into a folder by the weights'
content, so that a second run renders only what is missing, and writes marks.json and the page.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from aiprod_studio import Request, Studio
from aiprod_studio.engines.bundle import load_bundle
from aiprod_studio.errors import StudioError
from aiprod_studio.library.presets import load_preset
from aiprod_studio.settings import settings
from aiprod_studio.training.captions import written_languages
from aiprod_studio.training.curriculum import find_curriculum
from aiprod_studio.training.exam import (
    Group,
    Question,
    answers,
    ask,
    list_groups,
    mark,
    mark_group,
    read_clips,
    render,
    script_of,
)
from aiprod_studio.training.judge import Judge
from aiprod_studio.training.judging import consider, find_lesson, load_judge, train_judge
from aiprod_studio.training.loop import Stopped, listening
from aiprod_studio.training.spread import Spread
from aiprod_studio.training.transcript import write_transcript

log = logging.getLogger(__name__)

CURRICULUM = find_curriculum("starter")
SIZE = CURRICULUM.phases[-1].size
PROMPT = "a brown dog running on a beach at sunset"
ROOT = Path(__file__).resolve().parents[2]


def make(studio: Studio, questions: list[Question], preset: str, folder: Path) -> list[Path]:
    """Render the questions that have no clip yet, at the denoiser's own size; return all clips."""
    jobs = []
    for asked in questions:
        values = {"width": 128, "height": 128, **load_preset(preset).values}
        request = Request(asked.prompt, seed=asked.seed, **values)
        name = hashlib.sha256(repr(request).encode()).hexdigest()[:12]
        stem = f"{asked.group.replace(' ', '-')}-{asked.language}-{asked.number:03}-{name}"
        jobs.append((request, folder / f"{stem}.mp4"))
    todo = [job for job in jobs if not job[1].exists()]
    begin = time.monotonic()
    for done, (_, outcome) in enumerate(studio.render_all(todo), 1):
        if isinstance(outcome, StudioError):
            raise outcome
        if done % 20 == 0 or done == len(todo):
            spent = time.monotonic() - begin
            log.info("%d of %d clips, %.1f s each", done, len(todo), spent / done)
    return [path for _, path in jobs]


def mark_languages(
    studio: Studio, judge: Judge, group: Group, folder: Path, limits: tuple[int, int]
) -> dict[str, dict[str, object]]:
    """Return by language what is named right of a group's first prompts, in the fast preset.

    `limits` are how many languages, English first, and how many prompts in each.
    """
    marks: dict[str, dict[str, object]] = {}
    codes, each = ["en", *(code for code in written_languages() if code != "en")], limits[1]
    for code in codes[: limits[0]]:
        questions = ask(group, code, each)
        shown = read_clips(make(studio, questions, "fast", folder), SIZE)
        said = consider(judge, shown)
        own: dict[str, object] = dict(mark(said, answers(questions, judge.config.concepts)))
        marks[code] = {**own, "script": script_of(" ".join(q.prompt for q in questions))}
    return marks


def time_command(preset: str, repeats: int) -> float:
    """Return the median seconds from the command to the file of a 2 s clip, at default size."""
    seconds = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            command = ["-m", "aiprod_studio", "--cli", PROMPT, "--preset", preset, "--out", folder]
            begin = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def training_spent(folder: Path) -> dict[str, dict[str, float]]:
    """Return steps and hours of each network from its metrics; both begin anew with a course."""
    spent = {}
    for path in sorted(folder.glob("*.jsonl")):
        notes = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        lasts = [
            note
            for note, after in zip(notes, [*notes[1:], None], strict=True)
            if after is None or after["spent"] < note["spent"]
        ]
        hours = sum(note["spent"] for note in lasts) / 3600
        spent[path.stem] = {"steps": sum(note["step"] for note in lasts), "hours": hours}
    return spent


def machine(studio: Studio) -> dict[str, object]:
    """Return what this machine is, and the best of a few large products in bfloat16."""
    square = torch.randn(2048, 2048, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        square @ square
        best = min(best, time.perf_counter() - begin)
    found = studio.hardware
    return {"name": found.name, "cores": found.cores, "gflops": 2 * 2048**3 / best / 1e9}


def report(options: argparse.Namespace) -> None:
    """Render, mark, and write marks.json and the page."""
    judge = load_judge(CURRICULUM, options.folder)
    bundle = settings().assets / "starter" / "starter.safetensors"
    digest = hashlib.sha256()
    for path in sorted(bundle.parent.glob("*.safetensors")):
        digest.update(path.read_bytes())
    folder = options.folder / "clips" / digest.hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    studio, networks = Studio(hold=True), load_bundle(bundle)
    groups = list_groups(find_lesson(CURRICULUM), options.clips)
    each = max(1, options.clips // 5)
    marks = {
        "clips": options.clips,
        "preset": options.preset,
        "each": each,
        "subjects": len(dict(judge.config.concepts)["subjects"]),
        "groups": {},
        "machine": machine(studio),
        "training": training_spent(settings().training / "starter"),
        "judge": training_spent(options.folder),
    }
    for name, group in groups.items():
        questions = ask(group)
        shown = read_clips(make(studio, questions, options.preset, folder), SIZE)
        scenes = render(group, SIZE, networks, judge.config.concepts)
        marks["groups"][name] = mark_group(judge, questions, shown, scenes, SIZE.fps)
        log.info("%s: %s", name, json.dumps(marks["groups"][name]["named"]))
    limits = options.languages, each
    marks["languages"] = mark_languages(studio, judge, groups["held out"], folder, limits)
    studio.close()
    timed = ("default", "fast") if options.repeats else ()
    marks["seconds"] = {name: time_command(name, options.repeats) for name in timed}
    path = options.folder / "marks.json"
    path.write_text(json.dumps(marks, indent=1, ensure_ascii=False), encoding="utf-8")
    options.page.write_text(write_transcript(marks), encoding="utf-8")
    print(path, options.page)


def main() -> None:
    """Train the judge, or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "report"])
    parser.add_argument("--folder", type=Path, default=settings().training / "judge")
    parser.add_argument("--hours", type=float, help="train by the clock (default: by steps)")
    parser.add_argument("--clips", type=int, default=100, help="of held-out combinations, and seen")
    parser.add_argument("--languages", type=int, default=40, help="as far as phrases are written")
    parser.add_argument("--preset", default="default", help="of all but the languages' clips")
    parser.add_argument("--repeats", type=int, default=3, help="of what is timed (0: nothing is)")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "starter.md")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.what == "report":
        report(options)
        return
    with listening() as asked:
        here = Spread(torch.device("cpu"))
        try:
            train_judge(CURRICULUM, options.folder, here, options.hours, asked)
        except Stopped as stopped:
            print(stopped)


if __name__ == "__main__":
    main()
