"""Generation: text, and if given pictures and a reference, to a clip with sound."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from aiprod_studio.engines.engine import (
    Chunks,
    Enlarging,
    Frames,
    Given,
    Latents,
    OnStep,
    Parts,
    Pictures,
    Referring,
    Refining,
    Resumable,
    Sound,
    Text,
)
from aiprod_studio.engines.loras import TakesLoras
from aiprod_studio.errors import MediaError
from aiprod_studio.graph.extend import append, read_end
from aiprod_studio.graph.graph import Graph, Step
from aiprod_studio.graph.stream import ahead
from aiprod_studio.graph.trail import Trail
from aiprod_studio.hardware.canvas import first_stage
from aiprod_studio.hardware.memory import count_passes
from aiprod_studio.media.clip import Reel
from aiprod_studio.media.images import fit, read_image, resize
from aiprod_studio.media.video import read_frames
from aiprod_studio.sampling.solvers import Point
from aiprod_studio.types import ModelCard, Plan, Progress, Request, rendered_fps

OnProgress = Callable[[Progress], None]
Run = Callable[[OnStep, Point | None], Latents]


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

    @cached_property
    def first(self) -> Plan:
        """The plan of the first stage, which for most clips is the only one."""
        return first_stage(self.plan)

    @property
    def canvas(self) -> tuple[Any, ...]:
        """What the first stage's latents of a picture depend on besides it."""
        plan = self.first
        return (*self.network, plan.width, plan.height, plan.frames, self.fps)

    @property
    def large(self) -> tuple[Any, ...]:
        """What the second stage's latents of a picture depend on besides it."""
        return (*self.canvas, self.plan.width, self.plan.height)

    @property
    def asked(self) -> tuple[Any, ...]:
        """What denoising depends on besides the canvas, prompt and picture."""
        request = self.request
        asked = request.seed, request.steps, request.guidance, request.audio, self.loras
        # Clips that were begun before there were step caches are found as they were kept.
        return asked if request.cache is None else (*asked, request.cache)

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
    def pictures(self) -> tuple[Any, ...]:
        """Hashes of the files of the first and the last picture, "" for none; `MediaError`.

        Where there is a reference, its own, and the LoRAs, which say how it is read.
        """
        request = self.request
        both = _hash_file(request.image or request.extend), _hash_file(request.last_image)
        if request.reference is None:
            return both
        return *both, _hash_file(request.reference), self.loras

    @cached_property
    def mark(self) -> str:
        """What the trail keeps this clip's latents under."""
        return _hash(self.canvas, self.asked, self.request.prompt, self.pictures)

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
        """Return the steps to what is worth keeping: encode, denoise, refine, and the sound.

        Raises `ModelUnavailable` where the network of a second stage is missing, so that nothing
        is rendered in vain.
        """
        given = (*self.canvas, self.pictures)
        nothing = Step("nothing", self.encode_nothing, (), self.network)
        if count_passes(self.request) == 1:  # nobody reads it, and its encoder may be large
            nothing = Step("nothing", self.repeat, ("prompt",))
        needs, facts = ("prompt", "nothing", "given"), (*self.canvas, *self.asked)
        second = self._second_stage()
        return Graph(
            (
                Step("prompt", self.encode_prompt, (), (*self.network, self.request.prompt)),
                nothing,
                Step("given", self.encode_pictures, (), given),
                Step("latents", self.denoise, needs, facts),
                *second,
                Step("sound", self.decode_audio, (self.finished,)),
            )
        )

    @property
    def finished(self) -> str:
        """The step whose latents are decoded."""
        return "latents" if self.plan.stages == 1 else "refined"

    @contextmanager
    def reel(self, kept: dict[str, Any]) -> Iterator[Reel]:
        """Run the steps, and hold the finished file's frames and sound while the `with` lasts.

        A thread of its own decodes the frames while those before are used; it ends with the
        `with`. `kept` is as in `Graph.run`.
        """
        graph = self.graph()
        latents: Latents = graph.run(kept, until=self.finished)
        self.tell(Progress("decode", 0, self.plan.frames))
        sound: Sound | None = graph.run(kept)
        with closing(ahead(self.decode_video(latents))) as chunks:
            reel = Reel(chunks, self.plan.frames, self.fps, sound, self.card.sample_rate)
            if self.request.extend is not None:
                assert self.request.fps is not None
                reel = append(Path(self.request.extend), reel, self.size, self.request.fps)
            yield dataclasses.replace(reel, chunks=self._watch(reel))

    def _watch(self, reel: Reel) -> Iterator[Frames]:
        """Yield the chunks of a reel and tell how many of its frames were used."""
        done = 0
        for chunk in reel.chunks:
            yield chunk
            done += len(chunk)
            self.tell(Progress("decode", done, reel.count))
        self.tell(Progress("save", 0, 1))

    def _second_stage(self) -> tuple[Step, ...]:
        """Return the steps of the second stage, none for a clip of one."""
        if self.plan.stages == 1:
            return ()
        self._refining.find_upscaler()
        needs = ("larger", "prompt", "nothing", "larger_given")
        return (
            Step("larger", self.upsample, ("latents",), self.large),
            Step("larger_given", self.encode_larger, (), (*self.large, self.pictures)),
            Step("refined", self.refine, needs, self.asked),
        )

    @property
    def _refining(self) -> Refining:
        assert isinstance(self.parts, Refining)
        return self.parts

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
        """Return what the denoiser reads of the first and the last picture, and the reference."""
        return self._encode_pictures(self.first)

    def encode_larger(self) -> Given:
        """Return what the second stage reads of them."""
        return self._encode_pictures(self.plan)

    def _encode_pictures(self, plan: Plan) -> Given:
        request, first, last = self.request, None, None
        if request.image is not None:
            first = fit(read_image(Path(request.image)), plan.width, plan.height)
        elif request.extend is not None:
            first = fit(read_end(Path(request.extend)), plan.width, plan.height)
        if request.last_image is not None:
            last = fit(read_image(Path(request.last_image)), plan.width, plan.height)
        given: Given = {}
        if first is not None or last is not None:
            given = self.parts.encode_media(Pictures(first, last), plan)
        if request.reference is None:
            return given
        assert isinstance(self.parts, Referring)
        frames = read_frames(Path(request.reference), self.fps)
        return given | self.parts.encode_reference(frames, request, plan)

    def denoise(self, text: Text, nothing: Text, given: Given) -> Latents:
        """Return the clip's latents, those that the trail has or made on from its point."""
        parts, asked = self.parts, (text, nothing, given, self.rendered, self.first)

        def run(on_step: OnStep, start: Point | None) -> Latents:
            if isinstance(parts, Resumable):
                return parts.denoise(*asked, on_step, on_point=self.pass_point, start=start)
            return parts.denoise(*asked, on_step)

        assert self.request.steps is not None
        return self._follow("denoise", self.request.steps, self.trail, self.mark, run)

    def upsample(self, latents: Latents) -> Latents:
        """Return latents of twice the sides."""
        self.tell(Progress("refine", 0, self.card.refine_steps))
        return self._refining.upsample(latents, self.plan)

    def refine(self, latents: Latents, text: Text, nothing: Text, given: Given) -> Latents:
        """Return doubled latents denoised again: the trail's, or made on from its point."""
        asked = (latents, text, nothing, given, self.rendered, self.plan)
        mark, trail = _hash(self.mark, self.large), self.trail.second

        def pass_point(point: Point) -> None:
            picture = partial(self._refining.preview, point, self.rendered, self.plan)
            trail.pass_point(mark, point, picture)

        def run(on_step: OnStep, start: Point | None) -> Latents:
            return self._refining.refine(*asked, on_step, on_point=pass_point, start=start)

        return self._follow("refine", self.card.refine_steps, trail, mark, run)

    def _follow(self, stage: str, steps: int, trail: Trail, mark: str, run: Run) -> Latents:
        """Return a stage's latents: those that a trail has under `mark`, or what `run` makes."""

        def on_step(done: int, total: int) -> None:
            self.tell(Progress(stage, done, total))

        found, device = trail.find(mark), self.plan.device
        if isinstance(found, Latents):
            on_step(steps, steps)
            audio = None if found.audio is None else found.audio.to(device)
            more = {name: tensor.to(device) for name, tensor in found.more.items()}
            return Latents(found.video.to(device), audio, more)
        on_step(found.done if found else 0, steps)
        latents = run(on_step, found)
        trail.end(mark, latents)
        return latents

    def pass_point(self, point: Point) -> None:
        """Leave a point of the denoiser, and perhaps a picture of it, in the trail."""
        assert isinstance(self.parts, Resumable)
        picture = partial(self.parts.preview, point, self.rendered, self.first)
        self.trail.pass_point(self.mark, point, picture)

    def decode_video(self, latents: Latents) -> Chunks:
        """Yield the frames in the size of the finished file, chunks `[t, H, W, 3]`."""
        with closing(self.parts.decode_video(latents, self.plan)) as chunks:
            yield from map(self.enlarge, chunks)

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


def _hash(*facts: Any) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _hash_file(file: str | None) -> str:
    """Return a hash of a picture's or clip's file, "" for none; raises `MediaError`."""
    if file is None:
        return ""
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        raise MediaError(
            f"The picture or clip {file} cannot be read ({error.strerror}). "
            "Put it back, or choose another one."
        ) from error
