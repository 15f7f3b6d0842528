"""What a first clip measures for the step cache "mag", and the next one makes of it."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.hooks import MagCacheConfig
from torch import Tensor

from aiprod_studio.engines.engine import Latents
from aiprod_studio.engines.ltx2 import LTX2Parts
from aiprod_studio.engines.recipes import Recipe
from aiprod_studio.engines.step_ratios import find_ratios
from aiprod_studio.errors import Cancelled
from aiprod_studio.sampling.solvers import Point
from aiprod_studio.settings import settings
from tests.engines import tiny_ltx2
from tests.engines.conftest import Tiny
from tests.engines.plans import plan_of
from tests.engines.test_wan import ask, loaded, make
from tests.engines.tiny_ltx2 import counting, run
from tests.engines.tiny_ltx2 import folder as folder
from tests.engines.tiny_ltx2 import pipe as pipe

STEPS = 8


@pytest.fixture
def parts(folder: Path) -> Iterator[LTX2Parts]:
    """The adapter's parts, with guides that see each other's streams and not."""
    with tiny_ltx2.loaded(folder) as found:
        levels = tuple(1 - 0.1 * n for n in range(STEPS))
        yield replace(found, recipe=Recipe(sigmas=levels, video={"modality": 2.0}))


def kept() -> list[Path]:
    return sorted(settings().home.rglob("mag-*.json"))


def test_the_first_clip_is_whole_and_the_next_one_quicker(
    parts: LTX2Parts, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On two streams: the first has not one bit other than without the cache, and says why."""
    asked = {"steps": STEPS, "guidance": 2.0}
    plain = run(parts, **asked)
    assert not kept()
    with counting(parts) as counts:
        first = run(parts, cache="mag:10", **asked)
        whole = list(counts)
        assert "measured, for the next one" in caplog.text
        caplog.clear()
        second = run(parts, cache="mag:10", **asked)
    assert same(plain, first)
    assert whole == [3 * STEPS] * 2, "three guides a step"
    assert counts[0] == 2 * whole[0]
    assert whole[1] < counts[1] < 2 * whole[1]
    assert not same(plain, second)
    assert torch.isfinite(second.video).all()
    assert not caplog.records
    ratios = find_ratios(folder / "transformer", range(STEPS))
    assert len(ratios) == STEPS
    assert ratios[0] == 1.0
    assert all(0.1 < ratio < 10 for ratio in ratios)
    assert len(set(ratios)) > 2


def test_a_threshold_of_0_leaves_nothing_out(parts: LTX2Parts) -> None:
    found = [run(parts, steps=4, cache="mag:0") for _ in range(2)]
    assert same(*found)


def test_other_numbers_of_steps_are_measured_for_themselves(parts: LTX2Parts, folder: Path) -> None:
    for steps in (3, 4, 3):
        run(parts, steps=steps, cache="mag")
    assert [path.name.split("-")[-1] for path in kept()] == ["3.json", "4.json"]
    assert not find_ratios(folder / "transformer", range(5))


def test_of_what_goes_on_only_its_own_steps_are_known(parts: LTX2Parts, folder: Path) -> None:
    """A whole clip after it measures again."""
    points: list[Point] = []
    run(parts, steps=5, on_point=points.append)
    run(parts, steps=5, start=points[1], cache="mag")
    network = folder / "transformer"
    assert find_ratios(network, range(5)) == []
    later = find_ratios(network, range(2, 5))
    assert len(later) == 3
    run(parts, steps=5, cache="mag")
    assert find_ratios(network, range(3, 5)) == pytest.approx(later[1:], abs=1e-4)
    assert len(find_ratios(network, range(5))) == 5


def test_a_clip_that_is_stopped_leaves_nothing(parts: LTX2Parts) -> None:
    def stop(point: Point) -> None:
        if point.done == 2:
            raise Cancelled("Stopped. Start it again.")

    with pytest.raises(Cancelled):
        run(parts, steps=4, cache="mag", on_point=stop)
    assert not kept()


