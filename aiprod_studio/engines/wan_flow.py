"""Wan's denoisers over clips of one shape: what they read, and which of two has its turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from aiprod_studio.engines.engine import Given, Text
from aiprod_studio.engines.step_cache import step_cache
from aiprod_studio.engines.step_ratios import Turn
from aiprod_studio.engines.weights import Components

# The times that schedulers count from noise to picture, for which `boundary_ratio` is a share.
TRAIN_TIMES = 1000


class Flow:
    """The velocity at any point of the way from noise to clips, by a step cache or none ("").

    A second denoiser, where there is one, has the times below the model's `boundary_ratio`.
    """

    def __init__(
        self,
        components: Components,
        texts: Sequence[Text],
        nothing: Text,
        given: Sequence[Given],
        cache: str,
    ) -> None:
        self._components = components
        self._cache = cache
        self._expert: tuple[str, Any, Turn] | None = None
        self._memory = ExitStack()
        self._scales = (1.0, 1.0)
        self._step = self._stop = 0

        def join(rows: Sequence[Tensor]) -> Tensor:
            return torch.cat([row.to(components.device) for row in rows])

        self._told = join([text.features for text in texts])
        self._untold = join([nothing.features] * len(texts))
        self._first = join([one["first"] for one in given]) if "first" in given[0] else None
        self._beside = join([one["beside"] for one in given]) if "beside" in given[0] else None

    @contextmanager
    def guided(self, first: float, second: float, steps: range) -> Iterator[None]:
        """Hold the denoiser that has its turn while the `with` lasts, and guide both that much.

        `steps` are those to come.
        """
        self._scales = (first, second if first > 1 else first)
        self._step, self._stop = steps.start, steps.stop
        with self._memory:
            yield

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity at latents `x` `[B, C, T, h, w]`, in two passes where guided.

        Each call is one of the steps.
        """
        ratio = self._components.index.get("boundary_ratio")
        second = ratio is not None and bool(t < ratio * TRAIN_TIMES)
        self._take_turn("transformer_2" if second else "transformer")
        inward = self.keep_first(x)
        if self._beside is not None:
            inward = torch.cat([inward, self._beside], dim=1)
        times = self._times(x, t)
        told = self._run("cond", inward, times, self._told)
        scale = self._scales[second]
        self._step += 1
        if scale <= 1:
            return told
        untold = self._run("uncond", inward, times, self._untold)
        return untold + scale * (told - untold)

    def keep_first(self, x: Tensor) -> Tensor:
        """Return latents with the first picture's in the place of the first."""
        return x if self._first is None else torch.cat([self._first, x[:, :, 1:]], dim=2)

    def _take_turn(self, name: str) -> None:
        """Have a denoiser at hand; the other one leaves first."""
        if self._expert is None or self._expert[0] != name:
            self._expert = None
            self._memory.close()
            network = self._memory.enter_context(self._components.use(name))
            steps = range(self._step, self._stop)
            folder = self._components.folder / name
            cache = step_cache(network, self._cache, steps, folder)
            self._expert = name, network, self._memory.enter_context(cache)
            # It is forgotten before it leaves, so that nothing keeps it in memory.
            self._memory.callback(self._forget)

    def _forget(self) -> None:
        self._expert = None

    def _run(self, name: str, inward: Tensor, times: Tensor, features: Tensor) -> Tensor:
        """Return one evaluation; step caches keep those of each name apart."""
        assert self._expert is not None
        _, network, turn = self._expert
        dtype = self._components.dtype
        with turn(name):
            velocity: Tensor = network(
                hidden_states=inward.to(dtype),
                timestep=times,
                encoder_hidden_states=features.to(dtype),
                return_dict=False,
            )[0]
        return velocity

    def _times(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the time of each clip `[B]`, or of each token `[B, n]`, 0 for what is given."""
        B, _, T, H, W = x.shape
        if not self._components.index.get("expand_timesteps"):
            return t.expand(B)
        times = t.expand(B, T, H // 2 * (W // 2)).clone()
        if self._first is not None:
            times[:, 0] = 0
        return times.flatten(1)
