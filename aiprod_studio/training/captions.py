"""Captions: a scene in English words, in many orders, sometimes saying less than is seen."""

from __future__ import annotations

import random

from aiprod_studio.training.world import load_world

ABSENT = -1


def write_caption(labels: dict[str, int], chance: random.Random) -> tuple[str, dict[str, int]]:
    """Return a caption of a scene, and which concepts it names (`ABSENT`: not said)."""
    world = load_world()
    said = dict(labels)
    for kind, share in (("places", 0.1), ("times", 0.1), ("motions", 0.1), ("cameras", 0.3)):
        if chance.random() < share:
            said[kind] = ABSENT
    words = {
        kind: chance.choice(world.kinds[kind][index].words) if index != ABSENT else ""
        for kind, index in said.items()
    }
    for kind, phrase in words.items():
        if not phrase:
            said[kind] = ABSENT
    subject = _with_article(words["subjects"], chance)
    order = chance.random()
    if order < 0.6:
        parts = [subject, words["motions"], words["places"], words["times"]]
    elif order < 0.75:
        parts = [words["times"], subject, words["motions"], words["places"]]
    elif order < 0.9:
        parts = [words["places"], subject, words["motions"], words["times"]]
    else:
        parts = [words["motions"], words["subjects"], words["places"], words["times"]]
    joint = " " if order < 0.85 else ", "
    text = joint.join(part for part in parts if part)
    if words["cameras"]:
        text = f"{text}, {words['cameras']}"
    return _rough(text, chance), said


def _with_article(name: str, chance: random.Random) -> str:
    article = "an" if name[0] in "aeiou" else "a"
    return chance.choice((f"{article} {name}", f"{article} {name}", f"the {name}", name))


def _rough(text: str, chance: random.Random) -> str:
    """Write as people type: other case, a full stop, now and then a slip of the finger."""
    style = chance.random()
    if style < 0.2:
        text = text.capitalize() + "."
    elif style < 0.25:
        text = text.upper()
    if len(text) > 8 and chance.random() < 0.08:
        at = chance.randrange(1, len(text) - 1)
        text = text[:at] + chance.choice(("", text[at] * 2)) + text[at + 1 :]
    return text