@pytest.mark.parametrize("text", ["", "[]", '{"first": 0}', '{"first": 0, "ratios": ["x"]}'])
def test_a_damaged_file_is_measured_again(parts: LTX2Parts, text: str) -> None:
    run(parts, steps=3, cache="mag")
    (path,) = kept()
    right = path.read_text()
    path.write_text(text)
    run(parts, steps=3, cache="mag")
    assert json.loads(path.read_text()) == json.loads(right)


def test_a_folder_that_cannot_be_written_costs_no_clip(
    parts: LTX2Parts, caplog: pytest.LogCaptureFixture
) -> None:
    settings().home.mkdir(parents=True, exist_ok=True)
    (settings().home / "models").write_bytes(b"a file where the folder should be")
    assert same(run(parts, steps=3), run(parts, steps=3, cache="mag"))
    assert "is not kept" in caplog.text


def test_what_is_measured_is_what_diffusers_measures(
    tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, request = plan_of("wan", cache="mag"), ask(guidance=1.0)
    assert request.steps is not None
    with loaded(tiny, "wan", plan) as parts:
        make(parts, plan, request)
    ours = find_ratios(tiny("wan") / "transformer", range(request.steps))
    plain = plan_of("wan")
    with loaded(tiny, "wan", plain) as parts, parts.components.use("transformer") as network:
        network.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=request.steps))
        capsys.readouterr()
        make(parts, plain, request)
    told = capsys.readouterr().out.split("Copy these values to MagCacheConfig(mag_ratios=...):")[1]
    assert ours == pytest.approx(ast.literal_eval(told.strip()), abs=1e-5)


def test_the_stream_that_changes_more_counts(parts: LTX2Parts, folder: Path) -> None:
    """At each step, be it the picture or the sound."""
    lengths: list[list[Tensor]] = []
    before: list[Tensor] = []

    def enter(block: Any, args: Any, kwargs: Any) -> None:
        before[:] = [kwargs["hidden_states"], kwargs["audio_hidden_states"]]

    def leave(block: Any, args: Any, output: Any) -> None:
        changes = (new - old for new, old in zip(output, before, strict=True))
        lengths.append([change.norm(dim=-1) for change in changes])

    with parts.components.use("transformer") as network:
        blocks = network.transformer_blocks
        handles = [
            blocks[0].register_forward_pre_hook(enter, with_kwargs=True),
            blocks[-1].register_forward_hook(leave),
        ]
        run(parts, steps=STEPS, cache="mag")
        for handle in handles:
            handle.remove()
    rows = [
        [(now / last).mean().item() for now, last in zip(*pair, strict=True)]
        for pair in zip(lengths[1:], lengths, strict=False)
    ]
    wanted = [max(row, key=lambda ratio: abs(ratio - 1)) for row in rows]
    found = find_ratios(folder / "transformer", range(STEPS))
    assert found == pytest.approx([1.0, *wanted], abs=1e-4)
    streams = {row.index(one) for row, one in zip(rows, wanted, strict=True)}
    assert streams == {0, 1}, "the tiny network shows both cases"


def test_of_two_denoisers_each_knows_its_own_steps(tiny: Tiny) -> None:
    plan, request = plan_of("wan14b", cache="mag:10"), ask(steps=8)
    with loaded(tiny, "wan14b", plan) as parts:
        first = make(parts, plan, request)
        second = make(parts, plan, request)
    with loaded(tiny, "wan14b", plan_of("wan14b")) as parts:
        assert same(first, make(parts, plan_of("wan14b"), request))
    told = [json.loads(path.read_text()) for path in kept()]
    assert [one["first"] for one in told] == [0, len(told[0]["ratios"])]
    assert sum(len(one["ratios"]) for one in told) == 8
    assert not same(first, second)


def same(one: Latents, other: Latents) -> bool:
    """Say whether two clips' latents are equal in every bit."""
    sounds = [one.audio, other.audio]
    if any(sound is None for sound in sounds):
        return torch.equal(one.video, other.video) and sounds == [None, None]
    assert one.audio is not None
    assert other.audio is not None
    return torch.equal(one.video, other.video) and torch.equal(one.audio, other.audio)
