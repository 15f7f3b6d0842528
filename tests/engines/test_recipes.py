"""Recipes: what a row of the catalogue says, followed in any number of steps."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from aiprod_studio.engines.catalog import rows
from aiprod_studio.engines.recipes import Guidance, Push, Recipe, follow, schedule


@pytest.mark.parametrize("engine", ["ltx-2", "ltx-video-2b"])
def test_a_distilled_model_follows_its_own_levels(engine: str) -> None:
    """To the bit in as many steps as it has, between them in others, always to 0."""
    sigmas = Recipe.of(engine).sigmas
    assert len(sigmas) == rows()[engine]["default_steps"]
    assert follow(sigmas, len(sigmas)).tolist() == torch.tensor([*sigmas, 0.0]).tolist()
    for steps in (1, 5, 20):
        levels = follow(sigmas, steps)
        assert len(levels) == steps + 1
        assert (levels[0], levels[-1]) == (1, 0)
        assert (levels.diff() < 0).all()


def test_a_model_without_a_recipe_follows_its_scheduler() -> None:
    """With the number of tokens told; one step ends at once instead of nowhere."""
    assert Recipe.of("hub:owner/name") == Recipe()
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1)
    few, many = (schedule(scheduler, 4, tokens).clone() for tokens in (256, 4096))
    assert (few[0], few[-1]) == (1, 0)
    assert few[-2] == pytest.approx(0.1)
    assert (many[1:-2] > few[1:-2]).all()
    assert schedule(scheduler, 1, 256).tolist() == [1, 0]


def test_guidance_of_one_asks_for_nothing_else() -> None:
    """Whatever else a recipe would push; above one, all that it names."""
    recipe = Recipe(video={"stg": 1.0}, audio={"scale": 7.0, "modality": 2.0}, blocks=(28,))
    assert recipe.guidance(1.0) == Guidance()
    assert recipe.guidance(1.0).others == ()
    pushed = recipe.guidance(3.0)
    assert pushed == Guidance(Push(3.0, stg=1.0), Push(7.0, modality=2.0), (28,))
    assert pushed.others == ("nothing", "perturbed", "isolated")
    assert Recipe().guidance(3.0).others == ("nothing",)


def test_a_push_goes_away_from_the_worse_prediction() -> None:
    """And rescaling gives the better one's spread back."""
    told, nothing = torch.tensor([[[1.0, -1.0]]]), torch.tensor([[[0.5, -0.5]]])
    clean = {"told": told, "nothing": nothing}
    assert Push(3.0).apply(clean).flatten().tolist() == [2.0, -2.0]
    torch.testing.assert_close(Push(3.0, rescale=1.0).apply(clean), told)
    assert torch.equal(Push().apply({"told": told}), told)
