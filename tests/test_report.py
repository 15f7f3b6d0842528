"""What a batch says: lengths of time, the time that is left, outcomes and the boards."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from aiprod_studio.batch import Job
from aiprod_studio.report import (
    BarBoard,
    Outcome,
    Pace,
    PlainBoard,
    clock,
    describe,
    open_board,
    shorten,
    summarise,
    to_line,
)
from aiprod_studio.types import Plan, Progress, Request

PLAN = Plan("cpu", "float32", 64, 64, 9, 1, 0, {"denoise": 2**30}, 10.0, ("it fits",))
REQUEST = Request(
    "a [bold]cat[/bold] 猫", width=64, height=48, seconds=1.0, fps=8.0, steps=4, guidance=2.5
)


def jobs(count: int) -> list[Job]:
    return [Job(f"p.txt line {n}", REQUEST, PLAN, Path(f"{n}.mp4")) for n in range(1, count + 1)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (4.21, "4.2 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (86_340, "23 h 59 min"),
        (1_457_280, "16 d 20 h"),
    ],
)
def test_times_read_as_people_say_them(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_the_time_left_goes_from_prediction_to_measurement() -> None:
    pace = Pace([10.0, 10.0])
    assert pace.left(0) == 20
    pace.advance(0, Progress("load", 1, 1))
    assert pace.left(3) == 20
    pace.advance(0, Progress("denoise", 2, 4))
    assert pace.left(20) > 20
    pace.finish(0, failed=False)
    assert pace.left(40) == pytest.approx(40)
    pace.finish(1, failed=False)
    assert pace.left(80) == 0


def test_a_second_stage_has_its_share_of_the_clip() -> None:
    times = {"denoise": 2.0, "refine": 6.0}
    job = replace(jobs(1)[0], plan=replace(PLAN, stage_seconds=times, stages=2))
    board = PlainBoard([job])
    for stage, done, share in (("denoise", 2, 0.225), ("refine", 0, 0.225), ("refine", 2, 0.9)):
        board.update(0, Progress(stage, done, 2))
        assert board.pace.shares[0] == pytest.approx(share)
    assert "4 steps in 2 stages" in describe(job)


def test_a_failed_clip_does_not_make_the_rest_look_fast() -> None:
    pace = Pace([10.0, 10.0, 10.0])
    pace.finish(0, failed=True)
    assert pace.left(0.1) == 20
    pace.finish(1, failed=False)
    assert pace.left(10.1) == pytest.approx(10.1)


def test_a_clip_never_goes_backwards() -> None:
    pace = Pace([10.0])
    steps = [("encode", 1), ("denoise", 1), ("denoise", 4), ("decode", 1), ("decode", 4)]
    shares = []
    for stage, done in steps:
        pace.advance(0, Progress(stage, done, 4))
        shares.append(pace.shares[0])
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] < 1


def test_outcomes_are_lines_of_json_and_of_the_report() -> None:
    one, two = jobs(2)
    done, failed = Outcome(one, "done", 2.5), Outcome(two, "failed", error="The disk is full.")
    line = json.loads(to_line(failed))
    assert list(line) == ["status", "line", "path", "request", "plan", "seconds", "error"]
    assert Request.from_json(line["request"]) == REQUEST
    assert "\n" not in to_line(done)
    report = summarise([done, failed], 61.0).splitlines()
    assert report[0].split() == ["done", "in", "2.5", "s", "p.txt", "line", "1:", "1.mp4"]
    assert report[1].endswith("p.txt line 2: The disk is full.")
    assert report[2] == "2 clips: 1 done, 1 failed, in 1 min 1 s."


def test_a_plan_is_described_in_full() -> None:
    text = describe(jobs(1)[0])
    for part in ("64×48", "9 frames", "4 steps", "seed random", "10 s", "1.0 GiB", "it fits"):
        assert part in text
    assert shorten("a\n b" + "c" * 100, 10) == "a bcccccc…"


def test_without_a_terminal_lines_are_few_and_go_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    todo = jobs(2)
    with open_board(todo) as board:
        assert isinstance(board, PlainBoard)
        for index, job in enumerate(todo):
            for done in range(1, 101):
                board.update(index, Progress("denoise", done, 100))
            board.finish(index, Outcome(job, "done", 1.0))
            board.emit(str(job.path))
    out, err = capsys.readouterr()
    assert out == "1.mp4\n2.mp4\n"
    assert len(err.splitlines()) == 5
    assert "[2/2]" in err


def test_on_a_terminal_bars_show_step_clip_and_all(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    todo = jobs(2)
    texts = ("{task.description}", "{task.fields[note]}")
    bars = Bars(*texts, console=console, auto_refresh=False, redirect_stdout=False)
    with BarBoard(todo, bars) as board:
        board.update(0, Progress("denoise", 3, 4))
        bars.refresh()
        board.finish(0, Outcome(todo[0], "failed", error="It [broke]."))
        board.emit("1.mp4")
    shown = screen.getvalue()
    for part in ("denoise", "3/4", "clip 1 of 2", "left", "It [broke]."):
        assert part in shown
    assert capsys.readouterr().out == "1.mp4\n"
