"""LoRAs of a request: found, refused, added to its clip and to no other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from aiprod_studio.cli import main
from aiprod_studio.engines.engine import Latents, Parts
from aiprod_studio.engines.lora_layers import linear_layers
from aiprod_studio.engines.loras import TakesLoras, find_loras
from aiprod_studio.engines.ltx import LTXEngine
from aiprod_studio.engines.ltx2 import LTX2Engine
from aiprod_studio.engines.wan import WanEngine
from aiprod_studio.engines.weights import open_components
from aiprod_studio.errors import BadRequest
from aiprod_studio.graph.generate import Work
from aiprod_studio.library.provenance import read_request
from aiprod_studio.types import Plan, Request
from tests.engines.conftest import Tiny, forget, serve
from tests.engines.plans import card_of, plan_of
from tests.engines.test_catalog import ROW
from tests.engines.tiny_pipelines import build
from tests.loopback_hub import LoopbackHub

PROMPT = "a red fox running"
Make = Callable[..., Path]


def weights(seed: int, kind: str = "wan", names: str = "transformer.") -> dict[str, Tensor]:
    """Return a LoRA of rank 2 for every layer of a tiny denoiser, as diffusers names them."""
    dice, found = torch.Generator().manual_seed(seed), {}
    for name, (inputs, outputs) in linear_layers(build(kind)[0].transformer).items():
        found[f"{names}{name}.lora_A.weight"] = torch.randn(2, inputs, generator=dice)
        found[f"{names}{name}.lora_B.weight"] = 0.1 * torch.randn(outputs, 2, generator=dice)
    return found


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return what writes a LoRA to a file and returns its path."""

    def write(name: str = "a", seed: int = 0, **more: Any) -> Path:
        path = tmp_path / f"{name}.safetensors"
        save_file(weights(seed, **more), path)
        return path

    return write


def ask(*loras: str) -> Request:
    return Request(PROMPT, seed=7, steps=2, guidance=1.0, fps=16.0, loras=loras)


def denoise(parts: Parts, plan: Plan, *loras: str) -> Tensor:
    text = parts.encode_text(PROMPT)
    latents: Latents = parts.denoise(text, text, {}, ask(*loras), plan, lambda *_: None)
    return latents.video


def test_a_lora_leaves_with_its_request(tiny: Tiny, make: Make) -> None:
    """It changes the latents, with weight 0 it does not, and the next clip is without it."""
    lora, plan = make(), plan_of("wan")
    with WanEngine(card_of("wan"), lambda _: tiny("wan")).load(plan) as parts:
        assert isinstance(parts, TakesLoras)
        plain = denoise(parts, plan)
        changed = denoise(parts, plan, f"{lora}:0.8")
        assert (changed - plain).abs().max() > 1e-3
        assert torch.equal(denoise(parts, plan, f"{lora}:0"), plain)
        assert torch.equal(denoise(parts, plan), plain)
        assert torch.equal(denoise(parts, plan, f"{lora}:0.8"), changed)


def test_several_add_up_in_any_order(tiny: Tiny, make: Make, tmp_path: Path) -> None:
    one, two, plan = make("one", 1), make("two", 2), plan_of("wan")
    both = {
        key: torch.cat([tensor, weights(2)[key]], dim=0 if "lora_A" in key else 1)
        for key, tensor in weights(1).items()
    }
    save_file(both, tmp_path / "both.safetensors")
    with WanEngine(card_of("wan"), lambda _: tiny("wan")).load(plan) as parts:
        found = denoise(parts, plan, f"{one}:0.5", f"{two}:0.5")
        assert torch.equal(found, denoise(parts, plan, f"{two}:0.5", f"{one}:0.5"))
        together = denoise(parts, plan, f"{tmp_path}/both.safetensors:0.5")
        twice = denoise(parts, plan, f"{one}:0.3", f"{one}:0.2", f"{two}:0.5")
    torch.testing.assert_close(found, together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, twice, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "family", "canvas"),
    [("ltx", LTXEngine, (64, 32, 9)), ("ltx2-newer", LTX2Engine, (32, 32, 5))],
)
def test_ltx_takes_them_too(
    tiny: Tiny, make: Make, kind: str, family: Any, canvas: tuple[int, int, int]
) -> None:
    lora, plan = make(kind=kind), Plan("cpu", "float32", *canvas, 1, 0, {}, 1.0, ())
    card = dataclasses.replace(card_of("wan"), id="tiny")
    with family(card, lambda _: tiny(kind)).load(plan) as parts:
        assert isinstance(parts, TakesLoras)
        assert len(parts.find_loras((str(lora),))) == 1
        plain, changed, again = (denoise(parts, plan, *some) for some in ((), (str(lora),), ()))
    assert torch.equal(plain, again)
    assert (plain - changed).abs().max() > 1e-3


@pytest.mark.parametrize(
    "how",
    [
        {"place": "model"},
        {"place": "group"},
        {"place": "disk"},
        {"quantisation": "int8"},
        {"quantisation": "int8", "place": "group"},
        {"cache": "first-block:0"},
    ],
)
def test_it_is_added_wherever_weights_live(tiny: Tiny, make: Make, how: dict[str, Any]) -> None:
    lora = str(make())
    engine, plan = WanEngine(card_of("wan"), lambda _: tiny("wan")), plan_of("wan", **how)
    with engine.load(plan_of("wan")) as parts:
        whole = [denoise(parts, plan_of("wan"), *loras) for loras in ((), (lora,))]
    with engine.load(plan) as parts:
        found = [denoise(parts, plan, *loras) for loras in ((), (lora,), ())]
    assert torch.equal(found[0], found[2])
    far = 0.02 if "quantisation" in how else 1e-5
    for ours, wanted in zip(found, whole, strict=False):
        assert (ours - wanted).abs().max() < far
    assert (whole[0] - whole[1]).abs().max() > 10 * far


