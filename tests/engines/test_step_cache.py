"""Step caches on blocks of two streams, picture and sound."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aiprod_studio import Request, Studio
from aiprod_studio.cli import main
from aiprod_studio.engines.ltx2 import LTX2Parts
from aiprod_studio.engines.recipes import Recipe
from aiprod_studio.graph.generate import Work
from aiprod_studio.hardware.memory import CACHED
from aiprod_studio.library.provenance import read_settings
from aiprod_studio.media.video import read_clip
from tests.engines.conftest import forget, serve
from tests.engines.tiny_ltx2 import (
    CARD,
    PLAN,
    PROMPT,
    REQUEST,
    counting,
    run,
    write_row,
)
from tests.engines.tiny_ltx2 import folder as folder
from tests.engines.tiny_ltx2 import parts as parts
from tests.engines.tiny_ltx2 import pipe as pipe
from tests.loopback_hub import LoopbackHub

# Of the picture: 96 × 64 pixels of 17 frames in cells of 32 × 32 of 8, 16 values each.
TOKENS = (3 * 2 * 3, 16)


def test_a_cache_without_threshold_changes_nothing(parts: LTX2Parts) -> None:
    """Not one bit of picture or sound."""
    plain, cached = run(parts, steps=6), run(parts, steps=6, cache="first-block:0")
    assert torch.equal(plain.video, cached.video)
    assert plain.audio is not None
    assert cached.audio is not None
    assert torch.equal(plain.audio, cached.audio)


@pytest.mark.parametrize("cache", ["first-block:10", "mag:10"])
def test_a_cache_leaves_blocks_out_for_both_streams(parts: LTX2Parts, cache: str) -> None:
    """At a step that is left out both streams change as they did at the last that was not."""
    recipe = Recipe(sigmas=tuple(np.linspace(1, 0.1, 8)), mag_ratios=(1.0,) * 8)
    changes: list[list[Tensor]] = [[], []]
    entered: list[Tensor] = []

    def enter(block: Any, args: Any, kwargs: Any) -> None:
        entered[:] = [kwargs["hidden_states"], kwargs["audio_hidden_states"]]

    def leave(place: int) -> Any:
        return lambda norm, args: changes[place].append(args[0] - entered[place])

    cached = replace(parts, recipe=recipe)
    with counting(cached) as counts, cached.components.use("transformer") as network:
        handles = [
            network.transformer_blocks[0].register_forward_pre_hook(enter, with_kwargs=True),
            network.norm_out.register_forward_pre_hook(leave(0)),
            network.audio_norm_out.register_forward_pre_hook(leave(1)),
        ]
        latents = run(cached, steps=8, cache=cache)
        for handle in handles:
            handle.remove()
        assert counts[0] == 8
        assert counts[1] < 8
        assert not network.is_cache_enabled
    assert torch.isfinite(latents.video).all()
    for stream in changes:
        sizes = [float(change.abs().mean()) for change in stream]
        assert min(sizes) > max(sizes) / 3
    if cache.startswith("mag"):
        for stream in changes:
            torch.testing.assert_close(stream[3], stream[2])
    assert not torch.equal(latents.video, run(replace(cached), steps=8).video)


@pytest.mark.parametrize("name", CACHED)
def test_a_cache_keeps_what_the_planner_counts(parts: LTX2Parts, name: str) -> None:
    """So many tensors of all the picture's tokens."""
    kept: list[int] = []
    recipe = Recipe(sigmas=tuple(np.linspace(1, 0.1, 4)), mag_ratios=(1.0,) * 4)
    measured = replace(parts, recipe=recipe)
    text, nothing = parts.encode_text(PROMPT), parts.encode_text("")

    def count(done: int, total: int) -> None:
        if 0 < done < total:
            kept.append(sum(tensor.shape[1:] == TOKENS for tensor in held(parts)))

    request, plan = replace(REQUEST, steps=4), replace(PLAN, cache=name)
    measured.denoise(text, nothing, {}, request, plan, count)
    assert kept == [CACHED[name]] * 3


def held(parts: LTX2Parts) -> Iterator[Tensor]:
    """Yield the tensors that the hooks of a denoiser's first block keep."""
    with parts.components.use("transformer") as network:
        hooks = network.transformer_blocks[0]._diffusers_hook.hooks.values()
        [memory] = [hook.state_manager for hook in hooks]
        [state] = memory._state_cache.values()
        for value in vars(state).values():
            for one in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(one, Tensor):
                    yield one


def test_only_a_clip_with_a_cache_is_another_one(parts: LTX2Parts) -> None:
    """Those that were begun before there were caches are found."""
    request = replace(REQUEST, seconds=0.7)

    def work(cache: str | None) -> Work:
        return Work(replace(request, cache=cache), CARD, PLAN, parts, lambda _: None)

    assert work(None).asked == (3, 3, 1.0, True, ())
    assert len({work(cache).mark for cache in (None, "mag", "mag:0.1", "first-block")}) == 4


def test_clips_with_a_cache_never_go_together(catalogue: Path) -> None:
    """Though a batch is asked for: what one leaves out, all would."""
    (catalogue / "tiny.toml").write_text(write_row())
    forget()
    studio, request = Studio(batch=3), Request(PROMPT, "tiny-ltx")
    for wish, batch in ((None, 3), ("first-block", 1)):
        assert studio.plan(replace(request, cache=wish), 3)[1].batch == batch


def test_the_command_line_asks_for_a_cache(
    hub: LoopbackHub,
    catalogue: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The file remembers it, and one without threshold is the clip of none."""
    (catalogue / "tiny.toml").write_text(write_row())
    forget()
    serve(hub, "owner/tiny-ltx", folder)
    assert main(["models", "download", "tiny-ltx", "--accept-licence"]) == 0
    words = ["--cli", PROMPT, "--engine", "tiny-ltx", "--seed", "3", "--steps", "6"]
    wishes, made = ("", "first-block:0", "first-block:10"), []
    for wish in wishes:
        capsys.readouterr()
        more = ["--cache", wish] if wish else []
        assert main([*words, "--out", str(tmp_path), *more]) == 0, capsys.readouterr().err
        made.append(Path(capsys.readouterr().out.strip()))
    plain, same, other = (read_clip(path).frames for path in made)
    assert np.array_equal(plain, same)
    assert not np.array_equal(plain, other)
    for path, wish in zip(made, wishes, strict=True):
        inside = read_settings(path)
        assert inside["request"]["cache"] == (wish or None)
        assert inside["plan"]["cache"] == wish
        assert any("changes the result" in why for why in inside["plan"]["because"]) == bool(wish)
