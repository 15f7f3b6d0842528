"""Generation: text, and if given a first picture, to a clip with sound."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiprod_studio.engines.engine import (
    Frames,
    Given,
    Latents,
    Parts,
    Pictures,
    Resumable,
    Sound,
    Text,
)
from aiprod_studio.graph.graph import Graph, Step
from aiprod_studio.graph.trail import Trail
from aiprod_studio.media.clip import Clip
from aiprod_studio.media.images import fit, read_image, resize
from aiprod_studio.sampling.solvers import Point
from aiprod_studio.types import ModelCard, Plan, Progress, Request

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class _Work:
    """What the steps of one clip do, each method the work of one step."""

    request: Request
    card: ModelCard
    plan: Plan
    parts: Parts
    tell: OnProgress
    trail: Trail | None
    mark: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the finished file."""
        assert self.request.width is not None
        assert self.request.height is not None
        return self.request.width, self.request.height

    @property
    def fps(self) -> float:
        """Frames a second of the finished file."""
        assert self.request.fps is not None
        return self.request.fps

    def encode_prompt(self) -> Text:
        self.tell(Progress("encode", 0, 1))
        return self.parts.encode_text(self.request.prompt)

    def encode_nothing(self) -> Text:
        return self.parts.encode_text("")

    def encode_pictures(self) -> Given:
        if self.request.image is None:
            return {}
        picture = fit(read_image(Path(self.request.image)), self.plan.width, self.plan.height)
        return self.parts.encode_media(Pictures(first=picture), self.plan)

    def denoise(self, text: Text, nothing: Text, given: Given) -> Latents:
        def on_step(done: int, total: int) -> None:
            self.tell(Progress("denoise", done, total))

        parts, asked = self.parts, (text, nothing, given, self.request, self.plan, on_step)
        if self.trail is None:
            return parts.denoise(*asked)
        found = self.trail.find(self.mark)
        if isinstance(found, Latents):
            return self.use(found)
        if isinstance(parts, Resumable):
            latents = parts.denoise(*asked, on_point=self.pass_point, start=found)
        else:
            latents = parts.denoise(*asked)
        self.trail.end(self.mark, latents)
        return latents

    def use(self, kept: Latents) -> Latents:
        assert self.request.steps is not None
        self.tell(Progress("denoise", self.request.steps, self.request.steps))
        audio = None if kept.audio is None else kept.audio.to(self.plan.device)
        return Latents(kept.video.to(self.plan.device), audio)

    def pass_point(self, point: Point) -> None:
        assert self.trail is not None
        assert isinstance(self.parts, Resumable)
        picture = partial(self.parts.preview, point, self.request, self.plan)
        self.trail.pass_point(self.mark, point, picture)

    def decode_video(self, latents: Latents) -> Frames:
        self.tell(Progress("decode", 0, 1))
        return self.parts.decode_video(latents, self.plan)

    def decode_audio(self, latents: Latents) -> Sound | None:
        return self.parts.decode_audio(latents, self.plan.frames / self.fps)

    def enlarge(self, frames: Frames) -> Frames:
        return frames if frames.shape[2:0:-1] == self.size else resize(frames, *self.size)

    def join(self, frames: Frames, sound: Sound | None) -> Clip:
        return Clip(frames, self.fps, sound, self.card.sample_rate)


def build_graph(
    request: Request,
    card: ModelCard,
    plan: Plan,
    parts: Parts,
    tell: OnProgress,
    trail: Trail | None = None,
) -> Graph:
    """Return the steps of one complete request: encode, denoise, decode, enlarge, join.

    With a `trail`, latents are kept there as they come and are used when it has them already.
    """
    network = (card.id, plan.device, plan.precision)
    canvas = (*network, plan.width, plan.height, plan.frames, request.fps)
    asked = (request.seed, request.steps, request.guidance, request.audio)
    picture = _content(request.image)
    mark = hashlib.sha256(repr((canvas, asked, request.prompt, picture)).encode()).hexdigest()
    work = _Work(request, card, plan, parts, tell, trail, mark)
    return Graph(
        (
            Step("prompt", work.encode_prompt, (), (*network, request.prompt)),
            Step("nothing", work.encode_nothing, (), network),
            Step("given", work.encode_pictures, (), (*canvas, picture)),
            Step("latents", work.denoise, ("prompt", "nothing", "given"), (*canvas, *asked)),
            Step("frames", work.decode_video, ("latents",), (plan.tile,)),
            Step("sound", work.decode_audio, ("latents",)),
            Step("enlarged", work.enlarge, ("frames",), work.size),
            Step("clip", work.join, ("enlarged", "sound")),
        )
    )


def _content(image: str | None) -> str:
    """Return a hash of a picture file's bytes, or "" for none."""
    return hashlib.sha256(Path(image).read_bytes()).hexdigest() if image else ""
