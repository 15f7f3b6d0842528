"""Judging: what the judge is shown and asked, how it learns, and how often it is right."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aiprod_studio.errors import ModelUnavailable
from aiprod_studio.training.checkpoints import read_state
from aiprod_studio.training.choreography import choreograph
from aiprod_studio.training.curriculum import Curriculum
from aiprod_studio.training.data import (
    LABEL,
    Pool,
    Rows,
    SceneRefills,
    count,
    draw_lesson,
    seeded,
    take,
)
from aiprod_studio.training.judge import (
    MOVING,
    PER_FRAME,
    SIDE,
    STILL,
    Concepts,
    Eye,
    Judge,
    JudgeConfig,
    Judgement,
    Watch,
    listen,
    peaks,
    shrink,
    widen,
)
from aiprod_studio.training.loop import Course, Task, fit
from aiprod_studio.training.losses import lower_precision
from aiprod_studio.training.scenes import Lesson, draw_labels, make_scenes
from aiprod_studio.training.spread import Spread
from aiprod_studio.training.stage import SceneSize, scene_time
from aiprod_studio.training.world import ABSENT, load_world

NEAR = 0.08  # seconds between an impact and another that belongs to it
_PARTS = ("eye", "watch")
_EMA = 0.99
_HELD_OUT_ROWS = 96
_AT_ONCE = 32
_SPREAD = 1.0  # of an impact over scores
_IMPACT_WEIGHT = 5.0
# Whose subject stays where it is: a camera that follows it does not move.
_RESTING = ("still", "bounce", "spin", "grow", "fall", "swing")


def find_lesson(curriculum: Curriculum) -> Lesson:
    """Return what all phases of a curriculum show together, no third subjects among them."""
    kinds: dict[str, Any] = {}
    for kind in load_world().kinds:
        taught = [getattr(phase.lesson, kind) for phase in curriculum.phases]
        kinds[kind] = tuple(dict.fromkeys(i for ids in taught for i in ids)) if all(taught) else ()
    return Lesson(**kinds)


def build_judge(curriculum: Curriculum) -> Judge:
    """Return an untrained judge that names exactly what a curriculum shows."""
    torch.manual_seed(0)
    return Judge(JudgeConfig(name_concepts(curriculum)))


def name_concepts(curriculum: Curriculum) -> Concepts:
    """Return what a judge of this curriculum can name."""
    lesson, kinds = find_lesson(curriculum), load_world().kinds
    return tuple(
        (kind, getattr(lesson, kind) or tuple(concept.id for concept in kinds[kind]))
        for kind in (*STILL, *MOVING)
    )


def alone(lesson: Lesson) -> Lesson:
    """Return a lesson that shows one subject of usual size in clear weather."""
    plain = dataclasses.replace(lesson, sizes=("usual",), counts=("one",))
    return dataclasses.replace(plain, weathers=("clear",), relations=("alone",))


def together(lesson: Lesson) -> Lesson:
    """Return a lesson that shows two subjects of usual size in clear weather."""
    pairs = tuple(concept.id for concept in load_world().relations if concept.id != "alone")
    return dataclasses.replace(alone(lesson), relations=pairs)


@dataclass(frozen=True)
class JudgeRefills(SceneRefills):
    """Scenes as the judge sees them, with what it should say; see `examine` and `expect`."""

    concepts: Concepts
    held_out: bool = False

    def __getitem__(self, number: int) -> Rows:
        """Return refill `number`: frames, sound, impacts and labels."""
        dice = seeded(*self.stream, number)
        lesson = draw_lesson(self.lessons, dice)
        begin = dice.get_state()
        with torch.no_grad():
            scenes = make_scenes(self.fresh, self.size, dice, lesson, self.held_out)
            rows = examine(scenes.video, scenes.audio)
        dice.set_state(begin)  # the same dice fall the same way
        labels = draw_labels(self.fresh, dice, lesson, self.held_out)
        impacts = _impacts(labels, self.size, dice)
        return {**rows, "impacts": impacts, **expect(labels, self.concepts)}


def examine(video: Tensor, audio: Tensor) -> Rows:
    """Return `frames` and `sound` for the judge, of clips `[B, 3, T, H, W]` and `[B, S]`."""
    return {"frames": shrink(video), "sound": listen(audio, PER_FRAME * video.shape[2])}


def expect(labels: dict[str, Tensor], concepts: Concepts) -> Rows:
    """Return what a judge should name of scenes with these labels, by the order of its scores.

    Per kind numbers `[B]`, `ABSENT` where nothing is asked; `others` is the second subject. Of two
    subjects nobody can say whose motion is meant. What cannot be told apart counts as the same.
    """
    kinds = load_world().kinds
    motion = [concept.id for concept in kinds["motions"]]
    camera = [concept.id for concept in kinds["cameras"]]
    rests = torch.tensor([name in _RESTING for name in motion])[labels["motions"]]
    idle = rests & (labels["cameras"] == camera.index("follow"))
    seen = {
        **labels,
        "cameras": torch.where(idle, camera.index("still"), labels["cameras"]),
        "motions": torch.where(labels["others"] == ABSENT, labels["motions"], ABSENT),
    }
    rows = {}
    for kind, ids in concepts:
        numbers = [ids.index(c.id) if c.id in ids else ABSENT for c in kinds[kind]]
        table = torch.tensor([*numbers, ABSENT])  # the last one is for what is absent
        rows[LABEL + kind] = table[seen[kind]]
        if kind == "subjects":
            rows[f"{LABEL}others"] = table[seen["others"]]
    return rows


def _impacts(labels: dict[str, Tensor], size: SceneSize, dice: torch.Generator) -> Tensor:
    """Return how near every moment `[B, PER_FRAME·T]` is to a bounce or a fall's end, in 0…1."""
    _, events = choreograph(labels, scene_time(len(labels["motions"]), size, dice), dice)
    motions = [concept.id for concept in load_world().motions]
    bounces = labels["motions"] == motions.index("bounce")
    falls = labels["motions"] == motions.index("fall")
    steps = torch.arange(1, 1 + round(4 * size.frames / size.fps))
    landings = (steps - events.phase[:, None]) / events.rate[:, None]
    landings = torch.where(bounces[:, None], landings, -9.0)
    ends = torch.where(falls, events.landing, -9.0)[:, None]
    moments = torch.arange(PER_FRAME * size.frames)
    places = torch.cat([landings, ends], dim=1)[..., None] * size.fps * PER_FRAME
    return torch.exp(-(((moments - places) / _SPREAD) ** 2) / 2).amax(dim=1)


