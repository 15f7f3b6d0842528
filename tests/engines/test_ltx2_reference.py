"""LTX-2 with a reference beside the clip, against the in-context pipeline of diffusers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LTX2InContextPipeline, LTX2Pipeline
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from PIL import Image
from safetensors.torch import save_file

from aiprod_studio.cli import main
from aiprod_studio.engines.catalog import find_card
from aiprod_studio.engines.engine import Frames, Pictures, Referring
from aiprod_studio.engines.ltx2 import LTX2Parts
from aiprod_studio.engines.ltx_video import natural
from aiprod_studio.engines.recipes import Recipe
from aiprod_studio.errors import BadRequest
from aiprod_studio.graph.generate import Work
from aiprod_studio.library.provenance import read_request
from aiprod_studio.media.images import write_image
from aiprod_studio.media.video import read_clip
from aiprod_studio.media.writer import write_video
from aiprod_studio.sampling.solvers import Point
from aiprod_studio.types import complete
from tests.engines.conftest import forget, serve
from tests.engines.tiny_ltx2 import (
    PLAN,
    PROMPT,
    REQUEST,
    call,
    packed_noise,
    quiet,
    run,
    unshifted,
    write_row,
)
from tests.engines.tiny_ltx2 import folder as folder
from tests.engines.tiny_ltx2 import parts as parts
from tests.engines.tiny_ltx2 import pipe as pipe
from tests.loopback_hub import LoopbackHub

LAYER = "transformer_blocks.0.attn1.to_q"


def clip(count: int, width: int = 96, height: int = 64) -> Frames:
    """Return frames `[T, H, W, 3]` of coarse colours."""
    dice = np.random.default_rng(5)
    coarse = dice.integers(0, 255, (count, height // 16, width // 16, 3), np.uint8)
    frames: Frames = coarse.repeat(16, axis=1).repeat(16, axis=2)
    return frames


def write_lora(path: Path, network: torch.nn.Module, smaller: str = "", fewer: str = "") -> str:
    """Write a LoRA of one layer that changes nothing, and return its path."""
    layer = network.get_submodule(LAYER)
    assert isinstance(layer, torch.nn.Linear)
    tensors = {
        f"diffusion_model.{LAYER}.lora_A.weight": torch.zeros(2, layer.in_features),
        f"diffusion_model.{LAYER}.lora_B.weight": torch.zeros(layer.out_features, 2),
    }
    notes = {"reference_downscale_factor": smaller, "reference_temporal_scale_factor": fewer}
    save_file(tensors, path, metadata={name: told for name, told in notes.items() if told})
    return str(path)


@pytest.mark.parametrize(
    ("count", "less", "width", "guidance"),
    [(17, 1, 96, 1.0), (9, 1, 96, 3.0), (17, 2, 128, 1.0)],
    ids=["as long", "shorter, with guidance", "half the sides"],
)
def test_latents_are_those_of_the_in_context_pipeline(
    parts: LTX2Parts,
    pipe: LTX2Pipeline,
    tmp_path: Path,
    count: int,
    less: int,
    width: int,
    guidance: float,
) -> None:
    """Picture and sound, also from a first and to a last picture."""
    lora = write_lora(tmp_path / "a.safetensors", pipe.transformer, str(less))
    plan, request = replace(PLAN, width=width), replace(REQUEST, loras=(lora,))
    shown = clip(count, width // less, 64 // less)
    first, last = (np.ascontiguousarray(clip(n, width)[-1]) for n in (1, 2))
    given = parts.encode_media(Pictures(first, last), plan)
    # The plain one counts latents.
    given["9"] = given.pop("16")
    given |= parts.encode_reference(shown, request, plan)
    cells = width // 32 * 2
    beside = cells + ((count - 1) // 8 + 1) * cells // less**2
    rough = packed_noise(3, 3 * cells, beside)
    latents = run(
        replace(parts, recipe=Recipe(sigmas=(1.0, 0.9, 0.5))),
        given,
        plan=plan,
        guidance=guidance,
        start=Point(0, rough, rough),
    )
    networks = pipe.components | {"scheduler": unshifted(pipe)}
    del networks["duration_head"]
    plain = quiet(LTX2InContextPipeline(**networks))
    wanted = call(
        plain,
        reference_conditions=[LTX2ReferenceCondition([Image.fromarray(each) for each in shown])],
        reference_downscale_factor=less,
        conditions=[
            LTX2VideoCondition(Image.fromarray(first), index=0),
            LTX2VideoCondition(Image.fromarray(last), index=-1),
        ],
        sigmas=[1.0, 0.9, 0.5],
        width=width,
        guidance_scale=guidance,
        audio_guidance_scale=guidance,
    )
    torch.testing.assert_close(natural(pipe.vae, latents.video), wanted.frames, rtol=0, atol=5e-5)
    assert latents.audio is not None
    torch.testing.assert_close(latents.audio, wanted.audio.flatten(2), rtol=0, atol=5e-5)


def test_a_reference_changes_the_clip_and_not_its_shape(parts: LTX2Parts) -> None:
    """What it shows matters."""
    assert isinstance(parts, Referring)
    without = run(parts).video
    bright, dark = (
        run(parts, parts.encode_reference(frames, REQUEST, PLAN)).video
        for frames in (clip(17), clip(17) // 4)
    )
    assert without.shape == bright.shape == dark.shape == (1, 4, 3, 2, 3)
    assert (bright - without).abs().max() > 1e-4
    assert (bright - dark).abs().max() > 1e-4


@pytest.mark.parametrize(("count", "groups"), [(1, 1), (8, 1), (9, 2), (16, 2), (40, 3)])
def test_a_reference_of_any_size_and_length_is_cut(
    parts: LTX2Parts, count: int, groups: int
) -> None:
    """To whole latents of the clip's size, and at most as many as the clip has."""
    frames = clip(count, 208, 112)
    [latents] = parts.encode_reference(iter(frames), REQUEST, PLAN).values()
    assert latents.shape == (1, 4, groups, 2, 3)
    [whole] = parts.encode_reference(frames[: 8 * groups - 7], REQUEST, PLAN).values()
    assert torch.equal(latents, whole)


