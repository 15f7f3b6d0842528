"""Any repository in diffusers' layout, by its id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from aiprod_studio.cli import main
from aiprod_studio.engines.catalog import find_card, find_engine
from aiprod_studio.engines.hub.errors import NotDownloaded, TermsNotAccepted
from aiprod_studio.engines.hub.source import find_source
from aiprod_studio.errors import BadRequest, Cancelled, ModelUnavailable
from aiprod_studio.types import Request, complete
from tests.engines.conftest import Tiny, serve
from tests.engines.plans import decode, plan_of
from tests.engines.tiny_pipelines import files
from tests.loopback_hub import LoopbackHub

ENGINE = "hub:owner/name"


def fetch() -> None:
    assert main(["models", "download", ENGINE, "--accept-licence"]) == 0


def test_a_repository_by_its_id_from_the_download_to_the_file(
    hub: LoopbackHub, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"transformer_full/diffusion_pytorch_model.safetensors": b"1", "vae/x.bin": b"2"}
    serve(hub, "owner/name", tiny("wan"), **more)
    small = ["--width", "64", "--height", "32", "--seconds", "0.5", "--steps", "2"]
    words = ["--cli", "a red fox", "--engine", ENGINE, *small, "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "--accept-licence" in capsys.readouterr().err
    fetch()
    assert not hub.sent("transformer_full/*")
    assert not hub.sent("*.bin")
    before = len(hub.log)
    assert main(words) == 0, capsys.readouterr().err
    assert len(hub.log) == before, "a model that is here asks nobody"
    (out,) = map(str, (tmp_path / "out").glob("*.mp4"))
    with av.open(out) as file:
        shapes = [frame.to_ndarray(format="rgb24").shape for frame in file.decode(video=0)]
    assert shapes == [(32, 64, 3)] * 9


def test_the_card_is_careful(hub: LoopbackHub, tiny: Tiny) -> None:
    serve(hub, "owner/name", tiny("wan5b"))
    with pytest.raises(TermsNotAccepted, match="--accept-licence"):
        find_card(ENGINE)
    fetch()
    card = find_card(ENGINE)
    assert (card.id, card.name, card.tasks) == (ENGINE, "owner/name", ("text",))
    assert (card.frame_step, card.sample_rate, card.memory.width) == (4, 0, 24)
    weights = sum(path.stat().st_size for path in tiny("wan5b").rglob("*.safetensors"))
    assert weights * 0.8 < 2 * sum(card.part_bytes.values()) <= weights
    with pytest.raises(BadRequest, match=r"cannot use a step cache\..* that can: .*wan2\.2-5b"):
        complete(Request("a fox", ENGINE, cache="mag"), card)


def test_frames_are_those_of_the_plain_call(hub: LoopbackHub, tiny: Tiny) -> None:
    from diffusers import DiffusionPipeline

    serve(hub, "owner/name", tiny("wan"))
    fetch()
    plan, steps = plan_of("wan"), []
    request = Request("a red fox", ENGINE, seed=7, steps=3, guidance=5.0)
    with find_engine(ENGINE).load(plan) as parts:
        text, nothing = parts.encode_text(request.prompt), parts.encode_text("")

        def on_step(done: int, total: int) -> None:
            steps.append((done, total))

        latents = parts.denoise(text, nothing, {}, request, plan, on_step)
        frames = decode(parts, latents, plan)
        assert parts.decode_audio(latents, 1.0) is None

        def stop(done: int, total: int) -> None:
            raise Cancelled("Stopped. Start it again.")

        with pytest.raises(Cancelled):
            parts.denoise(text, nothing, {}, request, plan, stop)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    pipeline = DiffusionPipeline.from_pretrained(tiny("wan"))
    pipeline.set_progress_bar_config(disable=True)
    dice = torch.Generator().manual_seed(7)
    size = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": 3}
    plain = pipeline("a red fox", generator=dice, guidance_scale=5.0, **size).frames[0]
    np.testing.assert_allclose(frames, plain * 255, atol=0.6)


@pytest.mark.parametrize("name", ["hub:", "hub:name", "hub:a/b/c", "hub:../x", "hub:owner/na me"])
def test_another_id_is_refused(hub: LoopbackHub, name: str) -> None:
    with pytest.raises(BadRequest, match="hub:owner/name"):
        find_source(name)


def changed(folder: Path, **entries: Any) -> dict[str, bytes]:
    """Return the files of a folder whose index has other entries."""
    found = files(folder)
    index = json.loads(found["model_index.json"]) | entries
    return {**found, "model_index.json": json.dumps(index).encode()}


def test_what_makes_no_video_of_text_is_refused_with_a_clear_word(
    hub: LoopbackHub, tiny: Tiny
) -> None:
    hub.add_repo("owner/name", {"model_index.json": b'{"_class_name": "X"}'})
    with pytest.raises(BadRequest, match="no text-to-video pipeline"):
        find_source(ENGINE)


@pytest.mark.parametrize(
    ("kind", "entries", "error", "said"),
    [
        ("wan14b-image", {"image_encoder": [None, None]}, BadRequest, "no video of text alone"),
        ("wan", {"_class_name": "FuturePipeline"}, ModelUnavailable, "FuturePipeline"),
    ],
)
def test_a_pipeline_of_another_kind_is_refused_when_it_is_loaded(
    hub: LoopbackHub,
    tiny: Tiny,
    kind: str,
    entries: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    hub.add_repo("owner/name", changed(tiny(kind), **entries))
    fetch()
    with pytest.raises(error, match=said):
        find_engine(ENGINE).load(plan_of("wan")).__enter__()


def test_a_repository_without_safetensors_is_refused(hub: LoopbackHub, tiny: Tiny) -> None:
    kept = {
        name: data for name, data in files(tiny("wan")).items() if not name.endswith(".safetensors")
    }
    hub.add_repo("owner/name", kept)
    fetch()
    with pytest.raises(ModelUnavailable, match="no weights in safetensors"):
        find_card(ENGINE)


def test_a_repository_that_is_not_here_says_how_to_get_it(hub: LoopbackHub, tiny: Tiny) -> None:
    serve(hub, "owner/name", tiny("wan"))
    assert main(["models", "download", ENGINE, "--accept-licence"]) == 0
    assert main(["models", "remove", ENGINE, "--yes"]) == 0
    with pytest.raises(NotDownloaded, match=f"models download {ENGINE}"):
        find_card(ENGINE)
