"""The command line: what is refused and how, and whole renders through real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aiprod_studio import cli
from aiprod_studio.cli import main
from aiprod_studio.library.provenance import read_request
from aiprod_studio.settings import settings
from aiprod_studio.types import Request

QUICK = ["--steps", "1", "--seconds", "0.5"]
PATIENCE = 300


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a good picture and of three that cannot be used."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "text.png").write_text("no picture at all", encoding="utf-8")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(folder / "good.png")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:2000])
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png", compress_level=1)
    return folder


def refuse(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run `words`, check that nothing came of them but one sentence, and return it."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(".\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not settings().outputs.exists()
    return err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--cli"], "nothing to render"),
        (["--cli", ""], "prompt is empty"),
        (["--cli", "x" * 100_000], "100,000"),
        (["--cli", "a cat", "--width", "0"], "width is 0"),
        (["--cli", "a cat", "--width", "7"], "width is 7"),
        (["--cli", "a cat", "--width", "100000"], "width is 100000"),
        (["--cli", "a cat", "--width", "abc"], "width is 'abc'"),
        (["--cli", "a cat", "--seed", "-1"], "seed is -1"),
        (["--cli", "a cat", "--fps", "nan"], "fps"),
        (["--cli", "a cat", "--count", "0"], "count is '0'"),
        (["--cli", "a cat", "--count", "many"], "count is 'many'"),
        (["--cli", "a cat", "--preset", "turbo"], "default, draft, fast, quality"),
        (["--cli", "a cat", "--colour", "red"], "--colour"),
        (["--cli", "a cat", "--seed"], "--seed"),
        (["--cli", "a cat", "--wid", "64"], "--wid"),
        (["--cli", "a cat", "--from", "clip.mp4"], "--from takes"),
        (["--cli", "a cat", "--image", "~nobody-of-that-name/a.png"], "exist"),
        (["--cli", "--file", "gone.csv"], "gone.csv cannot be read"),
        (["--from", "gone.mp4"], "gone.mp4"),
        (["show"], "clip.mp4"),
        (["show", "gone.mp4"], "gone.mp4"),
        (["a cat"], "--cli in front"),
        (["ui", "--cli"], "--cli"),
        (["ui", "--port", "0"], "port is '0'"),
        (["ui", "--port", "http"], "port is 'http'"),
        (["doctor", "now"], "now"),
    ],
)
def test_bad_words_get_a_sentence_and_exit_code_2(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refuse(words, capsys)


@pytest.mark.parametrize(
    ("name", "part"),
    [("text.png", "not a picture"), ("cut.png", "cut"), ("huge.png", "mega"), ("no.png", "exist")],
)
def test_bad_images_are_refused_from_options_and_files(
    images: Path, name: str, part: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert part in refuse(["--cli", "a cat", "--image", str(images / name)], capsys)
    lines = [{"prompt": "a dog"}, {"prompt": "a cat", "image": str(images / name)}]
    file = tmp_path / "p.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    sentence = refuse(["--cli", "--file", str(file)], capsys)
    assert sentence.startswith("p.jsonl line 2: ")
    assert part in sentence


def test_a_bad_line_in_a_file_is_refused_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.csv").write_text("prompt,colour\na cat,red\n", encoding="utf-8")
    assert "p.csv line 1" in refuse(["--cli", "--file", str(tmp_path / "p.csv")], capsys)
    (tmp_path / "p.jsonl").write_text('{"prompt": "a cat"}\n{"pro', encoding="utf-8")
    assert "p.jsonl line 2" in refuse(["--cli", "--file", str(tmp_path / "p.jsonl")], capsys)


def test_help_and_the_door_say_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", "--help"]) == main(["--help"]) == main(["doctor", "--help"]) == 0
    out, err = capsys.readouterr()
    assert "--no-browser" in out
    assert "--dry-run" in out
    assert err == ""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("aiprod-studio ")


def test_help_is_quick_and_imports_no_torch() -> None:
    code = (
        "import sys, time; from aiprod_studio.cli import main; main(['--help']);"
        "assert not {'torch', 'numpy', 'av', 'rich'} & sys.modules.keys();"
        "sys.stderr.write(str(time.process_time()))"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=True)
    # Seconds of the processor: those of the clock depend on what else this machine does.
    assert float(done.stderr) < 0.5


def test_what_nobody_foresaw_is_logged_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down(words: list[str]) -> int:
        raise ZeroDivisionError("the ship of state")

    monkeypatch.setattr(cli, "_show", break_down)
    assert main(["show", "a.mp4"]) == 1
    out, err = capsys.readouterr()
    log = settings().logs / "studio.log"
    assert "ZeroDivisionError" in err
    assert str(log) in err
    assert "Traceback" not in out + err
    assert "the ship of state" in log.read_text(encoding="utf-8")
    log.unlink()
    log.mkdir()
    assert main(["show", "a.mp4"]) == 1
    assert "cannot be written either" in capsys.readouterr().err


def test_options_give_way_to_lines_and_presets_to_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "prompt,seed,audio\na cat,,no\na dog,5,\n"
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    words = ["--preset", "draft", "--seed", "3", "--fps", "8", "--out", str(tmp_path / "out")]
    file = ["--file", str(tmp_path / "p.csv"), "--dry-run", "--json", "--", "-a bird"]
    assert main(["--cli", *words, *file]) == 0
    plans = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    requests = [Request.from_json(plan["request"]) for plan in plans]
    assert [one.prompt for one in requests] == ["-a bird", "a cat", "a dog"]
    assert [one.seed for one in requests] == [3, 3, 5]
    assert [one.audio for one in requests] == [True, False, True]
    assert {one.steps for one in requests} == {4}
    assert main(["--cli", "a cat", "--preset", "draft", "--steps", "2", "--dry-run"]) == 0
    assert "2 steps" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--engine", "sora"], "starter"),
        (["--width", "17"], "width is 17"),
        (["--seconds", "600"], "--seconds"),
        (["--fps", "120"], "fps is 120"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refuse(["--cli", "a cat", *words], capsys)


def test_an_output_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert "file" in refuse(["--cli", "a cat", "--out", str(tmp_path / "file" / "out")], capsys)


def test_doctor_and_train_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("ok      render       a clip of ")
    assert lines[-1] == "All is well."
    assert main(["doctor", "--no-render"]) == 0
    assert "render" not in capsys.readouterr().out.replace("renders", "")
    assert main(["train", "--help"]) == 0


def start(words: list[str], before: Callable[[], object] | None = None) -> subprocess.Popen[str]:
    """Start the studio as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "aiprod_studio", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        preexec_fn=before,
    )


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clips, the lines and the progress of one batch."""
    folder = tmp_path_factory.mktemp("batch")
    lines = [{"prompt": "a dog", "seed": 5}, {"prompt": "猫が走る", "audio": False}]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (folder / "p.jsonl").write_text(text, encoding="utf-8")
    words = ["--cli", "--file", str(folder / "p.jsonl"), "--out", str(folder / "out"), "--json"]
    process = start([*words, *QUICK])
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    (folder / "stdout").write_text(out, encoding="utf-8")
    (folder / "stderr").write_text(err, encoding="utf-8")
    return folder


def test_a_batch_writes_clips_json_and_progress(batch: Path) -> None:
    lines = [json.loads(line) for line in (batch / "stdout").read_text("utf-8").splitlines()]
    assert [line["status"] for line in lines] == ["done", "done"]
    assert [line["line"] for line in lines] == ["p.jsonl line 1", "p.jsonl line 2"]
    assert [Path(line["path"]).name for line in lines] == ["a-dog-seed5.mp4", "猫が走る.mp4"]
    for line in lines:
        request = Request.from_json(line["request"])
        assert read_request(Path(line["path"])) == request
        assert request.seed is not None
    assert sorted(path.name for path in (batch / "out").iterdir()) == [
        "a-dog-seed5.mp4",
        "猫が走る.mp4",
    ]
    err = (batch / "stderr").read_text("utf-8")
    assert "[2/2] 猫が走る" in err
    assert "2 clips: 2 done" in err


def test_show_prints_the_settings_inside(batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(batch / "out" / "猫が走る.mp4")
    assert main(["show", file, "--json"]) == 0
    inside = json.loads(capsys.readouterr().out)
    assert set(inside) == {"request", "plan", "version"}
    assert inside["request"]["prompt"] == "猫が走る"
    assert main(["show", file]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "  prompt      猫が走る" in out
    assert "  audio       false" in out


def test_from_renders_the_same_file_again(
    batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted((batch / "out").iterdir()):
        assert main(["--from", str(path), "--out", str(tmp_path)]) == 0
        again = Path(capsys.readouterr().out.strip())
        assert again.parent == tmp_path
        assert again.read_bytes() == path.read_bytes()


def test_resume_renders_only_what_is_missing(
    batch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--cli", "--file", str(batch / "p.jsonl"), "--out", str(batch / "out"), *QUICK]
    before = {path: path.read_bytes() for path in (batch / "out").iterdir()}
    assert main([*words, "--resume"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "2 clips: 2 skipped" in err
    assert main([*words, "a bird", "--resume", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(line["status"] for line in lines) == ["done", "skipped", "skipped"]
    (new,) = set((batch / "out").iterdir()) - set(before)
    assert read_request(new).prompt == "a bird"
    new.unlink()
    assert {path: path.read_bytes() for path in (batch / "out").iterdir()} == before


def limit_files(size: int) -> Callable[[], object]:
    """Return what keeps a process from writing files of more than `size` bytes: a full disk."""
    resource = pytest.importorskip("resource")
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    words = ["--cli", "a cat", "--seed", "1", "--out", str(tmp_path / "out"), *QUICK]
    process = start(words, limit_files(1024))
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (2, "")
    assert "full" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_failed_line_does_not_stop_the_others(batch: Path, tmp_path: Path) -> None:
    size = max(path.stat().st_size for path in (batch / "out").iterdir())
    lines = [{"prompt": "a dog", "seed": 5}, {"prompt": "a dog", "seed": 5, "width": 512}]
    lines = [lines[0], {**lines[1], "height": 512, "seconds": 2}, {**lines[0], "audio": False}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    words = ["--cli", "--file", str(tmp_path / "p.jsonl"), "--out", str(tmp_path / "out")]
    process = start([*words, *QUICK], limit_files(size + 1024))
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, err
    assert len(out.splitlines()) == 2
    assert [read_request(Path(line)).audio for line in out.splitlines()] == [True, False]
    assert sorted(map(str, (tmp_path / "out").iterdir())) == sorted(out.splitlines())
    assert "failed             p.jsonl line 2: The disk is full" in err
    assert "3 clips: 2 done, 1 failed" in err


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to whole consoles only")
def test_ctrl_c_leaves_only_whole_files(tmp_path: Path) -> None:
    words = ["--cli", "a dog", "--count", "50", "--seed", "1", "--out", str(tmp_path / "out")]
    process = start([*words, *QUICK])
    assert process.stdout is not None
    first = process.stdout.readline().strip()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("Stopped.")
    assert "Traceback" not in err
    finished = [first, *out.splitlines()]
    assert len(finished) < 50
    assert sorted(map(str, (tmp_path / "out").iterdir())) == sorted(finished)
    assert [read_request(Path(path)).prompt for path in finished] == ["a dog"] * len(finished)


def test_a_reader_that_leaves_ends_the_batch_quietly(tmp_path: Path) -> None:
    words = ["--cli", "a dog", "a cat", "a bird", "--out", str(tmp_path / "out"), *QUICK]
    process = start(words)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "Error" not in err
    assert all(read_request(path) for path in (tmp_path / "out").iterdir())
