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
from aiprod_studio.types import ModelCard, Request

SHAPES = {"wide": (16, 9), "tall": (9, 16), "square": (1, 1)}
TEXT, PICTURE, EXTEND = "text", "picture", "extend"
PICTURES = "pictures"
"""The folder of what jobs begin with, below the data of whoever asked for them."""

MOST_DRAFTS = 9


@dataclass(frozen=True)
class Form:
    """The values of the form; `None` and an empty `size` stand for what the preset or engine says.

    `mode` is "text", "picture" or "extend", `size` "WIDTHxHEIGHT" in pixels, `drafts` how many to
    make.
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
        if self.mode == PICTURE:
            if not self.image:
                raise BadRequest("The first picture is missing. Add one, or choose text alone.")
            values["image"] = self.image
        if self.mode == EXTEND:
            if not self.extend:
                raise BadRequest("The clip to extend is missing. Add one, or choose text alone.")
            values["extend"] = self.extend
        values |= {"engine": self.engine, "audio": self.audio}
        return Request(prompt=self.prompt, **values)


def from_request(request: Request) -> Form:
    """Return the form that asks for exactly this request."""
    size = f"{request.width}x{request.height}" if request.width and request.height else ""
    return Form(
        prompt=request.prompt,
        mode=PICTURE if request.image else EXTEND if request.extend else TEXT,
        image=request.image,
        extend=request.extend,
        engine=request.engine,
        size=size,
        **{
            name: getattr(request, name)
            for name in ("seconds", "seed", "steps", "guidance", "fps", "audio")
        },
    )


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of a text such as "640x360"; raises `BadRequest`."""
    found = re.fullmatch(r"\s*(\d{1,5})\s*[x×*]\s*(\d{1,5})\s*", text.lower())
    if found is None:
        raise BadRequest(f"The size {text[:30]!r} is not clear. Write width x height, as 640x360.")
    return int(found[1]), int(found[2])


def sizes(card: ModelCard) -> dict[str, str]:
    """Return the usual sizes of an engine as "WIDTHxHEIGHT" by the name of their shape."""
    area, step = card.default_width * card.default_height, card.size_step
    found = {"default": f"{card.default_width}x{card.default_height}"}
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
    image, extend = (
        file if file and Path(file).is_file() else None for file in (form.image, form.extend)
    )
    return dataclasses.replace(form, image=image, extend=extend)


def _whole(name: str, value: float) -> int:
    if value != int(value):
        raise BadRequest(f"The {name} is {value:g}; give a whole number.")
    return int(value)


def keep_file(path: str, folder: Path) -> str:
    """Copy a picture or clip to `folder` under the name of its content; return the copy's path.

    An upload is cleaned away some day; a job that waits must find what it begins with. Raises
    `MediaError` when it cannot be read and as `write_bytes`.
    """
    source = Path(path)
    if source.parent == folder:
        return path
    check_readable(source)
    content = source.read_bytes()
    kept = folder / f"{hashlib.sha256(content).hexdigest()[:24]}{source.suffix.lower()}"
    if not kept.is_file():
        write_bytes(kept, content)
    return str(kept)
