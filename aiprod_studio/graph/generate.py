"""Generation: text, and if given a first picture, to a clip with sound."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from aiprod_studio.engines.engine import (
    Enlarging,
    Frames,
    Given,
    Latents,
    Parts,
    Pictures,
    Resumable,
    Sound,
    Text,
)
from aiprod_studio.engines.loras import TakesLoras
from aiprod_studio.errors import MediaError
from aiprod_studio.graph.extend import append, read_end
from aiprod_studio.graph.graph import Graph, Step
from aiprod_studio.graph.trail import Trail
from aiprod_studio.hardware.memory import count_passes
from aiprod_studio.media.clip import Clip
from aiprod_studio.media.images import fit, read_image, resize
from aiprod_studio.sampling.solvers import Point
from aiprod_studio.types import ModelCard, Plan, Progress, Request, rendered_fps

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Work:
    """What the steps of one clip do, each method the work of one step.

    The request is complete. Latents are left in the trail as they come, and are used when it has
    them already: those that were begun by weights at another place, or in more bits, too.
    """

    request: Request
    card: ModelCard
    plan: Plan
    parts: Parts
    tell: OnProgress
    trail: Trail = field(default_factory=Trail)

    @property
    def network(self) -> tuple[Any, ...]:
        """What the features of a prompt depend on besides it."""
        return self.card.id, self.plan.device, self.plan.precision

    @property
    def canvas(self) -> tuple[Any, ...]:
        """What the latents of a picture depend on besides it."""
        plan = self.plan
        return (*self.network, plan.width, plan.height, plan.frames, self.fps)

    @property
    def asked(self) -> tuple[Any, ...]:
        """What denoising depends on besides the canvas, prompt and picture."""
        request = self.request
        return request.seed, request.steps, request.guidance, request.audio, self.loras

    @cached_property
    def loras(self) -> tuple[Any, ...]:
        """What the LoRAs add, those of the Hub downloaded; `BadRequest` for one that cannot fit."""
        if not isinstance(self.parts, TakesLoras):
            return ()

        def on_bytes(done: int, total: int) -> None:
            self.tell(Progress("load", done, total))

        found = self.parts.find_loras(self.request.loras, on_bytes)
        return tuple(lora.facts for lora in found if lora.weight)

    @cached_property
    def picture(self) -> str:
        """A hash of the file that gives the first picture, "" for none; `MediaError`."""
        file = self.request.image or self.request.extend
        if file is None:
            return ""
        try:
            return hashlib.sha256(Path(file).read_bytes()).hexdigest()
        except OSError as error:
            raise MediaError(
                f"The first picture, {file}, cannot be read ({error.strerror}). "
                "Put it back, or choose another one."
            ) from error

    @cached_property
    def mark(self) -> str:
        """What the trail keeps this clip's latents under."""
        facts = (self.canvas, self.asked, self.request.prompt, self.picture)
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the finished file."""
        assert self.request.width is not None
        assert self.request.height is not None
        return self.request.width, self.request.height

    @property
    def fps(self) -> float:
        """Frames a second that are rendered; a clip to go on from may have others."""
        return rendered_fps(self.request, self.card)

    @property
    def rendered(self) -> Request:
        """The request as the model gets it."""
        return dataclasses.replace(self.request, fps=self.fps)

    def graph(self) -> Graph:
        """Return the steps of the clip: encode, denoise, decode, enlarge, join, put behind."""
        decoder = (self.plan.tiling, self.plan.tile, self.plan.overlap, self.plan.chunk)
        given = (*self.canvas, self.picture)
        nothing = Step("nothing", self.encode_nothing, (), self.network)
        if count_passes(self.request) == 1:  # nobody reads it, and its encoder may be large
            nothing = Step("nothing", self.repeat, ("prompt",))
        return Graph(
            (
                Step("prompt", self.encode_prompt, (), (*self.network, self.request.prompt)),
                nothing,
                Step("given", self.encode_pictures, (), given),
                Step(
                    "latents",
                    self.denoise,
                    ("prompt", "nothing", "given"),
                    (*self.canvas, *self.asked),
                ),
                Step("frames", self.decode_video, ("latents",), decoder),
                Step("sound", self.decode_audio, ("latents",)),
                Step("enlarged", self.enlarge, ("frames",), self.size),
                Step("clip", self.join, ("enlarged", "sound")),
                Step("whole", self.put_behind, ("clip",), (self.request.fps, self.picture)),
            )
        )

    def encode_prompt(self) -> Text:
        """Return the features of the prompt."""
        self.tell(Progress("encode", 0, 1))
        return self.parts.encode_text(self.request.prompt)

    def encode_nothing(self) -> Text:
        """Return the features of no prompt, which guidance pushes away from."""
        return self.parts.encode_text("")

    def repeat(self, text: Text) -> Text:
        """Return the features of the prompt again."""
        return text

    def encode_pictures(self) -> Given:
        """Return what the denoiser reads of the first picture."""
        if self.request.image is not None:
            picture = read_image(Path(self.request.image))
        elif self.request.extend is not None:
            picture = read_end(Path(self.request.extend))
        else:
            return {}
        first = fit(picture, self.plan.width, self.plan.height)
        return self.parts.encode_media(Pictures(first=first), self.plan)

    def denoise(self, text: Text, nothing: Text, given: Given) -> Latents:
        """Return the clip's latents, those that the trail has or made on from its point."""

        def on_step(done: int, total: int) -> None:
            self.tell(Progress("denoise", done, total))

        parts, asked = self.parts, (text, nothing, given, self.rendered, self.plan, on_step)
        found = self.trail.find(self.mark)
        if isinstance(found, Latents):
            return self._use(found)
        assert self.request.steps is not None
        on_step(found.done if found else 0, self.request.steps)
        if isinstance(parts, Resumable):
            latents = parts.denoise(*asked, on_point=self.pass_point, start=found)
        else:
            latents = parts.denoise(*asked)
        self.trail.end(self.mark, latents)
        return latents

    def _use(self, kept: Latents) -> Latents:
        """Return finished latents on the plan's device."""
        assert self.request.steps is not None
        self.tell(Progress("denoise", self.request.steps, self.request.steps))
        audio = None if kept.audio is None else kept.audio.to(self.plan.device)
        return Latents(kept.video.to(self.plan.device), audio)

    def pass_point(self, point: Point) -> None:
        """Leave a point of the denoiser, and perhaps a picture of it, in the trail."""
        assert isinstance(self.parts, Resumable)
        picture = partial(self.parts.preview, point, self.rendered, self.plan)
        self.trail.pass_point(self.mark, point, picture)

    def decode_video(self, latents: Latents) -> Frames:
        """Return the frames `[T, H, W, 3]` of the canvas."""
        self.tell(Progress("decode", 0, 1))
        return self.parts.decode_video(latents, self.plan)

    def decode_audio(self, latents: Latents) -> Sound | None:
        """Return the sound of the canvas's length, or none."""
        return self.parts.decode_audio(latents, self.plan.frames / self.fps)

    def enlarge(self, frames: Frames) -> Frames:
        """Return the frames in the size of the finished file, twice as large by a network."""
        width, height = self.size
        if (
            isinstance(self.parts, Enlarging)
            and width >= 2 * frames.shape[2]
            and height >= 2 * frames.shape[1]
        ):
            frames = self.parts.enlarge(frames)
        return frames if frames.shape[2:0:-1] == self.size else resize(frames, *self.size)

    def join(self, frames: Frames, sound: Sound | None) -> Clip:
        """Return frames and sound as a clip."""
        return Clip(frames, self.fps, sound, self.card.sample_rate)

    def put_behind(self, clip: Clip) -> Clip:
        """Return the clip as it is, or behind the one that it goes on from."""
        if self.request.extend is None:
            return clip
        assert self.request.fps is not None
        return append(Path(self.request.extend), clip, self.size, self.request.fps)
