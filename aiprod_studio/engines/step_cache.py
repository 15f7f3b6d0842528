"""Step caches: blocks of a denoiser left out at steps where they would repeat themselves.

They change the result, unless their threshold is 0, so no plan has one that nobody asked for. A
run that goes on from a point begins with an empty cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers.hooks import FirstBlockCacheConfig, HookRegistry, MagCacheConfig
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.hooks.mag_cache import _MAG_CACHE_LEADER_BLOCK_HOOK, nearest_interp
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformerBlock
from torch import Tensor, nn

from aiprod_studio.engines.blocks import blocks_of
from aiprod_studio.engines.step_ratios import Turn, find_ratios, measuring
from aiprod_studio.types import read_cache


class _TwoStreams(TransformerBlockMetadata):  # type: ignore[misc]
    """Where a block that carries sound beside the picture takes and returns the two."""

    def _get_parameter_from_args_kwargs(
        self, identifier: str, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Return an argument of the block; its second stream is the sound, not the text."""
        name = "audio_hidden_states" if identifier == "encoder_hidden_states" else identifier
        return super()._get_parameter_from_args_kwargs(name, args, kwargs)


@contextmanager
def step_cache(
    network: Any, wish: str, steps: range, folder: Path, ratios: Sequence[float] = ()
) -> Iterator[Turn]:
    """Keep a step cache on a denoiser while the `with` lasts; an empty `wish` is none.

    Each run of the denoiser goes inside of what this yields, called with the name of its guide.
    `wish` is "first-block" (ParaAttention) or "mag" (Ma et al., MagCache, 2025), with ":" and a
    threshold where the usual one does not suit; "mag" needs the model's own `ratios` of one step's
    change to the last's. Where there are none, this run only measures them, for the next one of the
    weights in `folder`. `steps` are those to come. Raises `BadRequest` for another wish.
    """
    if not wish or not steps:
        yield lambda guide: nullcontext()
        return
    name, threshold = read_cache(wish)
    known: Sequence[float] = ()
    if name == "mag":
        known = _resample(ratios, steps) if ratios else find_ratios(folder, steps)
        if not known:
            with measuring(network, folder, steps) as turn:
                yield turn
            return
    blocks = blocks_of(network)
    two = isinstance(blocks[0], LTX2VideoTransformerBlock)
    if two:
        places = _TwoStreams(return_hidden_states_index=0, return_encoder_hidden_states_index=1)
        TransformerBlockRegistry.register(LTX2VideoTransformerBlock, places)
    if name == "first-block":
        network.enable_cache(FirstBlockCacheConfig(threshold))
    else:
        network.enable_cache(
            MagCacheConfig(threshold, num_inference_steps=len(steps), mag_ratios=list(known))
        )
    handles = _carry_sound(blocks) if two and name == "mag" else ()
    try:
        yield network.cache_context
    finally:
        for handle in handles:
            handle.remove()
        network.disable_cache()
        # These refer to their networks, which would outlive their use until Python looks for rings.
        for module in network.modules():
            vars(module).pop("_diffusers_hook", None)


def _resample(ratios: Sequence[float], steps: range) -> list[float]:
    """Return a model's own ratios for the steps to come of `steps.stop` in all."""
    found: list[float] = nearest_interp(torch.tensor(ratios), steps.stop)[steps.start :].tolist()
    return found


def _carry_sound(blocks: list[nn.Module]) -> tuple[Any, ...]:
    """Give the sound its share of steps that "mag" leaves out, which only knows the picture."""
    registry = HookRegistry.check_if_exists_or_initialize(blocks[0])
    memory = registry.get_hook(_MAG_CACHE_LEADER_BLOCK_HOOK).state_manager

    def enter(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        memory.get_state().sound = kwargs["audio_hidden_states"]

    def leave(
        block: nn.Module, args: tuple[Any, ...], output: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        state, (picture, sound) = memory.get_state(), output
        if state.should_compute:
            state.sound_change = sound - state.sound
            return output
        return picture, sound + state.sound_change

    return (
        blocks[0].register_forward_pre_hook(enter, with_kwargs=True),
        blocks[-1].register_forward_hook(leave),
    )
