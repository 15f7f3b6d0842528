"""The nouns that rooms share: what is asked, what a model can do, what will be run."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiprod_studio.errors import BadRequest
from aiprod_studio.sentences import Said

PROMPT_LIMIT = 2000
SIDE_LIMIT = 4096
SECONDS_LIMIT = 600.0
FILES = frozenset({"image", "last_image", "extend", "reference"})
"""The fields of a request that name a file."""
CACHES = {"first-block": 0.05, "mag": 0.06}
"""The step caches, each with the threshold of its authors."""

# The frames that a decoder's neighbouring chunks share, the usual pipelines' own.
SHARED_FRAMES = 8


@dataclass(frozen=True)
class Request:
    """One clip as a person asks for it; `None` means "what the engine finds best".

    Sizes are pixels of the finished file, `seconds` its length, `fps` frames a second,
    `image` a picture that the first frame must show, `last_image` one that the last frame must
    show, `loras` the LoRAs to add to the model, each a file or a repository of the Hub, with ":"
    and a weight where that is not 1. `extend` is a clip that goes on: the finished file is that
    clip and then `seconds` more, in its size and frame rate unless others are asked for. In two
    `stages` a clip is denoised at half the size, doubled and denoised again in a few steps.
    `reference` is a clip or picture that the model sees beside the one that it makes, for LoRAs
    that were trained so (IC-LoRA): of depths, poses, edges, or one to make finer. `cache` is a
    step cache, one of `CACHES`, with ":" and a threshold where the usual one does not suit: work
    that would repeat itself from step to step is left out, which changes the result.
    Raises `BadRequest` when a value can suit no engine at all.
    """

    prompt: str
    engine: str = "starter"
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    fps: float | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    audio: bool = True
    image: str | None = None
    loras: tuple[str, ...] = ()
    extend: str | None = None
    last_image: str | None = None
    stages: int = 1
    reference: str | None = None
    cache: str | None = None

    def __post_init__(self) -> None:
        """Refuse values of a wrong type or out of every engine's range."""
        _check_types(self)
        if not self.prompt.strip():
            raise BadRequest(
                Said(
                    "said.no_prompt",
                    "The prompt is empty. Say in a few words what the clip should show.",
                )
            )
        if len(self.prompt) > PROMPT_LIMIT:
            raise BadRequest(
                Said(
                    "said.long_prompt",
                    "The prompt has {count:,} characters; at most {most:,} are read. Shorten it to "
                    "what one clip can show.",
                    count=len(self.prompt),
                    most=PROMPT_LIMIT,
                )
            )
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise BadRequest(
                    Said(
                        "said.range",
                        "{name} is {value}; give a number from {low} to {high}, or leave it "
                        "out for the engine's own.",
                        name=Said(f"field.{name}", name),
                        value=str(value)[:20],
                        low=low,
                        high=high,
                    )
                )
        if self.image is not None and self.extend is not None:
            raise BadRequest(
                "The clip to extend gives the first picture already. Leave out the image or the "
                "clip."
            )
        if self.cache is not None:
            read_cache(self.cache)

    @property
    def pictured(self) -> bool:
        """Whether a frame is given: by a picture, or by the end of another clip."""
        return any(file is not None for file in (self.image, self.last_image, self.extend))

    def to_json(self) -> dict[str, Any]:
        """Return the request as a plain dictionary that `from_json` reads back."""
        return {**dataclasses.asdict(self), "loras": list(self.loras)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Request:
        """Build a request from a plain dictionary; unknown names raise `BadRequest`."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise BadRequest(
                f"Unknown setting {', '.join(map(repr, unknown))}. "
                f"Known are: {', '.join(sorted(known))}."
            )
        if "prompt" not in values:
            raise BadRequest("The prompt is missing. Add a 'prompt' to every entry.")
        if isinstance(values.get("loras"), list):
            values = {**values, "loras": tuple(values["loras"])}
        return cls(**values)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("width", 16, SIDE_LIMIT),
    ("height", 16, SIDE_LIMIT),
    ("seconds", 0.01, SECONDS_LIMIT),
    ("fps", 1, 120),
    ("seed", 0, 2**63 - 1),
    ("steps", 1, 200),
    ("guidance", 0, 30),
    ("stages", 1, 2),
)


def read_cache(wish: str) -> tuple[str, float]:
    """Return the name and the threshold of the step cache in a request; `BadRequest` for others."""
    name, _, number = wish.partition(":")
    try:
        threshold = float(number) if number else CACHES.get(name, 0.0)
    except ValueError:
        threshold = math.nan
    if name not in CACHES or not 0 <= threshold < math.inf:
        raise BadRequest(
            f"There is no step cache {wish[:40]!r}. Use {' or '.join(CACHES)}, with ':' and a "
            "threshold of 0 or more where the usual one does not suit, or leave it out."
        )
    return name, threshold


def _check_types(request: Request) -> None:
    """Raise `BadRequest` for a field whose value is not of the annotated type, or not finite."""
    for name, hint in typing.get_type_hints(Request).items():
        value = getattr(request, name)
        if typing.get_origin(hint) is tuple:
            if not isinstance(value, tuple) or not all(isinstance(one, str) for one in value):
                raise BadRequest(f"{name} is {value!r}; it must be a list of texts.")
            continue
        allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if float in allowed and type(value) is int:
            continue
        finite = not isinstance(value, float) or math.isfinite(value)
        if type(value) not in allowed or not finite:
            wanted = " or ".join(kind.__name__ for kind in allowed if kind is not type(None))
            raise BadRequest(f"{name} is {value!r}; it must be a {wanted}.")


@dataclass(frozen=True)
class Hardware:
    """This machine: `device` is cuda, mps or cpu; sizes are bytes; `flops` a second are estimated.

    `total_bytes` and `free_bytes` are the device's memory (the RAM on a CPU), `disk_free_bytes`
    the space for outputs, `dtypes` the precisions that run well, weights' too (float8, int8,
    int4), `because` why this device. `half_flops` is the rate of 16-bit matrix products as far as
    a model reaches it, 0 where nobody knows. `disk_rate`, `pageable_rate` and `pinned_rate` are
    bytes a second: what reading a file and copying RAM to the device reach.
    """

    device: str
    name: str
    total_bytes: int
    free_bytes: int
    ram_bytes: int
    ram_free_bytes: int
    cores: int
    disk_free_bytes: int
    dtypes: tuple[str, ...]
    because: str
    flops: float = 1e11
    half_flops: float = 0.0
    # Assumed until measured: a solid-state disk; others report 1 to 3 GB a second for pageable
    # copies and 20 to 50 for pinned ones.
    disk_rate: float = 1e9
    pageable_rate: float = 2e9
    pinned_rate: float = 20e9


@dataclass(frozen=True)
class Part:
    """One network of a model: its bytes in memory by precision, and those of its file.

    It can stream through the device where it has `blocks`, two of them at a time; `outside` is
    the share of the weights that lies outside of them and stays. `loras` are the values that the
    LoRAs of a request add to it while it works.
    """

    sizes: dict[str, int]
    stored: int
    blocks: int = 0
    outside: float = 0.0
    loras: int = 0


@dataclass(frozen=True)
class Memory:
    """What a model keeps alive while it runs; the formulas are in `hardware.memory`.

    Bytes are of 16-bit values unless said otherwise. As it stands here it is the AIPROD v2
    family's, whose `width` of 0 means the square root of `flops_per_token`.
    """

    width: int = 0
    denoise: float = 0.5
    heads: int = 0
    cfg_batch: int = 2
    prompt_tokens: int = 256
    connectors: float = 0.0
    load: float = 0.0
    encode: float = 0.0
    decode: float = 128.0
    decode_pixel: dict[str, float] = field(default_factory=dict)
    decode_whole: float = 0.0
    decode_part: float = 0.0
    decode_least: float = 0.0
    decode_least_in_time: float = 0.0
    sound: float = 0.0
    upscaler: float = 0.0
    overlap: int = 32
    chunks: tuple[int, ...] = ()
    slack: float = 1.0
    reserve: float = 0.0
    pixel_flops: float = 2e5


@dataclass(frozen=True)
class ModelCard:
    """What a model can do and what it costs, as data.

    `pixels` is the area that it was trained on and `areas` the smallest and the largest that it
    renders by itself (none: only the trained one), `frame_step` k the rule "frames = k·n + 1",
    `flops_per_token` the arithmetic of one denoiser evaluation, `part_bytes` weights on disk.
    A model with `parts` can be placed and quantised part by part; one without stays whole.
    `tasks` are what it can make a clip of or with: text, image (its first frame), keyframes (its
    last frame too), lora, reference (a clip beside it), cache (a step cache), upscale (a second
    stage, of `refine_steps`); `others` names, by task, the engines of the catalogue that can do it.
    """

    id: str
    name: str
    licence: str
    size_step: int
    frame_step: int
    frames: tuple[int, int]
    fps: tuple[float, float]
    pixels: int
    default_width: int
    default_height: int
    default_seconds: float
    default_fps: float
    default_steps: int
    default_guidance: float
    sample_rate: int
    part_bytes: dict[str, int]
    flops_per_token: float
    areas: tuple[int, ...] = ()
    parts: dict[str, Part] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    tasks: tuple[str, ...] = ("text", "image")
    refine_steps: int = 0
    others: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Basis:
    """What a plan was made from, so that a cheaper one can be predicted anew.

    `request` is complete; `clips` is how many of its kind the job has.
    """

    hardware: Hardware
    card: ModelCard
    request: Request
    clips: int = 1


@dataclass(frozen=True)
class Plan:
    """What will be run: the denoiser's canvas, its batch, predicted peaks and time, and why.

    `width` and `height` are pixels of the canvas that the networks see, `frames` its length;
    `tile` is the side in pixels of a decoder tile (0: the whole frame at once);
    `peak_bytes` has an entry per stage; `seconds` is predicted for one clip; the sides of the
    canvas are multiples of `size_step` pixels. `precision` is that of the arithmetic,
    `quantisation` that of the weights of denoiser and text encoder where it is another.

    `placement` says per stage where its weights live: resident (on the device all along), model
    (they come as a whole for their stage), group (they stream through in blocks, ahead of use),
    disk (blocks are read from files); `pinned` says that the denoiser streams from pinned RAM.
    `chunk` is the frames that are decoded at once (0: all), `overlap` the pixels that neighbouring
    tiles share, `attention` the kernel (native: torch's own; sliced: the same, 1,024 queries at a
    time), `cache` a step cache as in a request ("": none). `tiling` names the way of decoding: none
    (all at once), uniform (even tiles), content (tiles laid by what the latents show), stream
    (chunks of frames, handed on as they come; tiled too where there is a `tile`).
    `ram_bytes` and `stage_seconds` are per stage. In two `stages` the canvas is that of the second.
    """

    device: str
    precision: str
    width: int
    height: int
    frames: int
    batch: int
    tile: int
    peak_bytes: dict[str, int]
    seconds: float
    because: tuple[str, ...]
    size_step: int = 16
    quantisation: str = ""
    placement: dict[str, str] = field(default_factory=dict)
    pinned: bool = False
    chunk: int = 0
    overlap: int = 0
    attention: str = "native"
    compiled: bool = False
    cache: str = ""
    tiling: str = "none"
    ram_bytes: dict[str, int] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    stages: int = 1
    basis: Basis | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a plain dictionary, without its basis."""
        values = dataclasses.asdict(dataclasses.replace(self, basis=None))
        del values["basis"]
        return values


