"""The form: what a person fills in on the page, and the request that it stands for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiprod_studio.errors import BadRequest
from aiprod_studio.library.presets import load_preset
from aiprod_studio.media.files import write_bytes
from aiprod_studio.media.images import check_readable
from aiprod_studio.sentences import Said
from aiprod_studio.types import ModelCard, Request

SHAPES = {"wide": (16, 9), "tall": (9, 16), "square": (1, 1)}
TEXT, PICTURE, KEYFRAMES, EXTEND = "text", "picture", "keyframes", "extend"
MODES = {TEXT: "text", PICTURE: "image", KEYFRAMES: "keyframes", EXTEND: "image"}
"""What a clip can start from, and the task that an engine needs for it."""

FILES = {
    "image": (PICTURE, KEYFRAMES),
    "last_image": (KEYFRAMES, EXTEND),
    "extend": (EXTEND,),
    "reference": tuple(MODES),
}
"""The fields that hold a file, and the modes in which each is asked for."""

_MISSING = {
    PICTURE: (
        "image",
        Said("said.no_image", "The first picture is missing. Add one, or choose text alone."),
    ),
    KEYFRAMES: (
        "last_image",
        Said("said.no_last", "The last picture is missing. Add one, or start from one picture."),
    ),
    EXTEND: (
        "extend",
        Said("said.no_extend", "The clip to extend is missing. Add one, or choose text alone."),
    ),
}
MOST_DRAFTS = 9
FORM = "form.json"
"""The file of the form in the folder of whoever fills it in."""


@dataclass(frozen=True)
class Form:
    """The values of the form; `None` and an empty `size` stand for what the preset or engine says.

    `mode` is one of `MODES`, `size` "WIDTHxHEIGHT" in pixels, `drafts` how many to make; `refined`
    asks for a second stage, `loras` are those of a request, one a line, and `cache` its step cache.
    """

    prompt: str = ""
    mode: str = TEXT
    image: str | None = None
    engine: str = "starter"
    preset: str = "default"
    size: str = ""
    seconds: float | None = None
    seed: int | None = None
    drafts: int = 4
    steps: int | None = None
    guidance: float | None = None
    fps: float | None = None
    audio: bool = True
    extend: str | None = None
    last_image: str | None = None
    refined: bool = False
    loras: str = ""
    reference: str | None = None
    cache: str = ""

    def to_request(self) -> Request:
        """Return the request; raises `BadRequest` for what no engine can render."""
        values = dict(load_preset(self.preset).values)
        if self.size:
            values["width"], values["height"] = parse_size(self.size)
        own = {name: getattr(self, name) for name in ("seconds", "guidance", "fps")}
        whole = {name: getattr(self, name) for name in ("seed", "steps")}
        own |= {
            name: None if value is None else _whole(name, value) for name, value in whole.items()
        }
        values |= {name: value for name, value in own.items() if value is not None}
        needed, sentence = _MISSING.get(self.mode, ("prompt", ""))
        if sentence and not getattr(self, needed):
            raise BadRequest(sentence)
        files = {name: getattr(self, name) for name, modes in FILES.items() if self.mode in modes}
        values |= {name: file for name, file in files.items() if file}
        values |= {"engine": self.engine, "audio": self.audio}
        if self.refined:
            values["stages"] = 2
        if self.loras.strip():
            values["loras"] = _lines(self.loras)
        if self.cache.strip():
            values["cache"] = self.cache.strip()
        return Request(prompt=self.prompt, **values)


def from_request(request: Request) -> Form:
    """Return the form that asks for exactly this request."""
    size = f"{request.width}x{request.height}" if request.width and request.height else ""
    return Form(
        prompt=request.prompt,
        mode=_mode_of(request),
        image=request.image,
        last_image=request.last_image,
        extend=request.extend,
        refined=request.stages > 1,
        loras="\n".join(request.loras),
        reference=request.reference,
        cache=request.cache or "",
        engine=request.engine,
        size=size,
        **{
            name: getattr(request, name)
            for name in ("seconds", "seed", "steps", "guidance", "fps", "audio")
        },
    )


def _mode_of(request: Request) -> str:
    if request.extend:
        return EXTEND
    if request.last_image:
        return KEYFRAMES
    return PICTURE if request.image else TEXT


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of a text such as "640x360"; raises `BadRequest`."""
    found = re.fullmatch(r"\s*(\d{1,5})\s*[x×*]\s*(\d{1,5})\s*", text.lower())
    if found is None:
        told = "The size {size!r} is not clear. Write width x height, as 640x360."
        raise BadRequest(Said("said.size", told, size=text[:30]))
    return int(found[1]), int(found[2])


def sizes(card: ModelCard, stages: int = 1) -> dict[str, str]:
    """Return the usual sizes of an engine as "WIDTHxHEIGHT" by the name of their shape."""
    usual, step = (card.default_width * stages, card.default_height * stages), card.size_step
    area, found = usual[0] * usual[1], {"default": f"{usual[0]}x{usual[1]}"}
    for shape, (across, down) in SHAPES.items():
        unit = math.sqrt(area / (across * down))
        width, height = (max(1, round(unit * side / step)) * step for side in (across, down))
        if f"{width}x{height}" not in found.values():
            found[shape] = f"{width}x{height}"
    return found


def longest_seconds(card: ModelCard) -> float:
    """Return the longest clip of an engine at its own frame rate, in seconds."""
    return math.floor(card.frames[1] / card.default_fps * 10) / 10


def save_form(form: Form, file: Path) -> None:
    """Keep the form for the next start; raises as `write_bytes`."""
    write_bytes(file, json.dumps(dataclasses.asdict(form), ensure_ascii=False).encode())


def load_form(file: Path) -> Form:
    """Return the form that was kept; a fresh one if there is none that fits."""
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        form = Form(**values)
    except (OSError, ValueError, TypeError):
        return Form()
    files = {name: getattr(form, name) for name in FILES}
    here: dict[str, Any] = {
        name: file if file and Path(file).is_file() else None for name, file in files.items()
    }
    return dataclasses.replace(form, **here)


def _whole(name: str, value: float) -> int:
    if value != int(value):
        told = "{name} is {value:g}; give a whole number."
        raise BadRequest(Said("said.whole", told, name=Said(f"field.{name}", name), value=value))
    return int(value)


def _lines(text: str) -> tuple[str, ...]:
    """Return the lines of a text that are not empty."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def keep_file(path: str, folder: Path) -> str:
    """Copy a picture or clip to `folder` under the name of its content; return the copy's path.

    An upload is cleaned away some day; a job that waits must find what it begins with. Raises
    `MediaError` when it cannot be read and as `write_bytes`.
    """
    source = Path(path)
    if source.parent == folder:
        return str(source)
    check_readable(source)
    content = source.read_bytes()
    kept = folder / f"{hashlib.sha256(content).hexdigest()[:24]}{source.suffix.lower()}"
    if not kept.is_file():
        write_bytes(kept, content)
    return str(kept)
