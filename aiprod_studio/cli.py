"""The one door: renders from the command line, shows a clip's settings, checks the machine."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import importlib
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiprod_studio import __version__
from aiprod_studio.batch import (
    Job,
    Line,
    check_images,
    make_line,
    open_folder,
    parse_values,
    plan_jobs,
    prompt_lines,
    read_lines,
)
from aiprod_studio.errors import BadRequest, Cancelled, StudioError
from aiprod_studio.options import Parser
from aiprod_studio.report import (
    Outcome,
    clock,
    describe,
    open_board,
    summarise,
    to_line,
    write_line,
)
from aiprod_studio.settings import settings
from aiprod_studio.types import FILES, Progress, Record

if TYPE_CHECKING:
    from aiprod_studio.studio import Studio

# Commands that read their own words, and the module whose `main` each of them is.
ROOMS = {
    "models": "downloads",
    "plan": "planning",
    "calibrate": "calibrate",
    "train": "training.train",
    "worker": "desk",
}
COUNT_LIMIT = 10_000
PORT_LIMIT = 65_535
TEXT_OPTIONS = {
    "engine": ("NAME", "the model that renders (default: starter)"),
    "width": ("PIXELS", "width of the picture"),
    "height": ("PIXELS", "height of the picture"),
    "seconds": ("S", "length of the clip"),
    "fps": ("N", "frames a second"),
    "seed": ("N", "the same seed makes the same clip again (default: random)"),
    "steps": ("N", "denoising steps: more are finer and slower"),
    "guidance": ("N", "how closely the prompt is followed"),
    "image": ("FILE", "a picture that the first frame shows"),
    "last_image": ("FILE", "a picture that the last frame shows"),
    "extend": ("CLIP", "a clip that goes on: the file is that clip and then the new part"),
    "reference": ("FILE", "a clip or picture that the model follows, with a --lora made for it"),
    "stages": ("N", "1, or 2: half the size first, then doubled and refined"),
    "cache": ("NAME", "a step cache, first-block or mag: skips repeated work, changes the result"),
}
USAGE = """aiprod-studio --cli PROMPT [PROMPT ...] [options]
       aiprod-studio --cli --file prompts.txt|.csv|.jsonl [options]
       aiprod-studio --from clip.mp4 [options]
       aiprod-studio show clip.mp4 [--json]
       aiprod-studio plan PROMPT [--gpu "24 GB"] [options]
       aiprod-studio calibrate [--engine NAME] [--json]
       aiprod-studio models list|info|download|verify|remove
       aiprod-studio doctor [--no-render]
       aiprod-studio train ...
       aiprod-studio worker [--drain]
       aiprod-studio [ui] [--port N] [--no-browser] [--share | --host ADDRESS]"""
DETAILS = """\
Options are defaults for the lines of a file: a preset gives way to an option, an option to the
line's own value. A .csv or .jsonl file has a column for each of these that it needs: prompt,
engine, width, height, seconds, fps, seed, steps, guidance, audio, image, last_image, extend,
reference, stages, cache, loras (with ; between them). Progress goes to stderr, the path of every
finished clip to stdout. Exit codes: 0 all is well, 1 some of several clips failed, 2 a sentence on
stderr says why nothing was rendered, 130 stopped by Ctrl-C.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; every problem is a sentence on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        # A pipe must carry any file name, whatever the system's code page.
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        return _dispatch(words)
    except (KeyboardInterrupt, Cancelled):
        return _say("Stopped. Finished clips are whole; run again with --resume to go on.", 130)
    except StudioError as error:
        return _say(str(error), 2)
    except BrokenPipeError:
        # The reader has left; Python's own flush at exit would complain about it once more.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the boundary: a traceback is for the log only
        return _say(_log(error), 1)


def _say(sentence: str, code: int) -> int:
    """Write a sentence to stderr and return the exit code."""
    sys.stderr.write(f"{sentence}\n")
    return code


