"""Requests: what is refused, what is filled in, and the way through JSON and back."""

import dataclasses
import json
from typing import Any

import pytest

from aiprod_studio.errors import BadRequest
from aiprod_studio.types import (
    CACHES,
    ModelCard,
    Request,
    complete,
    frame_count,
    read_cache,
)

CARD = ModelCard(
    id="tiny",
    name="Tiny",
    licence="Apache-2.0",
    size_step=16,
    frame_step=4,
    frames=(1, 49),
    fps=(4, 30),
    pixels=128 * 128,
    default_width=128,
    default_height=96,
    default_seconds=2.0,
    default_fps=8.0,
    default_steps=12,
    default_guidance=2.5,
    sample_rate=16_000,
    part_bytes={"backbone": 1},
    flops_per_token=1.0,
)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"prompt": ""}, "empty"),
        ({"prompt": " \n\t"}, "empty"),
        ({"prompt": "x" * 100_000}, "100,000"),
        ({"prompt": None}, "prompt"),
        ({"width": 0}, "width"),
        ({"width": 7}, "width"),
        ({"width": 100_000}, "width"),
        ({"width": 10**400}, "width"),
        ({"height": "abc"}, "height"),
        ({"height": True}, "height"),
        ({"height": 128.0}, "height"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"steps": 0}, "steps"),
        ({"seconds": float("nan")}, "seconds"),
        ({"guidance": float("inf")}, "guidance"),
        ({"fps": 0}, "fps"),
        ({"audio": 1}, "audio"),
        ({"image": 3}, "image"),
        ({"last_image": 3}, "last_image"),
        ({"reference": 3}, "reference"),
        ({"cache": True}, "cache"),
        ({"cache": ""}, "Use first-block or mag"),
        ({"cache": "tea"}, "no step cache 'tea'"),
        ({"cache": "tea:0.1"}, "no step cache 'tea:0.1'"),
        ({"cache": "mag:much"}, "threshold of 0 or more"),
        ({"cache": "mag:-1"}, "threshold of 0 or more"),
        ({"cache": "first-block:inf"}, "threshold of 0 or more"),
        ({"cache": "first-block:nan"}, "threshold of 0 or more"),
        ({"stages": 3}, "stages"),
        ({"stages": None}, "stages"),
    ],
)
def test_refuses_what_suits_no_engine(values: dict[str, Any], word: str) -> None:
    with pytest.raises(BadRequest, match=word) as caught:
        Request(**{"prompt": "a cat", **values})
    assert str(caught.value).endswith(".")


def test_a_step_cache_has_the_usual_threshold_or_its_own() -> None:
    assert Request("a cat").cache is None
    for wish in CACHES:
        assert read_cache(wish) == (wish, CACHES[wish])
        assert read_cache(f"{wish}:0.2") == (wish, 0.2)


def test_goes_through_json_and_back() -> None:
    request = Request("ein Hund — 犬 🐶", width=64, seconds=1.5, seed=2**63 - 1, audio=False)
    assert Request.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_from_json_names_unknown_and_missing_settings() -> None:
    with pytest.raises(BadRequest, match=r"'colour'.*guidance"):
        Request.from_json({"prompt": "a cat", "colour": 1})
    with pytest.raises(BadRequest, match="prompt is missing"):
        Request.from_json({"width": 64})


def test_complete_fills_what_was_left_open_and_keeps_the_seed_open() -> None:
    full = complete(Request("a cat", steps=3), CARD)
    assert full == Request(
        "a cat", width=128, height=96, seconds=2.0, fps=8.0, steps=3, guidance=2.5
    )
    assert complete(full, CARD) == full


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({"width": 130}, "Use 128"),
        ({"height": 20}, "Use 16"),
        ({"fps": 60}, "Use 8"),
        ({"seconds": 60}, "--seconds"),
    ],
)
def test_complete_refuses_what_the_model_cannot_and_says_what_it_can(
    values: dict[str, Any], advice: str
) -> None:
    with pytest.raises(BadRequest, match=advice):
        complete(Request(prompt="a cat", **values), CARD)


@pytest.mark.parametrize(("seconds", "frames"), [(0.01, 1), (0.6, 5), (2.0, 17), (6.1, 49)])
def test_frame_count_is_the_nearest_the_model_can(seconds: float, frames: int) -> None:
    request = complete(Request("a cat", seconds=seconds), CARD)
    assert frame_count(request, CARD) == frames


def test_the_advised_longest_clip_is_accepted() -> None:
    seconds = float(f"{CARD.frames[1] / CARD.default_fps:.3g}")
    assert frame_count(complete(Request("a cat", seconds=seconds), CARD), CARD) == CARD.frames[1]


def test_what_was_made_before_there_were_last_pictures_and_stages_still_reads() -> None:
    old = Request("a cat", seed=4).to_json()
    del old["last_image"], old["stages"]
    assert Request.from_json(old) == Request("a cat", seed=4)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"last_image": "a.png"}, "end with a picture"),
        ({"reference": "a.mp4"}, "follow a reference"),
        ({"cache": "mag"}, "use a step cache"),
        ({"stages": 2}, "render in two stages"),
    ],
)
def test_what_an_engine_cannot_is_said_with_the_engines_that_can(
    values: dict[str, Any], what: str
) -> None:
    request = Request("a cat", **values)
    with pytest.raises(BadRequest, match=rf"Tiny cannot {what}.*an engine that can\.$"):
        complete(request, CARD)
    tasks = ("keyframes", "reference", "cache", "upscale")
    others = dict.fromkeys(tasks, ("one", "two"))
    with pytest.raises(BadRequest, match=r"an engine that can: one, two\.$"):
        complete(request, dataclasses.replace(CARD, others=others))


def test_two_stages_have_twice_the_sides_by_default() -> None:
    card = dataclasses.replace(CARD, tasks=("text", "upscale"), refine_steps=3)
    full = complete(Request("a cat", stages=2), card)
    assert (full.width, full.height) == (256, 192)
    assert complete(Request("a cat", stages=2, width=64), card).width == 64


def test_requests_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Request("a cat").seed = 1  # type: ignore[misc]


def test_loras_are_texts_and_need_an_engine_that_takes_them():
    request = Request("a cat", loras=("style.safetensors:0.8", "owner/name"))
    assert Request.from_json(request.to_json()) == request
    with pytest.raises(BadRequest, match="list of texts"):
        Request("a cat", loras=["style"])  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="cannot use LoRAs"):
        complete(request, CARD)
