"""The parts of a model in diffusers' layout, loaded one at a time and placed as a plan says.

    with open_components(folder, plan) as components:
        tokenizer = components.plain("tokenizer")
        with components.use("text_encoder") as encoder:    # on the device while the `with` lasts
            features = encoder(ids).last_hidden_state
        channels = components.config("transformer")["in_channels"]

A part's place is that of its stage (`hardware.memory.stage_of`) in `plan.placement`:

    resident  it comes to the device when it is first used and stays
    model     it comes as a whole and leaves again
    group     what is outside of its blocks comes as a whole, each block for its own work
    disk      as group; blocks are read from their files, never held in RAM

Weights are mapped from their files, so that RAM holds no copy of them that the system cannot drop,
unless their precision must change. What is quantised, or changed and then read block by block, is
written once to files of its own in the studio's data folder and mapped from there.
Attention is set on each processor of a model alone; `sliced` holds while a part is in use.
LoRAs are added to the denoisers that are used within `adding`, and leave with its end.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from aiprod_studio.engines.attention import SlicedAttention, set_native
from aiprod_studio.engines.blocks import blocks_of, holding, streaming
from aiprod_studio.engines.converted import convert
from aiprod_studio.engines.engine import empty_cache
from aiprod_studio.engines.gguf import find_gguf, load_gguf
from aiprod_studio.engines.lora_layers import added, check, linear_layers
from aiprod_studio.engines.loras import DENOISERS, Lora, OnBytes, find_loras, is_for
from aiprod_studio.errors import ModelUnavailable
from aiprod_studio.hardware.memory import stage_of
from aiprod_studio.types import Plan

# Gives the folder of an engine's weights for a task.
FindFolder = Callable[[str], Path]

STREAMED = ("group", "disk")


@contextmanager
def open_components(folder: Path, plan: Plan, gguf: Path | None = None) -> Iterator[Components]:
    """Hold the components of a folder with a `model_index.json` while the `with` lasts.

    `gguf` is the folder of the GGUF file with the denoiser's weights, where the other has none.
    Nothing is loaded before its first use. Raises `ModelUnavailable` when the folder has no index.
    """
    components = Components(folder, plan, gguf)
    try:
        yield components
    finally:
        components.close()


class Components:
    """The components of one folder, each loaded when it is first used."""

    def __init__(self, folder: Path, plan: Plan, gguf: Path | None = None) -> None:
        self.folder = folder
        self.plan = plan
        self.gguf = gguf
        self.device = torch.device(plan.device)
        self.dtype: torch.dtype = getattr(torch, plan.precision)
        self.index = _read_json(folder / "model_index.json")
        self._kept: dict[str, nn.Module] = {}
        self._alive: WeakValueDictionary[str, nn.Module] = WeakValueDictionary()
        self._residence = ExitStack()
        self._loras: tuple[Lora, ...] = ()

    def close(self) -> None:
        """Let go of everything that is loaded."""
        self._residence.close()
        self._kept.clear()
        empty_cache(self.plan.device)

    @property
    def loaded(self) -> set[str]:
        """The names of the networks whose weights are in memory."""
        return set(self._alive)

    def has(self, name: str) -> bool:
        """Say whether the model has a component of that name."""
        entry = self.index.get(name)
        return isinstance(entry, list) and entry[0] is not None

    def config(self, name: str) -> dict[str, Any]:
        """Return a network's configuration, without loading the network."""
        return _read_json(self.folder / name / "config.json")

    def plain(self, name: str) -> Any:
        """Return a component without weights, made anew: a tokenizer, a scheduler, a processor."""
        with self._explained(name):
            return self._class(name).from_pretrained(
                self.folder, subfolder=name, local_files_only=True
            )

    @contextmanager
    def use(self, name: str) -> Iterator[Any]:
        """Hold a network on the device, as far as its place allows, while the `with` lasts."""
        network = self._kept.get(name)
        if network is None:
            network = self._alive[name] = self._load(name)
            # Where device and RAM are one pool, a copy in RAM would be a second one.
            if self._place(name) == "resident" or self.device.type == "cuda":
                self._kept[name] = network
        try:
            with ExitStack() as stack:
                resident = self._place(name) == "resident"
                if resident:
                    self._bring(name, network, stack)
                device = self.device if resident else torch.device("cpu")
                loras = self._of(self._loras, name)
                stack.enter_context(added(network, loras, self.dtype, device))
                # What leaves again takes LoRAs along, block by block where it streams.
                if not resident:
                    self._bring(name, network, stack)
                if self.plan.attention == "sliced":
                    stack.enter_context(SlicedAttention())
                yield network
        finally:
            del network
            if self._place(name) != "resident":
                empty_cache(self.plan.device)

    def find_loras(
        self, texts: tuple[str, ...], on_bytes: OnBytes | None = None
    ) -> tuple[Lora, ...]:
        """Return the LoRAs that texts name, those of the Hub downloaded; loads no weights.

        Raises `BadRequest` where one does not fit the denoiser that it is for.
        """
        found = find_loras(texts, on_bytes)
        for name in DENOISERS if found else ():
            if self.has(name):
                with torch.device("meta"):
                    outline = self._class(name).from_config(self.config(name))
                for lora in self._of(found, name):
                    check(lora, linear_layers(outline))
        return found

    @contextmanager
    def adding(self, texts: tuple[str, ...]) -> Iterator[None]:
        """Add LoRAs to the denoisers used while the `with` lasts; raises as `find_loras`."""
        self._loras = self.find_loras(texts)
        try:
            yield
        finally:
            self._loras = ()

    def _of(self, loras: tuple[Lora, ...], name: str) -> list[Lora]:
        """Return those of some LoRAs that are for a network."""
        if name not in DENOISERS:
            return []
        two = self.has(DENOISERS[1])
        return [lora for lora in loras if is_for(lora.half, name, two)]

    def _bring(self, name: str, network: nn.Module, stack: ExitStack) -> None:
        """Bring a network to its place, until `stack` ends or, if it is resident, until `close`."""
        if self._place(name) in STREAMED:
            pinned = self.plan.pinned and stage_of(name) == "denoise"
            stack.enter_context(streaming(network, self.device, pinned))
        elif self._place(name) == "model":
            stack.enter_context(holding([network], self.device))
        elif next(network.parameters()).device.type != self.device.type:
            self._residence.enter_context(holding([network], self.device))

    def _place(self, name: str) -> str:
        """Return where a network's weights live; decoders are never streamed."""
        stage = stage_of(name)
        place = self.plan.placement.get(stage, "resident")
        return "model" if stage == "decode" and place in STREAMED else place

    # Weights that are made in inference mode could not be moved outside of it.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _load(self, name: str) -> nn.Module:
        """Return a network, its weights on the device where it is resident, else mapped in RAM."""
        network = self._read(name).requires_grad_(False).eval()
        set_native(network)
        if self.plan.compiled and stage_of(name) == "denoise":
            for block in blocks_of(network):
                block.forward = torch.compile(block.forward)
        return network

    def _read(self, name: str) -> nn.Module:
        """Return a network with the weights of its files, in the form that the plan wants."""
        kind = self._class(name)
        if self.gguf is not None and name in DENOISERS:
            return load_gguf(kind, find_gguf(self.gguf), self.folder / name, self.dtype)
        quantisation = "" if stage_of(name) == "decode" else self.plan.quantisation
        with self._explained(name):
            stored = _stored_dtype(self.folder / name)
        converted = quantisation or (self._place(name) == "disk" and stored != self.dtype)
        options: dict[str, Any] = {"dtype": stored if converted else self.dtype}
        if self._place(name) == "resident" and not converted and self.device.type != "cpu":
            options["device_map"] = {"": self.device}
        with self._explained(name):
            network: nn.Module = kind.from_pretrained(
                self.folder, subfolder=name, use_safetensors=True, local_files_only=True, **options
            )
        if converted:
            with self._explained(name):
                convert(network, self.folder / name, self.dtype, quantisation, self.device)
        return network

    def _class(self, name: str) -> Any:
        """Return the class that the index names, of diffusers or transformers."""
        if not self.has(name):
            raise ModelUnavailable(f"{self.folder} has no {name}. Choose another engine.")
        library, kind = self.index[name]
        quiet()
        if library not in ("diffusers", "transformers"):
            library = f"diffusers.pipelines.{library}"
        try:
            return getattr(importlib.import_module(library), kind)
        except (ImportError, AttributeError) as error:
            raise ModelUnavailable(
                f"The model needs {kind} of {library}, which is not installed. Update the studio, "
                "or choose another engine."
            ) from error

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Turn what the libraries raise for missing or foreign files into `ModelUnavailable`."""
        try:
            yield
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelUnavailable(
                f"The {name} in {self.folder} cannot be loaded ({error}). Check the files with "
                "'aiprod-studio models verify' and repair them."
            ) from error


def quiet() -> None:
    """Import the libraries, and keep their progress bars and advice to themselves; errors stay."""
    # What they say when they are imported: of kernels for other devices, and of their own future.
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def _read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file's table; raises `ModelUnavailable`."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{path} cannot be read ({error}). Check the files with 'aiprod-studio models verify'."
        ) from error
    return table if isinstance(table, dict) else {}


def _stored_dtype(folder: Path) -> torch.dtype:
    """Return the dtype of the largest tensor in a folder's first file of weights."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelUnavailable(
            f"{folder} has no weights. Download the model again: 'aiprod-studio models --help'."
        )
    with safe_open(files[0], "pt") as file:
        sizes = {}
        for name in file.keys():  # noqa: SIM118
            piece = file.get_slice(name)
            sizes[name] = torch.Size(piece.get_shape()).numel()
        dtype: torch.dtype = file.get_tensor(max(sizes, key=lambda name: sizes[name])).dtype
    return dtype
