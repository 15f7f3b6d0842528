"""Batches: files of prompts, file names, jobs and what a finished file covers."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from aiprod_studio.batch import (
    NAME_BYTES,
    Line,
    check_images,
    name_file,
    open_folder,
    parse_values,
    plan_jobs,
    prompt_lines,
    read_finished,
    read_lines,
    slug,
)
from aiprod_studio.errors import BadRequest, MediaError, StudioError
from aiprod_studio.hardware.nearest import AsksTooMuch
from aiprod_studio.library.provenance import save_clip
from aiprod_studio.media.clip import Clip
from aiprod_studio.media.images import write_image
from aiprod_studio.media.writer import write_video
from aiprod_studio.types import Plan, Request

PLAN = Plan("cpu", "float32", 64, 64, 9, 1, 0, {"denoise": 1}, 2.0, ("it fits",))


def choose(request: Request) -> tuple[Request, Plan]:
    """Complete a request as a studio does."""
    if request.width == 17:
        raise BadRequest("width is 17. Use 16.")
    return dataclasses.replace(request, steps=request.steps or 12), PLAN


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_bytes(text.encode())
    return str(path)


def test_texts_become_values_of_the_right_type() -> None:
    texts = {"width": "64", "seconds": "1.5", "seed": " 7 ", "audio": "No", "prompt": "12"}
    values = {"width": 64, "seconds": 1.5, "seed": 7, "audio": False, "prompt": "12"}
    assert parse_values(texts) == values


@pytest.mark.parametrize(
    ("name", "text"),
    [("width", "abc"), ("width", "1.5"), ("seed", "9" * 5000), ("fps", "fast"), ("audio", "maybe")],
)
def test_texts_that_are_no_value_are_refused_in_a_short_sentence(name: str, text: str) -> None:
    with pytest.raises(BadRequest, match=f"^{name} is ") as caught:
        parse_values({name: text})
    assert len(str(caught.value)) < 140


def test_text_files_hold_a_prompt_a_line(tmp_path: Path) -> None:
    file = write(tmp_path, "p.TXT", "\ufeffa cat\r\n\r\n  une chèvre, ici \n猫\n")
    assert read_lines(file, {"steps": 4}) == [
        Line("p.TXT line 1", Request("a cat", steps=4)),
        Line("p.TXT line 3", Request("une chèvre, ici", steps=4)),
        Line("p.TXT line 4", Request("猫", steps=4)),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_cells_win_over_options_and_empty_cells_do_not(tmp_path: Path, delimiter: str) -> None:
    text = ('Prompt|seed|audio|image\n"a cat\n on a ""mat""|"| 1 |no|a.png\n\na dog||\n').replace(
        "|", delimiter
    )
    lines = read_lines(write(tmp_path, "p.csv", text), {"seed": 9, "steps": 4})
    image = str(tmp_path / "a.png")
    prompt = f'a cat\n on a "mat"{delimiter}'.strip()
    first = Request(prompt, seed=1, audio=False, image=image, steps=4)
    assert lines[0] == Line("p.csv line 2", first)
    assert lines[1] == Line("p.csv line 5", Request("a dog", seed=9, steps=4))


def test_jsonl_values_are_typed_and_null_means_not_given(tmp_path: Path) -> None:
    text = '{"prompt": "a cat", "seed": null, "fps": 8}\n\n{"prompt": "a dog", "audio": false}'
    assert read_lines(write(tmp_path, "p.jsonl", text), {"seed": 3}) == [
        Line("p.jsonl line 1", Request("a cat", seed=3, fps=8)),
        Line("p.jsonl line 3", Request("a dog", seed=3, audio=False)),
    ]


@pytest.mark.parametrize(
    ("name", "text", "place", "word"),
    [
        ("p.csv", "prompt,colour\na cat,red\n", "line 1", "'colour'"),
        ("p.csv", "width,height\n64,64\n", "line 1", "'prompt'"),
        ("p.csv", "prompt,prompt\na,b\n", "line 1", "once"),
        ("p.csv", "prompt,width\na cat,64\na dog,abc\n", "line 3", "width"),
        ("p.csv", "prompt,width\na cat, on a mat,64\n", "line 2", "quotes"),
        ("p.csv", 'prompt\n"a cat\nand more\n', "line 2", "quotes"),
        ("p.csv", f"prompt\n{'x' * 200_000}\n", "line 2", "limit"),
        ("p.csv", "prompt,seed\na cat,1\n,2\n", "line 3", "prompt is missing"),
        ("p.csv", "prompt,seed\n", "p.csv", "no prompt"),
        ("p.jsonl", '{"prompt": "a cat"}\n{"prompt": \n', "line 2", "JSON"),
        ("p.jsonl", '{"prompt": "a cat"}\n["a dog"]\n', "line 2", "object"),
        ("p.jsonl", '{"prompt": "a cat", "colour": 1}', "line 1", "'colour'"),
        ("p.jsonl", '{"prompt": "a cat", "width": "64"}', "line 1", "width"),
        ("p.jsonl", '{"prompt": "a cat", "width": 1e999}', "line 1", "width"),
        ("p.jsonl", '{"prompt": "a cat", "seed": ' + "9" * 5000 + "}", "line 1", "JSON"),
        ("p.jsonl", '{"prompt": "a cat", "seed": ' + "9" * 400 + "}", "line 1", "seed"),
        ("p.jsonl", '{"prompt": "\\ud83d"}', "line 1", "Unicode"),
        ("p.jsonl", "[" * 100_000, "line 1", "JSON"),
        ("p.txt", "a cat\n" + "x" * 100_000, "line 2", "100,000"),
        ("p.txt", " \n\n", "p.txt", "no prompt"),
        ("p.docx", "a cat", "p.docx", ".jsonl"),
    ],
)
def test_bad_files_are_refused_with_file_and_line(
    tmp_path: Path, name: str, text: str, place: str, word: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        read_lines(write(tmp_path, name, text), {})
    message = str(caught.value)
    assert message.startswith(name)
    assert place in message
    assert word in message
    assert "\n" not in message


def test_files_that_are_no_text_or_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes("a cat\nein Bär".encode("utf-16"))
    with pytest.raises(BadRequest, match=r"p\.txt line 1.*UTF-8"):
        read_lines(str(tmp_path / "p.txt"), {})
    with pytest.raises(MediaError, match=r"gone\.csv cannot be read"):
        read_lines(str(tmp_path / "gone.csv"), {})
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(MediaError, match=r"d\.csv cannot be read"):
        read_lines(str(tmp_path / "d.csv"), {})


def test_only_one_of_several_prompts_is_named() -> None:
    assert [line.source for line in prompt_lines(["a", "b"], {})] == ["prompt 1", "prompt 2"]
    with pytest.raises(BadRequest, match=r"^The prompt is empty"):
        prompt_lines([""], {})
    with pytest.raises(BadRequest, match=r"^prompt 2: The prompt is empty"):
        prompt_lines(["a", " "], {})


def test_last_pictures_and_stages_are_columns(tmp_path: Path) -> None:
    for text in (
        write(tmp_path, "p.csv", "prompt,last_image,stages\na cat,a.png,2\n"),
        write(tmp_path, "p.jsonl", '{"prompt": "a cat", "last_image": "a.png", "stages": 2}'),
    ):
        lines = read_lines(text, {})
        assert lines[0].request == Request("a cat", last_image=str(tmp_path / "a.png"), stages=2)
        with pytest.raises(MediaError, match="line"):
            check_images(lines)


def test_a_step_cache_is_a_column(tmp_path: Path) -> None:
    rows = "prompt,cache\na cat,mag:0.1\na dog,\n"
    lines = read_lines(write(tmp_path, "p.csv", rows), {})
    assert [line.request.cache for line in lines] == ["mag:0.1", None]
    with pytest.raises(BadRequest, match=r"^p\.csv line 4: There is no step cache 'tea'"):
        read_lines(write(tmp_path, "p.csv", rows + "a bird,tea\n"), {})


def test_a_reference_is_a_column_and_any_picture_or_clip(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((3, 16, 16, 3), np.uint8), 8)
    write_image(tmp_path / "b.png", np.zeros((16, 16, 3), np.uint8))
    rows = "prompt,reference\na cat,a.mp4\na dog,b.png\n"
    lines = read_lines(write(tmp_path, "p.csv", rows), {})
    assert [line.request.reference for line in lines] == [
        str(tmp_path / name) for name in ("a.mp4", "b.png")
    ]
    check_images(lines)
    lines = read_lines(write(tmp_path, "p.csv", rows + "a bird,p.csv\n"), {})
    with pytest.raises(MediaError, match=r"^p\.csv line 4: p\.csv"):
        check_images(lines)


def test_bad_images_are_refused_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture", encoding="utf-8")
    lines = read_lines(write(tmp_path, "p.csv", "prompt,image\na cat,\na dog,a.png"), {})
    with pytest.raises(MediaError, match=r"^p\.csv line 3: a\.png"):
        check_images(lines)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A brown dog, running!", "a-brown-dog-running"),
        ("../../etc/passwd\\c:", "etc-passwd-c"),
        ("हिंदी में कुत्ता", "हिंदी-में-कुत्ता"),
        ("犬が走る。浜辺で", "犬が走る-浜辺で"),
        ("🐶🐱", ""),
        ("-rf --out", "rf-out"),
    ],
)
def test_slugs_keep_every_script_and_nothing_dangerous(prompt: str, name: str) -> None:
    assert slug(prompt) == name


@pytest.mark.parametrize("letter", ["a", "é", "犬", "𠮷", "ab "])
def test_slugs_fit_every_file_system(tmp_path: Path, letter: str) -> None:
    short = slug(letter * 300)
    assert 0 < len(short) <= 60
    assert len(short.encode()) <= NAME_BYTES
    (tmp_path / f".{short}-seed{2**63 - 1}-100.mp4.part").touch()


def test_names_are_never_taken_twice() -> None:
    taken = {"a-cat.mp4", "a-cat-seed3.mp4"}
    seeded = Request("A cat", seed=3)
    assert name_file(Request("A cat"), taken) == "a-cat-2.mp4"
    assert name_file(Request("a CAT"), taken) == "a-cat-3.mp4"
    assert name_file(seeded, taken) == "a-cat-seed3-2.mp4"
    assert name_file(Request("🐶"), taken) == "clip.mp4"


def test_count_makes_jobs_with_rising_seeds_or_none(tmp_path: Path) -> None:
    (tmp_path / "A-cat-seed5.mp4").touch()
    lines = [Line("p line 1", Request("a cat", seed=5)), Line("p line 2", Request("a dog"))]
    jobs = plan_jobs(lines, 2, choose, tmp_path, resume=False)
    assert [job.request.seed for job in jobs] == [5, 6, None, None]
    assert [job.request.steps for job in jobs] == [12] * 4
    assert [job.path.name for job in jobs] == [
        "a-cat-seed5-2.mp4",
        "a-cat-seed6.mp4",
        "a-dog.mp4",
        "a-dog-2.mp4",
    ]


def test_a_line_that_cannot_be_planned_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"^p line 2: width is 17"):
        plan_jobs([Line("p line 2", Request("a", width=17))], 1, choose, tmp_path, resume=False)
    top = Line("", Request("a", seed=2**63 - 1))
    with pytest.raises(BadRequest, match="seed"):
        plan_jobs([top], 2, choose, tmp_path, resume=False)


def test_a_line_that_does_not_fit_is_named_and_keeps_what_would_fit(tmp_path: Path) -> None:
    nearest = Request("a", width=64)

    def refuse(request: Request, clips: int = 1) -> tuple[Request, Plan]:
        raise AsksTooMuch("it is too large", nearest)

    with pytest.raises(AsksTooMuch, match=r"^p line 2: it is too large$") as caught:
        plan_jobs([Line("p line 2", Request("a"))], 1, refuse, tmp_path, resume=False)
    assert caught.value.nearest is nearest


def test_open_folder_makes_what_is_missing_and_leaves_nothing(tmp_path: Path) -> None:
    open_folder(tmp_path / "a" / "b")
    open_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_open_folder_refuses_a_file_and_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "under"):
        with pytest.raises(StudioError, match="file"):
            open_folder(folder)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    nobody = hasattr(os, "seteuid") and os.geteuid() == 0
    if nobody:
        os.seteuid(65534)
    try:
        with pytest.raises(StudioError, match="permission"):
            open_folder(locked / "out")
    finally:
        if nobody:
            os.seteuid(0)


def make_clip(path: Path, request: Request) -> None:
    """Write a clip of one grey frame that carries `request`."""
    frames = np.full((1, 16, 16, 3), 128, np.uint8)
    save_clip(path, Clip(frames, 8.0), dataclasses.replace(request, steps=12), PLAN)


def test_resume_covers_lines_by_their_settings(tmp_path: Path) -> None:
    make_clip(tmp_path / "renamed.mp4", Request("a cat", seed=6))
    make_clip(tmp_path / "any.mp4", Request("a dog", seed=991))
    lines = [
        Line("1", Request("a cat", seed=5)),
        Line("2", Request("a dog")),
        Line("3", Request("a dog", width=64)),
    ]
    jobs = plan_jobs(lines, 2, choose, tmp_path, resume=True)
    assert [(job.source, job.covered) for job in jobs] == [
        ("1", False),
        ("1", True),
        ("2", True),
        ("2", False),
        ("3", False),
        ("3", False),
    ]
    assert jobs[1].path.name == "renamed.mp4"
    assert jobs[2].path.name == "any.mp4"
    assert not any(job.covered for job in plan_jobs(lines, 2, choose, tmp_path, resume=False))


def test_resume_gives_a_seeded_file_to_the_line_that_names_its_seed(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", Request("a cat", seed=6))
    lines = [Line("1", Request("a cat")), Line("2", Request("a cat", seed=6))]
    jobs = plan_jobs(lines, 1, choose, tmp_path, resume=True)
    assert [job.covered for job in jobs] == [False, True]


def test_resume_ignores_files_that_are_foreign_broken_or_being_written(tmp_path: Path) -> None:
    request = Request("a cat", seed=6)
    make_clip(tmp_path / "whole.mp4", request)
    data = (tmp_path / "whole.mp4").read_bytes()
    for name, part in {
        "short.mp4": data[:-1],
        "head.mp4": data[: len(data) // 2],
        "empty.mp4": b"",
        "text.mp4": b"no video",
        ".hidden.mp4": data,
    }.items():
        (tmp_path / name).write_bytes(part)
    (tmp_path / "folder.mp4").mkdir()
    assert [path.name for path, _ in read_finished(tmp_path)] == ["whole.mp4"]
    assert list(read_finished(tmp_path / "not there")) == []
