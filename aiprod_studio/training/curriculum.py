"""The curriculum: what is shown in which phase, and how each network learns it, as data.

A file of `presets/training` has a `[[phases]]` table a phase. It says what its scenes show (the
kinds of `scenes.Lesson`, by concept id; an empty list shows everything), their size, and in a
table per network how long and how fast that one learns; a network without a table sits it out.
What `[everywhere]` says holds for each phase that says nothing else.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiprod_studio.errors import BadRequest
from aiprod_studio.models.video_vae import SPACE_FACTOR, TIME_FACTOR
from aiprod_studio.settings import settings
from aiprod_studio.training.scenes import Lesson
from aiprod_studio.training.stage import SceneSize
from aiprod_studio.training.world import load_world

NETWORKS = (
    *("text_encoder", "layout", "sketcher", "audio_vae", "video_vae"),
    *("backbone", "decoder", "finisher", "upscaler"),
)
"""The order in which networks learn: the backbone reads what the others write."""

_Kind = TypeVar("_Kind")
_KINDS = tuple(item.name for item in dataclasses.fields(Lesson) if item.name != "thirds")
_SIZES = ("frames", "height", "width", "fps")


@dataclass(frozen=True)
class Exercise:
    """How one network learns in one phase.

    It lasts `steps`, or its `share` of the hours where training goes by the clock. A step sees
    `batch` rows, over all processes; each computes at most `micro` at once (0: all). `rate` is the
    peak learning rate, `ema` the decay of the moving average. `pictures` is the share of steps
    that show `picture_batch` single frames. Scenes have `frames` (0: the phase's), and `window`
    pixels a side are cut around the subject (0: the whole frame); of the backbone's, single frames
    are cut and the clips of a `windowed` share of its other steps, which else show fewer. A scene
    is drawn about `reuse` times while it is among the last `room`. A `whole_world` share of them is
    drawn from everything, whatever the phase. Only weights whose name the regular expression
    `learns` finds are moved ("": all).
    """

    steps: int
    share: float
    batch: int
    rate: float
    micro: int = 0
    ema: float = 0.998
    pictures: float = 0.0
    picture_batch: int = 0
    frames: int = 0
    window: int = 0
    windowed: float = 0.0
    reuse: int = 3
    room: int = 512
    whole_world: float = 0.0
    learns: str = ""


@dataclass(frozen=True)
class Phase:
    """One phase: its number from 1, what its scenes show, their size, and each network's exercise.

    `review` is the share of its scenes that show what the phases before it taught.
    """

    number: int
    name: str
    lesson: Lesson
    size: SceneSize
    review: float
    exercises: dict[str, Exercise]


@dataclass(frozen=True)
class Curriculum:
    """All phases, and the networks they train: a family's size, with single values changed."""

    description: str
    family: str
    seed: int
    phases: tuple[Phase, ...]
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def lessons(self, number: int) -> tuple[tuple[Lesson, float], ...]:
        """Return what phase `number` shows, each lesson with its share of the scenes."""
        phase, before = self.phases[number - 1], self.phases[: number - 1]
        if not before or not phase.review:
            return ((phase.lesson, 1.0),)
        earlier = tuple((past.lesson, phase.review / len(before)) for past in before)
        return (*earlier, (phase.lesson, 1 - phase.review))


def find_curriculum(name: str) -> Curriculum:
    """Return a curriculum by the path of its file, or by its name among those that are shipped."""
    if name.endswith(".toml"):
        return read_curriculum(Path(name).expanduser())
    shipped = {path.stem: path for path in (settings().presets / "training").glob("*.toml")}
    if name not in shipped:
        raise BadRequest(
            f"There is no curriculum {name!r}. Use one of: {', '.join(sorted(shipped))}, or the "
            "path of a .toml file."
        )
    return read_curriculum(shipped[name])


def read_curriculum(path: Path) -> Curriculum:
    """Return the curriculum in a TOML file; raises `BadRequest` that names what is wrong in it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRequest(f"{path} cannot be read ({error.strerror}). Check the name.") from error
    except ValueError as error:
        raise BadRequest(f"{path.name} is not valid TOML ({error}). Correct it.") from error
    rows = table.pop("phases", None)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise BadRequest(f"{path.name} has no phases. Add at least one [[phases]] table.")
    everywhere = table.pop("everywhere", {})
    if not isinstance(everywhere, dict):
        raise BadRequest(f"{path.name}: everywhere must be a table. Write it as [everywhere].")
    phases = tuple(
        _read_phase(number, {**everywhere, **row}, f"{path.name}, phase {number}")
        for number, row in enumerate(rows, 1)
    )
    whole = _fill(Curriculum, {"changes": {}, **table, "phases": phases}, path.name)
    if whole.family not in ("starter", "base"):
        raise BadRequest(f"{path.name} names the family {whole.family!r}. Use starter or base.")
    unknown = sorted(set(whole.changes) - set(NETWORKS))
    if unknown:
        raise BadRequest(f"{path.name} changes {unknown[0]!r}. Use only: {', '.join(NETWORKS)}.")
    return whole


def _read_phase(number: int, row: dict[str, Any], where: str) -> Phase:
    ids = {kind: _read_ids(kind, row.pop(kind), where) for kind in _KINDS if kind in row}
    thirds = {"thirds": row.pop("thirds")} if "thirds" in row else {}
    lesson = _fill(Lesson, {**ids, **thirds}, where)
    if not 0 <= lesson.thirds <= 1:
        raise BadRequest(f"{where}: thirds is the share of pairs with a third. Use 0 to 1.")
    size = _fill(SceneSize, {name: row.pop(name) for name in _SIZES if name in row}, where)
    if size.height % SPACE_FACTOR or size.width % SPACE_FACTOR:
        raise BadRequest(f"{where}: use multiples of {SPACE_FACTOR} pixels a side.")
    exercises = {}
    for name in NETWORKS:
        if name in row:
            exercises[name] = _fill(Exercise, row.pop(name), f"{where}, {name}")
            _check_exercise(exercises[name], size, f"{where}, {name}")
    fixed = {"number": number, "lesson": lesson, "size": size, "exercises": exercises}
    return _fill(Phase, {"review": 0.0, **row, **fixed}, where)


def _read_ids(kind: str, ids: Any, where: str) -> tuple[str, ...]:
    known = {concept.id for concept in load_world().kinds.get(kind, ())}
    if not isinstance(ids, list):
        raise BadRequest(f"{where}: {kind} must be a list. Write it in square brackets.")
    unknown = [str(name) for name in ids if name not in known]
    if unknown and known:
        raise BadRequest(f"{where}: there is no {unknown[0]!r} among the {kind}. Correct it.")
    return tuple(ids)


def _check_exercise(exercise: Exercise, size: SceneSize, where: str) -> None:
    frames = exercise.frames or size.frames
    if frames % TIME_FACTOR != 1:
        raise BadRequest(f"{where}: {frames} frames cannot be grouped. Use 1, 5, 9, 13, 17, …")
    if exercise.window % SPACE_FACTOR or exercise.window > min(size.height, size.width):
        raise BadRequest(f"{where}: a window is a multiple of {SPACE_FACTOR} within the frame.")
    if min(exercise.steps, exercise.batch, exercise.reuse, exercise.room) < 1:
        raise BadRequest(f"{where}: use at least 1 for steps, batch, reuse and room.")
    if exercise.share <= 0 or exercise.rate <= 0:
        raise BadRequest(f"{where}: use a share and a rate above 0.")
    try:
        re.compile(exercise.learns)
    except re.error as error:
        raise BadRequest(f"{where}: learns is no regular expression ({error}).") from error
    if not 0 <= exercise.windowed <= 1 or (exercise.windowed and not exercise.window):
        raise BadRequest(f"{where}: windowed is a share from 0 to 1 with a window.")
    if not 0 <= exercise.whole_world <= 1:
        raise BadRequest(f"{where}: whole_world is a share of the scenes. Use 0 to 1.")
    if not 0 <= exercise.pictures <= 1 or (exercise.pictures and exercise.picture_batch < 1):
        raise BadRequest(f"{where}: pictures is a share from 0 to 1 with a picture_batch.")


def _fill(kind: type[_Kind], values: Any, where: str) -> _Kind:
    """Return a dataclass filled from a TOML table; `BadRequest` for a wrong name, type or gap."""
    if not isinstance(values, dict):
        raise BadRequest(f"{where} must be a table. Write its values as name = value.")
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise BadRequest(
            f"{where}: {unknown[0]!r} is unknown. Use only: {', '.join(sorted(fields))}."
        )
    for name, value in values.items():
        plain = hints[name] if isinstance(hints[name], type) else typing.get_origin(hints[name])
        allowed = (int, float) if plain is float else (plain,)
        if type(value) not in allowed and not isinstance(value, Lesson | SceneSize):
            raise BadRequest(f"{where}: {name} is {value!r}. It must be a {plain.__name__}.")
    missing = [
        name
        for name, item in fields.items()
        if name not in values
        and item.default is dataclasses.MISSING
        and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise BadRequest(f"{where}: {', '.join(missing)} is missing. Add it.")
    return kind(**values)