def _log(error: Exception) -> str:
    """Append the traceback to studio.log and return what to tell the user."""
    said = f"Something went wrong that was not foreseen ({type(error).__name__})."
    path = settings().logs / "studio.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError:
        return f"{said} The log {path} cannot be written either; check the disk and try again."
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger(__name__)
    log.propagate = False
    log.addHandler(handler)
    log.error("aiprod-studio %s", __version__, exc_info=error)
    log.removeHandler(handler)
    handler.close()
    return (
        f"{said} Details are in {path}; 'aiprod-studio doctor' checks whether this machine is well."
    )


def _dispatch(words: list[str]) -> int:
    """Run the command that the first word names, or the options of a render."""
    commands: dict[str, Callable[[list[str]], int]] = {
        "ui": _ui,
        "show": _show,
        "doctor": _doctor,
    }
    if not words:
        return _ui([])
    if words[0] in commands:
        return commands[words[0]](words[1:])
    if words[0] in ROOMS:
        return _hand_on(ROOMS[words[0]], words[1:])
    if not words[0].startswith("-"):
        raise BadRequest(
            f"There is no command {words[0][:60]!r}. Use one of {', '.join([*commands, *ROOMS])}, "
            "or put --cli in front of a prompt."
        )
    return _render_command(words)


