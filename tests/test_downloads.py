"""The command `models`, in processes of its own, against a real server."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from aiprod_studio.cli import main
from aiprod_studio.engines.hub.cache import PART_SUFFIX
from tests.loopback_hub import LoopbackHub

ROOT = Path(__file__).resolve().parents[1]
ENGINE, REPO = "wan2.1-1.3b", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
SIZE = 400_000
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
FILES = {
    "model_index.json": b"{}",
    "scheduler/scheduler_config.json": b"{}\n",
    "text_encoder/config.json": b"{ }",
    "text_encoder/model.safetensors": os.urandom(2000),
    "tokenizer/spiece.model": b"pieces",
    "transformer/config.json": b'{"layers": 30}',
    WEIGHTS: os.urandom(SIZE),
    "vae/config.json": b'{"z": 16}',
    "vae/diffusion_pytorch_model.safetensors": os.urandom(3000),
}
TOTAL = sum(map(len, FILES.values()))
PARTS = (
    "audio_vae",
    "connectors",
    "scheduler",
    "text_encoder",
    "tokenizer",
    "transformer",
    "vae",
    "vocoder",
)


@pytest.fixture
def server() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.add_repo(REPO, FILES)
        yield hub


class Shell:
    """Runs the command with folders of its own."""

    def __init__(self, server: LoopbackHub, home: Path) -> None:
        self.cache = home / "hf" / "hub"
        own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        self.environment = {
            **own,
            "AIPROD_HOME": str(home / "studio"),
            "HF_HOME": str(home / "hf"),
            "HF_ENDPOINT": server.url,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        }

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "aiprod_studio", "models", *words],
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **more: str) -> tuple[int, str, str]:
        process = self.start(*words, **more)
        out, said = process.communicate(timeout=60)
        return process.returncode, out, said


@pytest.fixture
def shell(server: LoopbackHub, tmp_path: Path) -> Shell:
    return Shell(server, tmp_path)


def wait_for_part(cache: Path, size: int) -> Path:
    """Return the unfinished file once it has `size` bytes."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for part in cache.rglob(f"*{PART_SUFFIX}"):
            if part.stat().st_size >= size:
                return part
        time.sleep(0.01)
    raise AssertionError("nothing arrives")


def test_a_killed_download_goes_on_at_its_very_byte(server: LoopbackHub, shell: Shell) -> None:
    server.fault(WEIGHTS, bytes_per_second=400_000)
    process = shell.start("download", ENGINE)
    part = wait_for_part(shell.cache, 150_000)
    process.kill()
    process.communicate()
    kept = part.stat().st_size
    assert kept < SIZE
    before = len(server.log)
    code, out, said = shell.run("download", ENGINE)
    assert code == 0, said
    folder = Path(out.strip())
    for name, data in FILES.items():
        assert (folder / name).read_bytes() == data
    sent = [one for one in server.log[before:] if one.sent]
    again = [(one.start, one.start + one.sent) for one in sent if one.path == WEIGHTS]
    assert again == [(kept, SIZE)]
    for name in set(FILES) - {WEIGHTS}:
        assert server.sent(name) == [(0, len(FILES[name]))]


def test_two_processes_share_one_download(server: LoopbackHub, shell: Shell) -> None:
    server.fault(WEIGHTS, bytes_per_second=400_000, times=None)
    both = [shell.start("download", ENGINE) for _ in range(2)]
    ends = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert ends[0][0] == ends[1][0]
    for name in FILES:
        assert server.sent(name) == [(0, len(FILES[name]))]


