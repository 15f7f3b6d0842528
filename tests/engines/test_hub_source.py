"""The catalogue's downloads: which files of a repository are chosen, which are left."""

import dataclasses

import pytest

from aiprod_studio.engines.catalog import cards, rows
from aiprod_studio.engines.hub.errors import RepoGone
from aiprod_studio.engines.hub.source import (
    Variant,
    choose_files,
    default_source,
    find_source,
    sources,
)
from aiprod_studio.errors import BadRequest
from aiprod_studio.types import Request, complete

ANY = Variant(
    name="any",
    repo="tiny/model",
    revision="main",
    gated=False,
    tasks=("text",),
    files=("model_index.json", "transformer/*.json", "transformer/*.safetensors"),
    maybe=("*/*.model",),
    leave=("extra/*",),
)
INDEX = ["model_index.json", "transformer/config.json"]


def test_only_what_the_variant_needs_is_chosen() -> None:
    names = [
        *INDEX,
        "README.md",
        "LICENSE",
        "transformer/model.safetensors",
        "transformer/model.bin",
        "transformer/deep/model.safetensors",
        "transformer_full/model.safetensors",
        "tokenizer/spiece.model",
        "extra/spiece.model",
    ]
    assert choose_files(names, ANY) == [
        "LICENSE",
        "model_index.json",
        "tokenizer/spiece.model",
        "transformer/config.json",
        "transformer/model.safetensors",
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors", "m.safetensors"],
        ["m.safetensors", "m.fp16.safetensors"],
        ["m-00001-of-00001.safetensors", "m.bf16-00001-of-00001.safetensors"],
    ],
    ids=["shards beside one piece", "half precision beside full", "sharded precisions"],
)
def test_no_weights_are_chosen_twice(names: list[str]) -> None:
    paths = [f"transformer/{name}" for name in names]
    chosen = [name for name in choose_files([*INDEX, *paths], ANY) if name in paths]
    assert chosen == [path for path in paths if "-of-" in path and "bf16" not in path] or paths[:1]


@pytest.mark.parametrize("name", ["../x.json", "transformer/../x.json", "a\\b.json", "c:/x.json"])
def test_a_path_that_leads_outside_is_never_chosen(name: str) -> None:
    greedy = dataclasses.replace(ANY, files=("model_index.json",), maybe=("*", "*/*", "*/*/*"))
    assert choose_files([*INDEX, name], greedy) == INDEX


def test_a_changed_layout_is_told() -> None:
    with pytest.raises(RepoGone, match=r"transformer/\*\.safetensors"):
        choose_files(INDEX, ANY)


@pytest.mark.parametrize("engine", sorted(set(cards()) - {"starter"}))
def test_every_row_is_whole(engine: str) -> None:
    row, source = rows()[engine], find_source(engine)
    assert complete(Request("x", engine=engine), cards()[engine]).seconds == 5.0
    assert row["memory"]["denoise"] > 0
    assert all(part["parameters"] > 0 for part in row["parts"].values())
    assert source.memory_gb[0] <= source.memory_gb[1]
    assert source.computed_bytes > 1e9
    for variant in source.variants:
        assert source.variant(variant.name) == variant
        assert variant.revision == "main" or len(variant.revision) == 40


def test_the_engines_that_were_asked_for_are_there() -> None:
    found = sources()
    assert next(iter(found)) == "ltx-video-2b"
    assert {"wan2.1-1.3b", "wan2.2-5b", "ltx-2", "wan2.2-a14b"} < set(found)
    assert found["wan2.2-a14b"].variant("image").repo == "Wan-AI/Wan2.2-I2V-A14B-Diffusers"
    assert not found["ltx-2"].variant().gated
    assert found["ltx-2"].variant("2.5").gated
    assert found["ltx-2"].licence.accept
    assert not found["wan2.1-1.3b"].licence.accept


@pytest.mark.parametrize("engine", ["starter", "nonesuch"])
def test_what_has_no_download_says_so(engine: str) -> None:
    with pytest.raises(BadRequest):
        find_source(engine)


def test_unknown_variants_name_the_known_ones() -> None:
    with pytest.raises(BadRequest, match="upscaler"):
        find_source("ltx-2").variant("3")


@pytest.mark.parametrize(
    ("memory", "engine"),
    [(4, None), (6, "wan2.1-1.3b"), (11.9, "wan2.1-1.3b"), (12, "wan2.2-5b"), (80, "wan2.2-5b")],
)
def test_the_default_is_free_and_fits(memory: float, engine: str | None) -> None:
    found = default_source(memory)
    assert (found.engine if found else None) == engine
