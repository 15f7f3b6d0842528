"""Step caches on blocks of two streams, picture and sound."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aiprod_studio.engines.ltx2 import LTX2Parts
from aiprod_studio.engines.recipes import Recipe
from aiprod_studio.errors import BadRequest
from tests.engines.tiny_ltx2 import build, counting, loaded, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tiny networks of LTX-2.3 are saved."""
    path = tmp_path_factory.mktemp("ltx2")
    build(newer=True).save_pretrained(path)
    return path


@pytest.fixture
def parts(folder: Path) -> Iterator[LTX2Parts]:
    """The adapter's parts, all in memory."""
    with loaded(folder) as found:
        yield found


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


@pytest.mark.parametrize(
    ("cache", "said"),
    [("tea", "no step cache 'tea'"), ("mag:much", "no step cache")],
)
def test_a_cache_that_is_not_there_is_refused(parts: LTX2Parts, cache: str, said: str) -> None:
    """By name."""
    with pytest.raises(BadRequest, match=said):
        run(parts, cache=cache)