class Door:
    """Runs the command in this process, against the server and with folders of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        code = main(["models", *words])
        heard = self.capsys.readouterr()
        return code, heard.out, heard.err


@pytest.fixture
def door(
    server: LoopbackHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Door:
    # The Hub's library has read its environment long ago.
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return Door(capsys)


def test_a_model_from_the_first_look_to_its_removal(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = door.run("info", ENGINE, "--json")
    before = json.loads(out)
    assert code == 0
    assert (before["bytes"], before["missing_bytes"]) == (TOTAL, TOTAL)
    assert before["licence"]["name"] == "Apache-2.0"
    code, out, said = door.run("download", ENGINE, "--json", "--limit", "50M")
    assert code == 0
    assert json.loads(out)["complete"]
    assert "Apache-2.0" in said
    code, out, _ = door.run("list", "--json")
    rows = {row["engine"]: row for row in json.loads(out)}
    assert rows[ENGINE]["on_disk_bytes"] == TOTAL
    assert not rows[ENGINE]["computed"]
    assert rows["starter"]["renders"]
    damaged = Path(before["folder"]) / WEIGHTS
    damaged.resolve().write_bytes(bytes(SIZE))
    code, out, _ = door.run("verify", ENGINE)
    assert code == 1
    assert WEIGHTS in out
    assert door.run("verify", ENGINE, "--repair")[0] == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, out, _ = door.run("verify", ENGINE, "--json")
    assert code == 0
    assert len(json.loads(out)["right"]) == len(FILES)
    assert door.run("download", ENGINE)[0] == 0


def test_removing_asks_and_then_frees_the_disk(door: Door) -> None:
    door.run("download", ENGINE)
    code, _, said = door.run("remove", ENGINE)
    assert code == 2
    assert "--yes" in said
    code, out, _ = door.run("remove", ENGINE, "--yes", "--json")
    assert code == 0
    assert json.loads(out)["freed_bytes"] == TOTAL
    code, _, said = door.run("verify", ENGINE)
    assert code == 2
    assert "models download" in said


def test_what_is_refused_has_a_name_and_code_2(
    server: LoopbackHub, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{part}/{name}": b"x" for part in PARTS for name in ("c.json", "m.safetensors")}
    repo = "diffusers/LTX-2.3-Distilled-Diffusers"
    server.add_repo(repo, {"model_index.json": b"{}", **files})
    code, out, said = door.run("download", "ltx-2", "--json")
    assert code == 2
    assert json.loads(out)["error"] == "TermsNotAccepted"
    assert "--accept-licence" in said
    assert not server.sent("*.safetensors")
    code, out, said = door.run("download", "ltx-2", "--accept-licence")
    assert code == 0, said
    assert "You accept" in said
    code, out, said = door.run("download", "ltx-2")
    assert code == 0
    assert "You accept" not in said
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    code, out, said = door.run("download", ENGINE, "--json")
    assert code == 2
    assert json.loads(out)["error"] == "NoNetwork"


def test_what_fails_on_the_way_has_code_1(server: LoopbackHub, door: Door) -> None:
    server.fault(WEIGHTS, corrupt=1, times=None)
    code, out, said = door.run("download", ENGINE, "--json")
    assert code == 1
    assert json.loads(out)["error"] == "CorruptFile"
    assert "checksum" in said


def test_ctrl_c_keeps_what_arrived(server: LoopbackHub, shell: Shell) -> None:
    server.fault(WEIGHTS, bytes_per_second=200_000)
    process = shell.start("download", ENGINE)
    part = wait_for_part(shell.cache, 50_000)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "go on" in said
    assert "Traceback" not in said
    assert part.stat().st_size >= 50_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("download", "starter"), "without a download"),
        (("download", "nonesuch"), "wan2.1-1.3b"),
        (("download", ENGINE, "--limit", "fast"), "500k"),
        (("download", ENGINE, "--variant", "x"), "text"),
        (("fetch",), "models --help"),
    ],
)
def test_bad_words_are_refused_in_a_sentence(words: tuple[str, ...], said: str, door: Door) -> None:
    code, out, heard = door.run(*words)
    assert code == 2
    assert not out
    assert said in heard
    assert "Traceback" not in heard


def test_the_table_names_every_engine(door: Door) -> None:
    code, out, _ = door.run("list")
    assert code == 0
    for word in ("starter", ENGINE, "ltx-2", "6 to 8 GB", "about", "to accept", "renders"):
        assert word in out


def test_the_command_starts_without_torch(shell: Shell) -> None:
    program = (
        "import sys; from aiprod_studio.cli import main; assert main(['models', 'list']) == 0;"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=shell.environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