@dataclass(frozen=True)
class Record:
    """One finished clip: its file, the complete request and the plan that really ran."""

    path: Path
    request: Request
    plan: Plan
    render_seconds: float


def complete(request: Request, card: ModelCard) -> Request:
    """Return `request` with every `None` but the seed and its files filled from `card`.

    A clip that goes on from another may have any size and frame rate: what the model renders is
    fitted to them. One of two stages has twice the sides by default. Raises `BadRequest` when the
    model cannot make that size, length or frame rate, or has no such mode.
    """
    defaults = {
        "width": card.default_width * request.stages,
        "height": card.default_height * request.stages,
        "seconds": card.default_seconds,
        "fps": card.default_fps,
        "steps": card.default_steps,
        "guidance": card.default_guidance,
    }
    missing = {name: value for name, value in defaults.items() if getattr(request, name) is None}
    full = dataclasses.replace(request, **missing)  # type: ignore[arg-type]
    _check_tasks(full, card)
    for name in ("width", "height"):
        side = getattr(full, name)
        if side % card.size_step and not full.extend:
            nearest = max(card.size_step, round(side / card.size_step) * card.size_step)
            raise BadRequest(
                Said(
                    "said.side",
                    "{name} is {side}; {engine} renders multiples of {step} pixels. Use {nearest}.",
                    name=Said(f"field.{name}", name),
                    side=side,
                    engine=card.name,
                    step=card.size_step,
                    nearest=nearest,
                )
            )
    assert full.fps is not None
    if full.fps != rendered_fps(full, card) and not full.extend:
        low, high = card.fps
        raise BadRequest(
            Said(
                "said.fps",
                "fps is {fps:g}; {engine} renders {rates} frames a second. Use {usual:g}.",
                fps=full.fps,
                engine=card.name,
                rates=f"{low:g}–{high:g}" if low < high else f"{low:g}",
                usual=card.default_fps,
            )
        )
    frames = frame_count(full, card)
    if frames > card.frames[1]:
        fps = rendered_fps(full, card)
        longest = card.frames[1] / fps
        raise BadRequest(
            Said(
                "said.frames",
                "{seconds:g} s at {fps:g} fps are {frames} frames; {engine} renders at most "
                "{most}. Use --seconds {longest:.3g} or fewer frames a second.",
                seconds=full.seconds,
                fps=fps,
                frames=frames,
                engine=card.name,
                most=card.frames[1],
                longest=longest,
            )
        )
    return full