@dataclass(frozen=True)
class _School:
    """How a part of the judge learns: how much at once, from how many scenes of which size."""

    batch: int
    fresh: int
    room: int
    rate: float
    steps: int
    share: float


_EYE = _School(batch=128, fresh=24, room=12_000, rate=2e-3, steps=1500, share=0.45)
_WATCH = _School(batch=32, fresh=8, room=2400, rate=2e-3, steps=2000, share=0.55)


def eye_task(curriculum: Curriculum, eye: Eye) -> Task:
    """Return the task of naming what lies in pictures of a curriculum's scenes."""
    size = dataclasses.replace(curriculum.phases[-1].size, frames=1)
    return _task(curriculum, eye, eye_loss, _EYE, size)


def watch_task(curriculum: Curriculum, watch: Watch) -> Task:
    """Return the task of naming moves and timing impacts; its scenes are drawn at the size seen."""
    size = dataclasses.replace(curriculum.phases[-1].size, height=SIDE, width=SIDE)
    return _task(curriculum, watch, watch_loss, _WATCH, size)


def _task(
    curriculum: Curriculum,
    network: nn.Module,
    loss: Callable[[Any, Rows], Tensor],
    school: _School,
    size: SceneSize,
) -> Task:
    """Return a task on scenes of which some are alone in clear air, some in weather, some pairs."""
    lesson = find_lesson(curriculum)
    rough = dataclasses.replace(alone(lesson), weathers=lesson.weathers)
    pairs = dataclasses.replace(together(lesson), weathers=lesson.weathers)
    lessons = ((alone(lesson), 0.45), (rough, 0.2), (pairs, 0.35))
    concepts, name = name_concepts(curriculum), type(network).__name__

    def refills(kind: str) -> JudgeRefills:
        stream = (curriculum.seed, "judge", name, kind)
        return JudgeRefills(lessons, size, school.fresh, stream, concepts)

    pool = Pool(refills("step"), lambda rows: rows, school.room // school.fresh)

    def draw(step: int) -> Rows:
        dice = seeded(curriculum.seed, "judge", name, "step", step)
        return _vary(pool.draw(step, school.batch, dice), dice)

    def held_out() -> Sequence[Rows]:
        unseen = refills("held out")
        rows = [unseen[number] for number in range(_HELD_OUT_ROWS // school.fresh)]
        return [{**each, "frames": widen(each["frames"])} for each in rows]

    return Task(network, draw, loss, held_out)


def _vary(rows: Rows, dice: torch.Generator) -> Rows:
    """Return rows half of which are mirrored, some softened, all in another light."""
    frames = rows["frames"].clone()
    B = len(frames)
    mirrored, softened = torch.rand(2, B, generator=dice) < torch.tensor([[0.5], [0.25]])
    frames[mirrored] = frames[mirrored].flip(4)
    frames = widen(frames)
    soft = frames[softened]
    pooled = F.avg_pool2d(soft.flatten(0, 1), 3, 1, 1, count_include_pad=False)
    frames[softened] = pooled.view(soft.shape)
    chance = torch.rand(3, B, generator=dice) - 0.5
    contrast, light, loudness = (0.4 * chance[0] + 1), 0.2 * chance[1], 0.5 * chance[2]
    frames.mul_(contrast.view(B, 1, 1, 1, 1)).add_(light.view(B, 1, 1, 1, 1))
    return {**rows, "frames": frames, "sound": rows["sound"] + loudness.view(B, 1, 1)}


def eye_loss(eye: Eye, rows: Rows) -> Tensor:
    """Return how wrong names of what is seen are; two subjects share what one would have.

    Rows: `frames` `[B, K, 3, SIDE, SIDE]` in -1…1 and what `expect` returns.
    """
    with lower_precision(rows["frames"]):
        scores, _ = eye(rows["frames"])
    pairs = torch.stack([rows[f"{LABEL}subjects"], rows[f"{LABEL}others"]], dim=1)
    pairs = torch.where(pairs == ABSENT, pairs[:, :1], pairs)
    loss: Tensor = -scores["subjects"].log_softmax(dim=1).gather(1, pairs).mean()
    return loss + _misnaming({kind: scores[kind] for kind in STILL[1:]}, rows)


def watch_loss(watch: Watch, rows: Rows) -> Tensor:
    """Return how wrong the names of moves and the impacts seen and heard are.

    Rows: `frames` and `sound` as `Watch.forward` wants them, `impacts` `[B, n]` in 0…1 and what
    `expect` returns.
    """
    with lower_precision(rows["frames"]):
        scores, _, seen, heard = watch(rows["frames"], rows["sound"])
    loss = _misnaming(scores, rows)
    for said in (seen, heard):
        off = F.binary_cross_entropy_with_logits(said, rows["impacts"])
        loss = loss + _IMPACT_WEIGHT * off
    return loss


def _misnaming(scores: dict[str, Tensor], rows: Rows) -> Tensor:
    """Return the cross-entropy of scores by kind; where nothing is asked it is none."""
    losses = [
        F.cross_entropy(each, rows[LABEL + kind], ignore_index=ABSENT, reduction="none").mean()
        for kind, each in scores.items()
    ]
    return torch.stack(losses).sum()


def train_judge(
    curriculum: Curriculum,
    folder: Path,
    spread: Spread,
    hours: float | None = None,
    asked: Sequence[int] = (),
) -> Judge:
    """Train a judge, or go on where its checkpoints in `folder` are; raises as `loop.fit` does."""
    judge = build_judge(curriculum)
    parts = ((eye_task(curriculum, judge.eye), _EYE), (watch_task(curriculum, judge.watch), _WATCH))
    for name, (task, school) in zip(_PARTS, parts, strict=True):
        seconds = None if hours is None else hours * 3600 * school.share
        fit(task, Course(name, school.rate, school.steps, seconds, ema=_EMA), folder, spread, asked)
    return load_judge(curriculum, folder)


def load_judge(curriculum: Curriculum, folder: Path) -> Judge:
    """Return the judge that was trained in a folder; raises `ModelUnavailable` if there is none."""
    judge = build_judge(curriculum)
    for name in _PARTS:
        path = folder / f"{name}.pt"
        if not path.exists():
            raise ModelUnavailable(f"There is no judge in {folder}. Train one first.")
        state = read_state(path, torch.device("cpu"))
        judge.get_submodule(name).load_state_dict(state["average"])
    return judge.requires_grad_(False).eval()


def consider(judge: Judge, rows: Rows) -> Judgement:
    """Return the judgement of rows `frames` and `sound`, made a few at a time."""
    parts = []
    with torch.inference_mode():
        for begin in range(0, count(rows), _AT_ONCE):
            part = take(rows, begin, begin + _AT_ONCE)
            parts.append(judge(widen(part["frames"]), part["sound"]))
    return Judgement(
        {kind: torch.cat([part.scores[kind] for part in parts]) for kind in parts[0].scores},
        *(
            torch.cat([getattr(part, name) for part in parts])
            for name in ("seen", "heard", "features")
        ),
    )


def right(said: Judgement, rows: Rows) -> dict[str, Tensor]:
    """Return by kind which clips `[B]` are named right, 1 or 0, NaN where nothing is asked.

    Where two subjects are asked for, `both` tells whether they are the first two.
    """
    found = {}
    for kind, scores in said.scores.items():
        wanted = rows[LABEL + kind]
        hit = (scores.argmax(dim=1) == wanted).float()
        found[kind] = torch.where(wanted == ABSENT, torch.nan, hit)
    subject, other = rows[f"{LABEL}subjects"], rows[f"{LABEL}others"]
    first = said.scores["subjects"].topk(2, dim=1).indices
    present = (first == subject[:, None]).any(dim=1) & (first == other[:, None]).any(dim=1)
    paired = (other != ABSENT) & (other != subject)
    found["both"] = torch.where(paired, present.float(), torch.nan)
    return found


def matched(here: list[float], there: list[float], seconds: float) -> int:
    """Return how many places `here` have one `there` within `NEAR`; a place takes `seconds`."""
    return sum(any(abs(a - b) * seconds <= NEAR for b in there) for a in here)


def in_time(said: Judgement, fps: float, shift: int = 0) -> tuple[int, int]:
    """Return how many impacts are seen, and how many of them are heard within `NEAR` seconds.

    With a `shift` each clip's picture is held against the sound of another one.
    """
    seen, heard = peaks(said.seen), peaks(said.heard.roll(shift, 0))
    together = [matched(a, b, 1 / fps / PER_FRAME) for a, b in zip(seen, heard, strict=True)]
    return sum(map(len, seen)), sum(together)
