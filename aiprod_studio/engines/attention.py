"""Attention kernels, set for one model or one stretch of work and never for the whole process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aiprod_studio.hardware.memory import SLICED_QUERIES


def set_native(network: nn.Module) -> None:
    """Make a model of diffusers use torch's own kernel, whatever the process was told.

    The library's own switch would change the default of every other model too.
    """
    from diffusers.models.attention_dispatch import AttentionBackendName

    for module in network.modules():
        processor: Any = getattr(module, "processor", None)
        if hasattr(processor, "_attention_backend"):
            processor._attention_backend = AttentionBackendName.NATIVE


class SlicedAttention(TorchFunctionMode):
    """While it lasts, attention runs 1,024 queries at a time, so that fewer scores are kept."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one of torch's functions, attention in slices."""
        given = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and not given.get("is_causal"):
            names = ("query", "key", "value", "attn_mask")
            given |= dict(zip(names, args, strict=False))
            if len(args) <= len(names) and given["query"].shape[-2] > SLICED_QUERIES:
                return _attend_in_slices(**given)
        return func(*args, **(kwargs or {}))


def _attend_in_slices(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **rest: Any
) -> Tensor:
    """Return the attention of `query` `[…, L, D]` to all keys, computed in slices of L."""
    parts = []
    for start in range(0, query.shape[-2], SLICED_QUERIES):
        rows = slice(start, start + SLICED_QUERIES)
        mask = attn_mask
        if mask is not None and mask.shape[-2] > 1:
            mask = mask[..., rows, :]
        piece = query[..., rows, :]
        parts.append(F.scaled_dot_product_attention(piece, key, value, mask, **rest))
    return torch.cat(parts, dim=-2)