def _hand_on(module: str, words: list[str]) -> int:
    """Hand words on to the `main` of a module, which is imported only now."""
    run: Callable[[list[str]], int] = importlib.import_module(f"aiprod_studio.{module}").main
    try:
        return run(words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0


def _finish(parser: Parser, words: list[str]) -> argparse.Namespace | None:
    """Parse `words`; returns None when the parser has printed its help or version."""
    try:
        return parser.parse_intermixed_args(words)
    except SystemExit:
        return None


def _ui(words: list[str]) -> int:
    """Open the studio in the browser."""
    parser = Parser(
        "aiprod-studio ui", description="Open the studio in the browser.", allow_abbrev=False
    )
    parser.add_argument("--port", metavar="N", help="the port (default: the first free from 7860)")
    parser.add_argument("--no-browser", action="store_true", help="serve the page, open nothing")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--share", action="store_true", help="share it by a link, with a password")
    ways.add_argument(
        "--host", metavar="ADDRESS", help="share it on the local network (0.0.0.0: all of it)"
    )
    parser.add_argument(
        "--auth", metavar="USER:PASSWORD", help="what visitors sign in with (default: made up)"
    )
    options = _finish(parser, words)
    if options is None:
        return 0
    port = None if options.port is None else _parse_port(options.port)
    if options.auth and not (options.share or options.host):
        raise BadRequest("--auth is for visitors. Add --share or --host, or leave it out.")
    # What is imported stays: looking for garbage in it takes a sixth of the start.
    gc.disable()
    from aiprod_studio.ui.porch import open_porch
    from aiprod_studio.ui.share import Sharing

    shares = options.share or options.host is not None
    sharing = Sharing(options.host, options.auth) if shares else None
    with open_porch(port, not options.no_browser) as porch:
        from aiprod_studio.ui.app import open_studio

        gc.freeze()
        gc.enable()
        return open_studio(porch, sharing)


def _parse_port(text: str) -> int:
    """Return a port; raises `BadRequest` unless it is from 1 to 65,535."""
    if not text.isdecimal() or not 1 <= int(text) <= PORT_LIMIT:
        raise BadRequest(f"port is {text[:40]!r}; give a whole number from 1 to {PORT_LIMIT:,}.")
    return int(text)


def _doctor(words: list[str]) -> int:
    """Check the machine."""
    parser = Parser(
        "aiprod-studio doctor",
        description="Check hardware, versions, folders and disk, and render a short clip.",
        allow_abbrev=False,
    )
    parser.add_argument("--no-render", action="store_true", help="leave out the short clip")
    options = _finish(parser, words)
    if options is None:
        return 0
    from aiprod_studio.doctor import examine

    healthy = True
    for finding in examine(render=not options.no_render):
        write_line(finding.to_line())
        healthy = healthy and finding.ok
    write_line("All is well." if healthy else "Something needs your attention; see 'failed' above.")
    return 0 if healthy else 1


def _show(words: list[str]) -> int:
    """Print the settings inside a clip."""
    parser = Parser(
        "aiprod-studio show", description="Print the settings inside a clip.", allow_abbrev=False
    )
    parser.add_argument("file", metavar="clip.mp4", help="a clip made by this studio")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = _finish(parser, words)
    if options is None:
        return 0
    from aiprod_studio.library.provenance import read_settings

    inside = read_settings(Path(options.file))
    if options.json:
        write_line(json.dumps(inside, ensure_ascii=False))
        return 0
    for key, value in inside.items():
        if not isinstance(value, dict):
            write_line(f"{key:<11} {value}")
            continue
        write_line(key)
        for name, entry in value.items():
            write_line(f"  {name:<11} {entry if isinstance(entry, str) else json.dumps(entry)}")
    return 0


def _render_parser() -> Parser:
    """Return the parser of renders, which is also the one of `--help`."""
    parser = Parser(
        "aiprod-studio",
        usage=USAGE,
        description="A prompt in any language becomes a video with sound, on your own machine.",
        epilog=DETAILS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("prompts", nargs="*", metavar="PROMPT", help="what a clip shows, in any language")
    add("--cli", action="store_true", help="render from the command line")
    add("--file", metavar="FILE", help="a .txt, .csv or .jsonl file, a clip a line; - is stdin")
    add("--from", dest="again", metavar="CLIP", help="render a clip again by its own settings")
    add("--preset", metavar="NAME", help="default, draft, fast, quality or one of your own")
    for name, (unit, text) in TEXT_OPTIONS.items():
        add(f"--{name.replace('_', '-')}", metavar=unit, help=text)
    add("--lora", action="append", metavar="FILE|REPO[:W]", help="a LoRA and its weight; repeat")
    add("--audio", action=argparse.BooleanOptionalAction, help="with or without sound")
    add("--count", metavar="N", default="1", help="clips per prompt, with seeds counting up")
    home = str(settings().outputs).replace("%", "%%")
    add("--out", metavar="DIR", help=f"folder of the clips (default: {home})")
    add("--resume", action="store_true", help="skip what a finished file in the folder covers")
    add("--dry-run", action="store_true", help="print the plan and render nothing")
    add("--json", action="store_true", help="print a JSON object per clip instead of its path")
    add("--version", action="version", version=f"aiprod-studio {__version__}")
    return parser


def _render_command(words: list[str]) -> int:
    """Check everything that can be checked, then render, or print the plan."""
    # What follows a bare -- is prompts, even with hyphens in front; argparse would drop them.
    end = words.index("--") if "--" in words else len(words)
    options = _finish(_render_parser(), words[:end])
    if options is None:
        return 0
    options.prompts += words[end + 1 :]
    count = _parse_count(options.count)
    folder = _find_path(options.out) if options.out else settings().outputs
    lines = _gather(options)
    check_images(lines)
    from aiprod_studio.studio import Studio

    studio = Studio()
    jobs = plan_jobs(lines, count, studio.plan, folder, options.resume)
    if options.dry_run:
        for job in jobs:
            planned = Outcome(job, "skipped" if job.covered else "planned")
            write_line(to_line(planned) if options.json else describe(job))
        total = sum(job.plan.seconds for job in jobs if not job.covered)
        return _say(f"Nothing was rendered; all of it would take about {clock(total)}.", 0)
    open_folder(folder)
    outcomes = _render(studio, jobs, options.json)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if len(lines) == 1 and len(failed) == len(jobs):
        return _say(str(failed[0].error), 2)
    return 1 if failed else 0


def _parse_count(text: str) -> int:
    """Return the clips per prompt; raises `BadRequest` unless it is from 1 to 10,000."""
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= COUNT_LIMIT:
        raise BadRequest(f"count is {text[:40]!r}; give a whole number from 1 to {COUNT_LIMIT:,}.")
    return count


def _gather(options: argparse.Namespace) -> list[Line]:
    """Return every entry that the options ask for; raises `BadRequest` if there is none."""
    given = _read_options(options)
    if options.again is not None:
        if options.prompts or options.file or options.preset:
            raise BadRequest(
                "--from takes prompt and settings from the clip. Leave out prompts, --file and "
                "--preset; other options change single settings."
            )
        from aiprod_studio.library.provenance import read_request

        return [make_line("", {**read_request(Path(options.again)).to_json(), **given})]
    if options.preset is not None:
        from aiprod_studio.library.presets import load_preset

        given = {**load_preset(options.preset).values, **given}
    lines = prompt_lines(options.prompts, given)
    if options.file is not None:
        lines += read_lines(options.file, given)
    if not lines:
        raise BadRequest('There is nothing to render. Give a prompt: --cli "a red balloon".')
    return lines


def _read_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the request values that were given as options."""
    texts = {name: getattr(options, name) for name in TEXT_OPTIONS}
    given = parse_values({name: text for name, text in texts.items() if text is not None})
    for name in FILES & given.keys():
        given[name] = str(_find_path(given[name]))
    if options.lora is not None:
        given["loras"] = tuple(options.lora)
    if options.audio is not None:
        given["audio"] = options.audio
    return given


def _find_path(text: str) -> Path:
    """Return the absolute path that a person means, with ~ as their home."""
    with suppress(RuntimeError):
        return Path(text).expanduser().absolute()
    return Path(text).absolute()


def _render(studio: Studio, jobs: Sequence[Job], as_json: bool) -> list[Outcome]:
    """Render the jobs that are not covered and return what became of each, in order."""
    outcomes = {
        index: Outcome(job, "skipped" if job.covered else "stopped")
        for index, job in enumerate(jobs)
    }
    if as_json:
        for outcome in outcomes.values():
            if outcome.status == "skipped":
                write_line(to_line(outcome))
    order = [index for index, job in enumerate(jobs) if not job.covered]
    todo = [jobs[index] for index in order]
    started = time.monotonic()
    try:
        with open_board(todo) as board, closing(_results(studio, todo, board.update)) as results:
            for number, result in results:
                outcome = _conclude(todo[number], result)
                outcomes[order[number]] = outcome
                board.finish(number, outcome)
                if as_json:
                    board.emit(to_line(outcome))
                elif outcome.status == "done":
                    board.emit(str(outcome.job.path))
    finally:
        if len(jobs) > 1:
            _say(summarise(list(outcomes.values()), time.monotonic() - started), 0)
    return list(outcomes.values())


def _results(
    studio: Studio, jobs: Sequence[Job], on_progress: Callable[[int, Progress], None]
) -> Generator[tuple[int, Record | StudioError]]:
    """Yield what becomes of jobs: by the worker of a studio that is open, or else rendered here."""
    from aiprod_studio.handing import hand_over, is_owned

    if not jobs or not is_owned():
        yield from studio.render_all([(job.request, job.path) for job in jobs], on_progress)
        return
    from aiprod_studio.jobs.queue import Queue

    _say("The studio that is open renders this; Ctrl-C cancels it there.", 0)
    queue = Queue(settings().database)
    try:
        asked = [(job.request, job.path, job.plan) for job in jobs]
        yield from hand_over(queue, asked, on_progress)
    finally:
        queue.database.close()


def _conclude(job: Job, result: Record | StudioError) -> Outcome:
    """Return the outcome of a job from what the studio yields: a record or an error."""
    if isinstance(result, StudioError):
        return Outcome(job, "failed", error=str(result))
    done = dataclasses.replace(job, request=result.request, plan=result.plan, path=result.path)
    return Outcome(done, "done", seconds=result.render_seconds)
