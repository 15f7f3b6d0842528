"""A page that is served is told in another language without losing what it is connected to."""

from __future__ import annotations

import subprocess
import sys

# Building a page leaves loops open until the process ends.
PROGRAM = """
from aiprod_studio.ui.app import build_page, open_bench

def look(config):
    components = config["components"]
    return [(one["id"], one["type"]) for one in components], {
        one["props"].get("label") for one in components
    }

with open_bench() as bench:
    page = build_page(bench)
    before, labels = look(page.config)
    assert bench.say("field.size") in labels
    bench.say.turn("ar")
    after, turned = look(page.config)
    head = page.config["head"]
    print(before == after, bench.say("field.size") in turned, '"direction": "rtl"' in head)
    known = page.config
    bench.say.turn("en")
    print(look(page.config)[1] == labels)
    bench.say.turn("ar")
    print(page.config is known)
"""


def test_the_next_load_is_in_the_other_language() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["True"] * 5, done.stderr