def test_loras_say_how_small_it_is(parts: LTX2Parts, pipe: LTX2Pipeline, tmp_path: Path) -> None:
    """Also where that is no whole number of latents; one that adds nothing says nothing."""
    told: dict[str, tuple[str, ...]] = {
        "none": (),
        "one": ("1", "1"),
        "two": ("2",),
        "four": ("4",),
        "odd": ("1.5",),
        "few": ("1", "2"),
    }
    loras = {
        name: write_lora(tmp_path / f"{name}.safetensors", pipe.transformer, *notes)
        for name, notes in told.items()
    }

    def read(*texts: str) -> tuple[int, ...]:
        [latents] = parts.encode_reference(clip(17), replace(REQUEST, loras=texts), PLAN).values()
        return tuple(latents.shape[2:])

    assert read(loras["none"]) == read(loras["one"]) == read(loras["two"] + ":0") == (3, 2, 3)
    assert read(loras["two"]) == read(loras["one"], loras["two"]) == (3, 1, 1)
    assert read(loras["four"]) == (3, 1, 1)
    with pytest.raises(
        BadRequest, match=r"two\.safetensors by 2, four\.safetensors by 4\. Use one"
    ):
        read(loras["four"], loras["two"])
    for name, said in (("odd", r"1\.5 times smaller"), ("few", "of 2 times fewer frames")):
        with pytest.raises(BadRequest, match=rf"{name}\.safetensors .*{said}.* Choose another"):
            read(loras[name])
    shrunk = parts.encode_reference(clip(17), replace(REQUEST, loras=(loras["two"],)), PLAN)
    assert run(parts, shrunk).video.shape == (1, 4, 3, 2, 3)


