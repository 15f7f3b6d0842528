"""What LoRAs add to a model's card: what is alive while they work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from aiprod_studio.engines.catalog import cards, find_card
from aiprod_studio.engines.lora_layers import linear_layers
from aiprod_studio.engines.lora_sizes import UNKNOWN_RANK, with_loras
from aiprod_studio.engines.loras import DENOISERS, find_loras
from aiprod_studio.engines.weights import open_components
from aiprod_studio.errors import BadRequest
from aiprod_studio.types import ModelCard
from tests.engines.conftest import Tiny
from tests.engines.plans import card_of, plan_of
from tests.engines.tiny_pipelines import build
from tests.loopback_hub import LoopbackHub


def make(path: Path, rank: int = 2) -> Path:
    """Write a LoRA of a rank for every layer of a tiny denoiser."""
    found = {}
    for name, (inputs, outputs) in linear_layers(build("wan")[0].transformer).items():
        found[f"transformer.{name}.lora_A.weight"] = torch.ones(rank, inputs)
        found[f"transformer.{name}.lora_B.weight"] = torch.ones(outputs, rank)
    save_file(found, path)
    return path


def counted(card: ModelCard) -> list[int]:
    return [card.parts[name].loras for name in DENOISERS if name in card.parts]


def alive(network: nn.Module) -> int:
    """Return the values that stand beside a network's own."""
    own = sum(one.numel() for one in network.buffers())
    return own - sum(one.numel() for one in build("wan")[0].transformer.buffers())


@pytest.mark.parametrize("place", ["resident", "model"])
def test_what_is_counted_is_what_is_alive(tiny: Tiny, tmp_path: Path, place: str) -> None:
    """And nothing of it is once the request has ended."""
    texts = (f"{make(tmp_path / 'a.safetensors')}:0.5", str(make(tmp_path / "b.safetensors", 3)))
    with open_components(tiny("wan"), plan_of("wan", place)) as components:
        with components.adding(texts), components.use("transformer") as network:
            seen = alive(network)
        with components.use("transformer") as network:
            assert alive(network) == 0
    assert counted(with_loras(card_of("wan"), texts)) == [seen]
    assert seen > 0


def test_of_two_denoisers_each_has_its_half(tmp_path: Path) -> None:
    card = find_card("wan2.2-a14b")
    high, any_ = make(tmp_path / "a_high.safetensors"), make(tmp_path / "b.safetensors", 4)
    (one,) = counted(with_loras(card_of("wan"), (str(high),)))
    assert counted(with_loras(card, (str(high),))) == [one, 0]
    assert counted(with_loras(card, (str(high), str(any_)))) == [3 * one, 2 * one]


def test_what_adds_nothing_is_not_counted(tmp_path: Path) -> None:
    lora = make(tmp_path / "a.safetensors")
    assert with_loras(card_of("wan"), ()) == card_of("wan")
    assert with_loras(card_of("wan"), (f"{lora}:0",)) == card_of("wan")
    starter = cards()["starter"]
    assert with_loras(starter, (str(lora),)) == starter, "it refuses them itself"
    with pytest.raises(BadRequest, match="is no LoRA"):
        with_loras(card_of("wan"), (":1",))
    with pytest.raises(BadRequest, match="There is no file"):
        with_loras(card_of("wan"), (str(tmp_path / "none.safetensors"),))


def test_a_changed_file_is_counted_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    (one,) = counted(with_loras(card_of("wan"), (str(make(path)),)))
    assert counted(with_loras(card_of("wan"), (str(make(path, 6)),))) == [3 * one]


def test_of_the_hub_it_is_known_once_it_is_here(hub: LoopbackHub, tmp_path: Path) -> None:
    """Until then it is taken to be a large one; nobody is asked."""
    local = make(tmp_path / "a.safetensors")
    hub.add_repo("owner/name", {"a.safetensors": local.read_bytes()})
    card, text = card_of("wan"), "owner/name:0.5"
    values = card.parts["transformer"].sizes["bfloat16"] // 2
    assert counted(with_loras(card, (text,))) == [round(values * 2 * UNKNOWN_RANK / 1536)]
    assert not hub.log
    find_loras((text,))
    before = len(hub.log)
    assert counted(with_loras(card, (text,))) == counted(with_loras(card, (str(local),)))
    assert len(hub.log) == before


@pytest.mark.parametrize("engine", [name for name, card in cards().items() if card.parts])
def test_an_unknown_one_is_counted_large(engine: str, tmp_path: Path) -> None:
    """As large as a broken file: between 5 and 25 % of the denoiser."""
    (tmp_path / "a.safetensors").write_bytes(b"no tensors")
    card = find_card(engine)
    found = with_loras(card, ("owner/nowhere",))
    assert counted(found) == counted(with_loras(card, (str(tmp_path / "a.safetensors"),)))
    for values, part in zip(counted(found), card.parts.values(), strict=False):
        assert 0.04 < values * 2 / part.sizes["bfloat16"] < 0.25
