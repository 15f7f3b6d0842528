"""Generation: text, and if given a first picture, to a clip with sound."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from aiprod_studio.engines.engine import Frames, Latents, Parts, Sound, Text
from aiprod_studio.graph.graph import Graph, Step
from aiprod_studio.media.clip import Clip
from aiprod_studio.media.images import fit, read_image, resize
from aiprod_studio.types import ModelCard, Plan, Progress, Request

OnProgress = Callable[[Progress], None]


def build_graph(
    request: Request, card: ModelCard, plan: Plan, parts: Parts, tell: OnProgress
) -> Graph:
    """Return the steps of one complete request: encode, denoise, decode, enlarge, join."""
    assert request.width is not None
    assert request.height is not None
    assert request.fps is not None
    size, fps = (request.width, request.height), request.fps
    seconds = plan.frames / fps

    def encode_prompt() -> Text:
        tell(Progress("encode", 0, 1))
        return parts.encode_text(request.prompt)

    def encode_nothing() -> Text:
        return parts.encode_text("")

    def encode_image() -> Tensor | None:
        if request.image is None:
            return None
        picture = fit(read_image(Path(request.image)), plan.width, plan.height)
        return parts.encode_media(picture[np.newaxis])

    def denoise(text: Text, nothing: Text, first: Tensor | None) -> Latents:
        def on_step(done: int, total: int) -> None:
            tell(Progress("denoise", done, total))

        return parts.denoise(text, nothing, first, request, plan, on_step)

    def decode_video(latents: Latents) -> Frames:
        tell(Progress("decode", 0, 1))
        return parts.decode_video(latents, plan)

    def decode_audio(latents: Latents) -> Sound | None:
        return parts.decode_audio(latents, seconds)

    def enlarge(frames: Frames) -> Frames:
        return frames if frames.shape[2:0:-1] == size else resize(frames, *size)

    def join(frames: Frames, sound: Sound | None) -> Clip:
        return Clip(frames, fps, sound, card.sample_rate)

    canvas = (card.id, plan.precision, plan.width, plan.height, plan.frames)
    asked = (request.seed, request.steps, request.guidance, fps, request.audio)
    return Graph(
        (
            Step("prompt", encode_prompt, (), (card.id, plan.precision, request.prompt)),
            Step("nothing", encode_nothing, (), (card.id, plan.precision)),
            Step("first", encode_image, (), (*canvas, _content(request.image))),
            Step("latents", denoise, ("prompt", "nothing", "first"), (*canvas, *asked)),
            Step("frames", decode_video, ("latents",), (plan.tile,)),
            Step("sound", decode_audio, ("latents",), (seconds,)),
            Step("enlarged", enlarge, ("frames",), size),
            Step("clip", join, ("enlarged", "sound"), (fps,)),
        )
    )


def _content(image: str | None) -> str:
    """Return a hash of a picture file's bytes, or "" for none."""
    return hashlib.sha256(Path(image).read_bytes()).hexdigest() if image else ""