def test_of_two_denoisers_each_gets_its_half(tiny: Tiny, make: Make) -> None:
    """By the name of the file; one that names no half is for both."""
    high, low, both = make("a_high_noise"), make("a-LOW"), make("highlow")
    plan = plan_of("wan14b")
    with open_components(tiny("wan14b"), plan) as components:
        added = {}
        for lora in (high, low, both):
            with components.adding((str(lora),)):
                for name in ("transformer", "transformer_2"):
                    with components.use(name) as network:
                        layer = type(network.proj_out).__name__
                        added[lora.stem, name] = layer != "Linear"
    names = ("transformer", "transformer_2")
    assert [added["a_high_noise", name] for name in names] == [True, False]
    assert [added["a-LOW", name] for name in names] == [False, True]
    assert [added["highlow", name] for name in names] == [True, True]


@pytest.mark.parametrize("text", ["", ":0.5", "a.safetensors:nan", "nowhere.safetensors", "/tmp"])
def test_what_is_no_lora_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match=r"owner/name|Write a file"):
        find_loras((text,))


def test_a_weight_stands_behind_the_last_colon(make: Make) -> None:
    path = make("c:x")
    found = [find_loras((text,))[0] for text in (str(path), f"{path}:-0.5", f" {path}:2 ")]
    assert [lora.weight for lora in found] == [1.0, -0.5, 2.0]
    assert {lora.path for lora in found} == {path}


def test_the_order_of_texts_does_not_matter_and_the_file_does(make: Make) -> None:
    one, two = make("one", 1), make("two", 2)
    facts = [lora.facts for lora in find_loras((f"{one}:0.5", str(two)))]
    assert facts == [lora.facts for lora in find_loras((str(two), f"{one}:0.5"))]
    two.write_bytes(one.read_bytes() + b" ")
    assert facts != [lora.facts for lora in find_loras((f"{one}:0.5", str(two)))]


def test_one_that_does_not_fit_is_refused_before_anything_is_loaded(tiny: Tiny, make: Make) -> None:
    """And what fits is in the marks of the latents, by weight and content."""
    plan, foreign, lora = plan_of("wan"), make("ltx", kind="ltx"), make()
    with WanEngine(card_of("wan"), lambda _: tiny("wan")).load(plan) as parts:

        def mark(*loras: str) -> str:
            return Work(ask(*loras), card_of("wan"), plan, parts, lambda _: None).mark

        marks = [mark(), mark(f"{lora}:1"), mark(f"{lora}:0.5"), mark(f"{lora}:0")]
        assert marks[0] == marks[3]
        assert len(set(marks)) == 3
        work = Work(ask(str(foreign)), card_of("wan"), plan, parts, lambda _: None)
        with pytest.raises(BadRequest, match=r"ltx\.safetensors does not fit"):
            work.graph()
        assert not parts.components.loaded


def test_a_repository_with_one_file_is_a_lora(hub: LoopbackHub, make: Make) -> None:
    """Fetched once; of several one must be named."""
    data, heard = make().read_bytes(), []
    hub.add_repo("owner/name", {"a.safetensors": data, "README.md": b"# A LoRA"})
    (found,) = find_loras(("owner/name:0.5",), lambda *done: heard.append(done))
    assert (found.path.read_bytes(), found.weight) == (data, 0.5)
    assert heard[-1] == (len(data), len(data))
    before = len(hub.log)
    assert find_loras(("owner/name:0.5",)) == (found,)
    assert len(hub.log) == before, "one that is here asks nobody"
    hub.add_repo(
        "owner/two", {"a.safetensors": data, "b.safetensors": data, "x/c.safetensors": b""}
    )
    find_loras(("owner/two/b.safetensors",))
    with pytest.raises(BadRequest, match=r"owner/two/a\.safetensors"):
        find_loras(("owner/two",))
    assert not hub.sent("x/*")


@pytest.mark.parametrize(
    ("name", "said"),
    [("owner/none", "no such repository"), ("owner/empty", "none at its top")],
)
def test_a_repository_without_one_is_refused(hub: LoopbackHub, name: str, said: str) -> None:
    hub.add_repo("owner/empty", {"README.md": b"nothing"})
    with pytest.raises(BadRequest, match=said):
        find_loras((name,))


def test_from_the_command_line_to_the_file(
    hub: LoopbackHub,
    tiny: Tiny,
    catalogue: Path,
    make: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The settings in the file name the LoRAs as they were given."""
    (catalogue / "tiny.toml").write_text(ROW)
    forget()
    serve(hub, "owner/tiny", tiny("wan"))
    hub.add_repo("owner/style", {"style.safetensors": make().read_bytes()})
    assert main(["models", "download", "tiny"]) == 0
    local, out = make("local", 3), tmp_path / "out"
    words = ["--cli", PROMPT, "--engine", "tiny", "--out", str(out), "--lora"]
    assert main([*words, str(make("ltx", kind="ltx"))]) == 2
    assert "does not fit" in capsys.readouterr().err
    assert main([*words, "owner/style:0.5", "--lora", str(local)]) == 0, capsys.readouterr().err
    (clip,) = out.glob("*.mp4")
    assert read_request(clip).loras == ("owner/style:0.5", str(local))