def _check_tasks(full: Request, card: ModelCard) -> None:
    """Raise `BadRequest` for a mode that the model has not, naming the engines that have it."""
    for given, task, what in (
        (full.image, "image", Said("said.can_begin", "begin with a picture")),
        (full.last_image, "keyframes", Said("said.can_end", "end with a picture")),
        (full.extend, "image", Said("said.can_extend", "go on from another clip")),
        (full.loras, "lora", Said("said.can_lora", "use LoRAs")),
        (full.reference, "reference", Said("said.can_refer", "follow a reference")),
        (full.cache, "cache", Said("said.can_cache", "use a step cache")),
        (full.stages > 1, "upscale", Said("said.can_refine", "render in two stages")),
    ):
        if given and task not in card.tasks:
            able = ", ".join(card.others.get(task, ()))
            advice = f": {able}" if able else ""
            raise BadRequest(
                Said(
                    "said.cannot",
                    "{engine} cannot {what}. Leave that out, or choose an engine that can{able}.",
                    engine=card.name,
                    what=what,
                    able=advice,
                )
            )


def frame_count(request: Request, card: ModelCard) -> int:
    """Return the frames of a completed request: the nearest count of the form k·n + 1."""
    assert request.seconds is not None
    groups = max(0, round((request.seconds * rendered_fps(request, card) - 1) / card.frame_step))
    return groups * card.frame_step + 1


def rendered_fps(request: Request, card: ModelCard) -> float:
    """Return the frame rate of a completed request, or the nearest that the model renders."""
    assert request.fps is not None
    return min(max(request.fps, card.fps[0]), card.fps[1])


@dataclass(frozen=True)
class Progress:
    """How far one clip is: `done` of `total` steps of a stage (load, encode, denoise, …)."""

    stage: str
    done: int
    total: int
