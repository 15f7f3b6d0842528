import json
import re

from PIL import Image

from aiprod_studio.training.page import Line, clock, draw_chart, read_notes, thin, write_page


def note(step, **more):
    values = {"phase": 1, "step": step, "share": step / 40, "loss": 1 / step, "rate": 1e-3}
    return values | {"rows_a_second": 3.0, "memory_bytes": 2**30, "seconds_left": 60.0} | more


def fill(folder, notes):
    lines = "".join(json.dumps(one) + "\n" for one in notes)
    (folder / "backbone.jsonl").write_text(lines, encoding="utf-8")


def test_the_page_holds_everything_itself(tmp_path):
    (tmp_path / "samples").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "samples" / "a.webp")
    courses = [
        {"network": "backbone", "phase": 1, "name": "a <b>", "steps": 40, "seconds": None},
        {"network": "backbone", "phase": 2, "name": "more", "steps": 9000, "seconds": 7200.0},
    ]
    run = {"title": "A & B", "networks": ["backbone"], "courses": courses}
    (tmp_path / "run.json").write_text(json.dumps(run), encoding="utf-8")
    shown = [{"caption": "dog · beach", "file": "a.webp"}]
    fill(tmp_path, [note(10), note(20, held_out=0.2, samples=shown)])
    page = write_page(tmp_path).read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") == 4
    assert "data:image/webp;base64," in page
    assert "a &lt;b&gt;" in page
    assert "A &amp; B" in page
    assert "50%" in page
    assert "2 h 01 min" in page
    assert "prefers-color-scheme:dark" in page


def test_steps_that_a_resumed_run_takes_again_count_once(tmp_path):
    fill(tmp_path, [note(10), note(20), note(30), note(20, loss=9.0), note(5, phase=2)])
    with (tmp_path / "backbone.jsonl").open("a", encoding="utf-8") as lines:
        lines.write('{"step": 4')
    notes = read_notes(tmp_path / "backbone.jsonl")
    assert [(one["phase"], one["step"]) for one in notes] == [(1, 10), (1, 20), (2, 5)]
    assert notes[1]["loss"] == 9.0
    assert "25 steps" in write_page(tmp_path).read_text(encoding="utf-8")


def test_charts_take_what_comes():
    assert draw_chart("empty", [Line("none", [])]) == ""
    assert "polyline" in draw_chart("flat", [Line("one", [(1, 2.0), (2, 2.0)])])
    assert draw_chart("zeros", [Line("all", [(1, 0.0)])], log=True) == ""
    assert len(thin([(float(x), 1.0) for x in range(5000)])) <= 400


def test_clock_says_what_a_person_would():
    assert [clock(s) for s in (59.6, 600, 7260)] == ["60 s", "10 min", "2 h 01 min"]
