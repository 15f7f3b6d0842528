"""The catalogue: cards, and the engine of each family from the download to the finished file."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest

from aiprod_studio.cli import main
from aiprod_studio.engines.catalog import cards, find_card, find_engine
from aiprod_studio.engines.hub.copies import converted_folder
from aiprod_studio.engines.hub.errors import NotDownloaded, TermsNotAccepted
from aiprod_studio.engines.hub.folders import find_folder
from aiprod_studio.engines.ltx2 import LTX2Engine
from aiprod_studio.engines.native import NativeEngine
from aiprod_studio.engines.wan import WanEngine
from aiprod_studio.errors import BadRequest
from tests.engines.conftest import Tiny, forget, serve
from tests.engines.plans import plan_of
from tests.loopback_hub import LoopbackHub

PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
SIZES = "gigabytes = { bfloat16 = 0.001, float8 = 0.0005, int4 = 0.0003 }"
ROW = f"""
id = "tiny"
name = "Tiny Wan"
family = "wan"
licence = "Apache-2.0"
memory_gb = [1, 2]
size_step = 16
frame_step = 4
frames = [1, 17]
fps = [8.0, 24.0]
pixels = 4096
areas = [1024, 65536]
default_width = 96
default_height = 64
default_seconds = 0.5
default_fps = 16.0
default_steps = 2
default_guidance = 3.0
sample_rate = 0
flops_per_token = 1e6

[terms]
page = "https://example.org"
allows = "Anything."
accept = false

[part_bytes]
transformer = 200_000

[[variants]]
name = "text"
repo = "owner/tiny"
revision = "main"
gated = false
tasks = ["text"]
files = ["model_index.json", {", ".join(f'"{part}/*"' for part in PARTS)}]

[parts.transformer]
parameters = 1e5
stored_bytes = 4
{SIZES}
blocks = 3
outside = 0.1

[parts.text_encoder]
parameters = 1e5
stored_bytes = 4
{SIZES}
blocks = 2
outside = 0.1

[parts.vae]
parameters = 1e5
stored_bytes = 4
{SIZES}

[memory]
width = 24
denoise = 16
heads = 2
cfg_batch = 1
decode_pixel = {{ float32 = 2000, bfloat16 = 1000 }}
overlap = 16
"""


def test_every_card_is_read() -> None:
    card = cards()["starter"]
    assert card.size_step == 16
    assert card.frame_step == 4
    assert sum(card.part_bytes.values()) < 64e6


def test_an_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadRequest, match="starter"):
        find_card("nonesuch")


def test_every_row_has_the_engine_of_its_family(hub: LoopbackHub) -> None:
    assert isinstance(find_engine("starter"), NativeEngine)
    assert isinstance(find_engine("wan2.2-5b"), WanEngine)
    assert isinstance(find_engine("ltx-2"), LTX2Engine)
    second = find_engine("wan2.2-a14b")
    assert isinstance(second, WanEngine)
    assert second.second_guidance == 0.75


def test_weights_that_are_not_here_say_how_to_get_them(hub: LoopbackHub) -> None:
    with pytest.raises(NotDownloaded, match=r"models download wan2\.2-5b' first"):
        find_engine("wan2.2-5b").load(plan_of("wan5b")).__enter__()
    with pytest.raises(NotDownloaded, match=r"download wan2\.2-a14b --variant image"):
        find_folder("wan2.2-a14b", "image")
    with pytest.raises(TermsNotAccepted, match="--accept-licence"):
        find_folder("ltx-2", "text")
    with pytest.raises(BadRequest, match="cannot do 'dance'"):
        find_folder("wan2.2-5b", "dance")


@pytest.fixture
def served(hub: LoopbackHub, catalogue: Path, tiny: Tiny) -> LoopbackHub:
    (catalogue / "tiny.toml").write_text(ROW)
    forget()
    serve(hub, "owner/tiny", tiny("wan"), **{"unused/model.safetensors": b"1", "README.md": b"2"})
    return hub


def test_from_the_download_to_the_finished_file(
    served: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--cli", "a red fox running", "--engine", "tiny", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "models download tiny" in capsys.readouterr().err
    assert main(["models", "download", "tiny"]) == 0
    assert not served.sent("unused/*")
    assert not served.sent("README.md")
    before = len(served.log)
    assert main(words) == 0, capsys.readouterr().err
    assert len(served.log) == before, "a model that is here asks nobody"
    (out,) = map(str, (tmp_path / "out").glob("*.mp4"))
    with av.open(out) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        assert file.streams.video[0].average_rate == 16
        assert not file.streams.audio
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * 9
    capsys.readouterr()
    assert main(["show", out, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["request"]["engine"] == "tiny"


def test_what_was_converted_goes_with_the_weights(served: LoopbackHub) -> None:
    assert main(["models", "download", "tiny"]) == 0
    plan = plan_of("wan", quantisation="int8")
    with find_engine("tiny").load(plan) as parts:
        parts.encode_text("a red fox")
    folder = converted_folder("models--owner--tiny")
    assert len(list(folder.rglob("*.safetensors"))) == 2
    assert main(["models", "remove", "tiny", "--yes"]) == 0
    assert not folder.exists()
