"""Clips of two stages: small first, then twice the sides, whatever comes in between."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aiprod_studio import Studio
from aiprod_studio.cli import main
from aiprod_studio.engines.catalog import find_card
from aiprod_studio.engines.engine import Latents
from aiprod_studio.engines.ltx2 import LTX2Engine, LTX2Parts
from aiprod_studio.errors import Cancelled
from aiprod_studio.graph.generate import Work
from aiprod_studio.graph.together import denoise_together
from aiprod_studio.graph.trail import Trail
from aiprod_studio.hardware.imagined import imagine
from aiprod_studio.hardware.ladder import cheaper
from aiprod_studio.hardware.plan import choose_plan
from aiprod_studio.library.provenance import read_request, read_settings
from aiprod_studio.media.video import read_clip
from aiprod_studio.types import Plan, Progress, Record, Request, complete
from aiprod_studio.ui.drafts import draft_of
from tests.engines.conftest import catalogue as catalogue
from tests.engines.conftest import forget, serve
from tests.engines.conftest import hub as hub
from tests.engines.tiny_ltx2 import PROMPT, UPSCALER, build, picture, save_upscaler, write_row
from tests.loopback_hub import LoopbackHub

Told = list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny networks, and the one that doubles latents."""
    path = tmp_path_factory.mktemp("ltx2")
    build(newer=True).save_pretrained(path)
    save_upscaler(path)
    return path


@pytest.fixture
def engine(catalogue: Path) -> str:
    """The id of an engine with a second stage."""
    (catalogue / "tiny.toml").write_text(write_row())
    forget()
    return "tiny-ltx"


@pytest.fixture
def parts(engine: str, folder: Path) -> Iterator[LTX2Parts]:
    """Its networks in memory."""
    with LTX2Engine(find_card(engine), lambda _: folder).load(plan_of(engine)) as found:
        yield found


def asked(engine: str, **wishes: object) -> Request:
    """Return a complete request for a clip of two stages, of two steps each."""
    request = Request(PROMPT, engine=engine, seed=3, stages=2, steps=2, seconds=0.4)
    return complete(dataclasses.replace(request, **wishes), find_card(engine))


def plan_of(engine: str, **wishes: object) -> Plan:
    """Return the plan of it on a CPU with room for everything."""
    return choose_plan(imagine(0, 64), find_card(engine), asked(engine, **wishes))


def work_on(
    parts: LTX2Parts,
    plan: Plan,
    trail: Trail,
    tell: Callable[[Progress], None] = lambda _: None,
    **wishes: object,
) -> Work:
    """Return the work of a clip with what its trail has."""
    return Work(asked("tiny-ltx", **wishes), find_card("tiny-ltx"), plan, parts, tell, trail)


def note(told: Told, stop: tuple[str, int] = ("", 0)) -> Callable[[Progress], None]:
    """Return what notes progress, and stops the clip at a stage's step."""

    def tell(progress: Progress) -> None:
        told.append((progress.stage, progress.done, progress.total))
        if (progress.stage, progress.done) == stop:
            raise Cancelled("Stopped. Start it again.")

    return tell


def steps(told: Told, stage: str) -> list[int]:
    """Return the steps that were told of a stage."""
    return [done for name, done, _ in told if name == stage]


def test_both_stages_are_planned(engine: str) -> None:
    """The first as the clip of half the sides, the second as a larger one of few steps."""
    plan, small = plan_of(engine), plan_of(engine, stages=1, width=96, height=64)
    assert (plan.width, plan.height, plan.stages) == (192, 128, 2)
    assert "denoised at 96×64, refined at twice the sides" in plan.because
    assert list(plan.peak_bytes) == ["load", "encode", "denoise", "refine", "decode"]
    assert set(plan.stage_seconds) == set(plan.peak_bytes) == set(plan.ram_bytes)
    assert small.stage_seconds["denoise"] == plan.stage_seconds["denoise"]
    assert plan.stage_seconds["refine"] > plan.stage_seconds["denoise"]
    assert plan.peak_bytes["refine"] > plan.peak_bytes["denoise"] == small.peak_bytes["denoise"]


def test_a_clip_that_is_stopped_goes_on_in_its_stage(
    parts: LTX2Parts, engine: str, tmp_path: Path
) -> None:
    """From its last step, to the same latents, the first stage's being those of half the sides."""
    plan, whole_trail, text = plan_of(engine), Trail(), {}
    graph = work_on(parts, plan, whole_trail).graph()
    graph.run(text, until="given")
    whole = graph.run(dict(text), until="refined")
    for number, stop in enumerate((("denoise", 1), ("refine", 0), ("refine", 1), ("refine", 2))):
        folder, told = tmp_path / str(number), []
        stopped = work_on(parts, plan, Trail(folder, every=0), note([], stop)).graph()
        with pytest.raises(Cancelled):
            stopped.run(dict(text), until="refined")
        again = work_on(parts, plan, Trail(folder, every=0), note(told)).graph()
        latents = again.run(dict(text), until="refined")
        assert torch.equal(latents.video, whole.video)
        assert torch.equal(latents.audio, whole.audio)
        assert steps(told, "denoise") == ([1, 2] if stop[0] == "denoise" else [2])
        assert steps(told, "refine") == [0, *range(stop[1] if stop[0] == "refine" else 0, 3)]
    small = plan_of(engine, stages=1, width=96, height=64)
    alone = work_on(parts, small, whole_trail, stages=1, width=96, height=64)
    assert isinstance(whole_trail.find(alone.mark), Latents)