def test_clips_with_one_reference_go_together(parts: LTX2Parts) -> None:
    """Each as alone."""
    given = parts.encode_reference(clip(9), REQUEST, PLAN)
    text, nothing = parts.encode_text(PROMPT), parts.encode_text("")
    requests = [replace(REQUEST, seed=seed) for seed in (3, 4)]
    both = parts.denoise_together([text] * 2, nothing, [given] * 2, requests, PLAN, lambda *_: None)
    for request, latents in zip(requests, both, strict=True):
        alone = run(parts, given, seed=request.seed)
        torch.testing.assert_close(latents.video, alone.video, rtol=0, atol=1e-5)


@pytest.fixture
def engine(catalogue: Path) -> str:
    """The id of an engine of the catalogue that takes references."""
    (catalogue / "tiny.toml").write_text(write_row())
    forget()
    return "tiny-ltx"


def test_both_stages_read_it_and_another_file_is_another_clip(
    parts: LTX2Parts, engine: str, tmp_path: Path
) -> None:
    """At the clip's frame rate, each stage in its own size."""
    file, card = tmp_path / "a.mp4", find_card(engine)
    write_video(file, clip(17), 12)
    request = complete(replace(REQUEST, engine=engine, stages=2, width=192, height=128), card)
    plan = replace(PLAN, width=192, height=128, stages=2)

    def work(**wishes: str) -> Work:
        return Work(replace(request, **wishes), card, plan, parts, lambda _: None)

    asked = work(reference=str(file))
    small, large = asked.encode_pictures(), asked.encode_larger()
    # 17 frames at 12 a second fill more than the clip's 17 at 24.
    assert small["reference"].shape == (1, 4, 3, 2, 3)
    assert large["reference"].shape == (1, 4, 3, 4, 6)
    marks = {work().mark, asked.mark}
    write_image(tmp_path / "b.png", clip(1)[0])
    picture = work(reference=str(tmp_path / "b.png"))
    assert picture.encode_pictures()["reference"].shape == (1, 4, 1, 2, 3)
    marks.add(picture.mark)
    assert len(marks) == 3


def test_the_command_line_follows_a_reference(
    hub: LoopbackHub,
    engine: str,
    pipe: LTX2Pipeline,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a LoRA, into a file that remembers both; what cannot be is refused before."""
    serve(hub, "owner/tiny-ltx", folder)
    assert main(["models", "download", engine, "--accept-licence"]) == 0
    file, text = tmp_path / "depths.mp4", tmp_path / "words.txt"
    write_video(file, clip(17), 24)
    text.write_text("a cat")
    lora = write_lora(tmp_path / "depth.safetensors", pipe.transformer, "2")
    words = ["--cli", PROMPT, "--seed", "3", "--steps", "2", "--out", str(tmp_path)]
    made = []
    for more in ([], ["--reference", str(file), "--lora", lora]):
        capsys.readouterr()
        assert main([*words, "--engine", engine, *more]) == 0, capsys.readouterr().err
        made.append(Path(capsys.readouterr().out.strip()))
    plain, following = (read_clip(path).frames for path in made)
    assert plain.shape == following.shape == (17, 64, 96, 3)
    assert not np.array_equal(plain, following)
    request = read_request(made[1])
    assert (request.reference, request.loras) == (str(file), (lora,))
    refused = {
        ("--engine", engine, "--reference", str(tmp_path / "none.mp4")): "does not exist. Check",
        ("--engine", engine, "--reference", str(text)): r"words\.txt .*[.] ",
        ("--reference", str(file)): r"Starter cannot follow a reference\..* can: ltx-2, tiny-ltx",
    }
    for more, said in refused.items():
        assert main([*words, *more]) == 2
        assert re.search(said, capsys.readouterr().err)