def test_where_memory_ends_the_second_stage_the_first_is_kept(
    parts: LTX2Parts, engine: str
) -> None:
    """Down to a clip of the first alone, which is not denoised again."""
    plan, told, trail, kept = plan_of(engine, audio=False), [], Trail(), {}
    work_on(parts, plan, trail, audio=False).graph().run(kept, until="latents")
    below = [plan]
    while below[-1].stages > 1:
        less = cheaper(below[-1], "refine")
        assert less is not None
        below.append(less)
    assert below[-1].because[-1] == "not refined at 192×128 to save memory"
    last = work_on(parts, below[-1], trail, note(told), audio=False)
    with last.reel(dict(kept)) as reel:
        frames = list(reel.frames)
    assert np.stack(frames).shape == (9, 128, 192, 3)
    assert steps(told, "denoise") == []
    for less in below:
        work = work_on(parts, less, trail, audio=False)
        assert work.mark == last.mark
        assert work.graph().prints()["latents"] in kept
    assert cheaper(below[-1]) is not None


def test_first_stages_go_through_the_denoiser_together(parts: LTX2Parts, engine: str) -> None:
    """Of clips of one shape; the second is each one's own."""
    plan = dataclasses.replace(plan_of(engine), batch=2)
    works = [work_on(parts, plan, Trail(), seed=seed) for seed in (3, 4)]
    denoise_together(works, parts, {})
    for work in works:
        found = work.trail.find(work.mark)
        assert isinstance(found, Latents)
        assert found.video.shape[3:] == (2, 3)


def test_a_final_clip_goes_on_from_the_latents_of_its_draft(
    engine: str, catalogue: Path, folder: Path, hub: LoopbackHub, tmp_path: Path
) -> None:
    """While the same studio has them."""
    download(hub, folder, UPSCALER)
    final = asked(engine)
    draft = draft_of(final, find_card(engine))
    assert (draft.width, draft.height, draft.stages, draft.steps) == (96, 64, 1, final.steps)
    studio, told = Studio(hold=True), []
    for request in (draft, final):
        told.clear()
        jobs = [(request, tmp_path / f"{request.stages}.mp4")]
        [(_, outcome)] = studio.render_all(jobs, lambda _, progress: note(told)(progress))
        assert isinstance(outcome, Record), outcome
    studio.close()
    assert steps(told, "denoise") == []
    assert steps(told, "refine") == [0, 0, 1, 2]


def test_the_command_line_renders_it_and_reads_its_settings_back(
    engine: str,
    folder: Path,
    hub: LoopbackHub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From a first to a last picture, and the same bytes again."""
    words = ["--cli", PROMPT, "--engine", engine, "--seed", "3", "--stages", "2"]
    words += ["--steps", "2", "--seconds", "0.4"]
    for number, name in enumerate(("image", "last-image")):
        Image.fromarray(picture(number)).save(tmp_path / f"{name}.png")
        words += [f"--{name}", str(tmp_path / f"{name}.png")]
    words += ["--out", str(tmp_path)]
    download(hub, folder)
    capsys.readouterr()
    assert main(words) == 2
    assert "models download tiny-ltx --variant upscaler" in capsys.readouterr().err
    download(hub, folder, UPSCALER)
    capsys.readouterr()
    made = []
    for _ in range(2):
        assert main(words) == 0, capsys.readouterr().err
        made.append(Path(capsys.readouterr().out.strip()))
    assert made[0].read_bytes() == made[1].read_bytes()
    request, plan = read_request(made[0]), read_settings(made[0])["plan"]
    assert (request.stages, request.last_image) == (2, str(tmp_path / "last-image.png"))
    assert (plan["stages"], plan["width"], plan["height"]) == (2, 192, 128)
    assert read_clip(made[0]).frames.shape == (9, 128, 192, 3)


def download(hub: LoopbackHub, folder: Path, *more: str) -> None:
    """Have the networks on this disk, and the one that doubles latents where it is named."""
    serve(hub, "owner/tiny-ltx", folder)
    assert main(["models", "download", "tiny-ltx", "--accept-licence"]) == 0
    for name in more:
        hub.add_repo("owner/tiny-upscaler", {name: (folder / name).read_bytes()})
        assert main(["models", "download", "tiny-ltx", "--variant", "upscaler"]) == 0
