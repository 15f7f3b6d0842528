"""The launcher: its choices as pure functions, its installs for real on a tiny project."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from aiprod_studio.errors import StudioError

REPOSITORY = Path(__file__).resolve().parents[1]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="did not run: tested on Linux only")
CLOSED_PORT = "http://127.0.0.1:9/simple"

BACKEND = """
import os, time, zipfile
from pathlib import Path

NAMES = ["Metadata-Version: 2.1", "Name: tiny-studio", "Version: 1", "Provides-Extra: test"]


def get_requires_for_build_editable(config_settings=None):
    return []


def build_editable(folder, config_settings=None, metadata_directory=None):
    Path("builds").open("a").write("x")
    while Path("wait").exists():
        time.sleep(0.05)
    if Path("broken").exists():
        raise SystemExit("this backend is broken")
    needs = ["Requires-Dist: " + name for name in Path("needs").read_text().split()]
    with zipfile.ZipFile(Path(folder, "tiny_studio-1-py3-none-any.whl"), "w") as wheel:
        info = "tiny_studio-1.dist-info/"
        wheel.writestr("tiny_studio.pth", os.getcwd())
        wheel.writestr(info + "METADATA", chr(10).join([*NAMES, *needs, ""]))
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n")
        wheel.writestr(info + "RECORD", "")
    return "tiny_studio-1-py3-none-any.whl"
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
PROGRAM = "import os, sys; print('studio', os.getcwd(), *sys.argv[1:]); sys.exit(len(sys.argv) - 2)"
# Stands in for pytest, which the offline environment cannot get.
TESTS = "import os, sys; print('tests', os.getcwd(), *sys.argv[1:])"


def load_launcher() -> ModuleType:
    """Return launcher.py as a module, which importing it must not start."""
    spec = importlib.util.spec_from_file_location("launcher", REPOSITORY / "launcher.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


launcher = load_launcher()


@dataclass(frozen=True)
class Studio:
    """A tiny project with our launcher, and its data folder."""

    root: Path
    home: Path

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(self.root / "launcher.py")]

    def environ(self, **extra: str) -> dict[str, str]:
        """Return an environment whose pip knows no index but an empty folder."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "AIPROD_"))}
        offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": self.root.as_uri()}
        return {**kept, **offline, "AIPROD_HOME": str(self.home), **extra}

    def run(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run the launcher and return what it printed."""
        return subprocess.run(
            [*self.command, *arguments],
            env=self.environ(**extra),
            cwd=self.root.parent,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def log(self) -> str:
        return (self.home / "logs" / "install.log").read_text(encoding="utf-8")


def write_studio(folder: Path) -> Studio:
    """Write the tiny project below `folder`; spaces and accents are part of the test."""
    root = folder / "a café"
    for name in ("__init__.py", "errors.py", "hardware/__init__.py", "hardware/builds.py"):
        (root / "aiprod_studio" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "aiprod_studio" / name, root / "aiprod_studio" / name)
    (root / "aiprod_studio" / "__main__.py").write_text(PROGRAM)
    (root / "aiprod_studio" / "shortcut.py").write_text(PROGRAM)
    (root / "pytest.py").write_text(TESTS)
    (root / "backend.py").write_text(BACKEND)
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "constraints.txt").write_text("# nothing\n")
    (root / "needs").touch()
    shutil.copy(REPOSITORY / "launcher.py", root)
    return Studio(root, folder / "the home")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """One finished install, which tests may start but not change."""
    studio = write_studio(tmp_path_factory.mktemp("installed"))
    first = studio.run("one")
    assert first.stdout == f"studio {studio.root.parent} one\n", first.stderr
    assert "Size: about" in first.stderr
    assert "PyTorch: " in first.stderr
    return studio


@pytest.fixture
def studio(tmp_path: Path, installed: Studio) -> Studio:
    """A project of its own, with an environment that was installed for another one."""
    mine = write_studio(tmp_path)
    shutil.copytree(installed.home, mine.home, symlinks=True)
    return mine


# --- choices -------------------------------------------------------------------------------------


def test_names_the_python_it_needs() -> None:
    launcher.check_python((3, 11))
    with pytest.raises(StudioError, match=r"this is 3\.9\. Next:"):
        launcher.check_python((3, 9))


@pytest.mark.parametrize(
    ("system", "environ", "expected"),
    [
        ("Linux", {}, "/u/.local/share/AIPROD Studio"),
        ("Linux", {"XDG_DATA_HOME": "/data"}, "/data/AIPROD Studio"),
        ("Darwin", {}, "/u/Library/Application Support/AIPROD Studio"),
        ("Windows", {}, "/u/AppData/Local/AIPROD Studio"),
        ("Windows", {"LOCALAPPDATA": "/local"}, "/local/AIPROD Studio"),
        ("Windows", {"AIPROD_HOME": "/mine"}, "/mine"),
    ],
)
def test_finds_the_data_folder(system: str, environ: dict[str, str], expected: str) -> None:
    assert launcher.find_home(system, environ, Path("/u")).as_posix() == expected


@pytest.mark.parametrize(
    ("output", "word"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full"),
        ("OSError: [WinError 112] Es steht nicht genug Speicherplatz zur", "disk is full"),
        ("ERROR: [WinError 5] Zugriff verweigert: 'C:\\\\x'\nCheck the permissions.", "written"),
        ("HINT: this system does not have Windows Long Path support enabled", "too long"),
        ("NewConnectionError: [Errno -2]\nERROR: No matching distribution found", "network"),
        ("Retrying ... ConnectTimeoutError(...)\nERROR: No matching distribution", "network"),
        ("(SSLError(... CERTIFICATE_VERIFY_FAILED ...)) NewConnectionError", "clock"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "damaged"),
        ("ERROR: No matching distribution found for torch==2.13.0", "Python 3."),
        ("Collecting async-timeout\nERROR: Package requires a different Python", "Python 3."),
        ("ERROR: ResolutionImpossible: for help visit", "do not fit together"),
        ("Collecting async-timeout\nKilled", "exit code 7"),
    ],
)
def test_turns_failures_into_sentences(output: str, word: str) -> None:
    sentence = launcher.explain_failure(output, 7, Path("/env"))
    assert word in sentence
    assert "Next: " in sentence
    assert "{" not in sentence


def test_shows_the_gist_of_pip() -> None:
    assert launcher.shorten("Collecting numpy==2.0 (from tiny)") == "  numpy==2.0"
    assert "526.6 MB" in launcher.shorten("Downloading torch-2.13.0-cp311.whl (526.6 MB)")
    assert launcher.shorten("Downloading https://x.org/small-1.whl (95 kB)") == ""
    assert launcher.shorten("Processing /wheels/torch-2.whl") == "  torch-2.whl"
    assert "3 packages" in launcher.shorten("Installing collected packages: a, b, c")
    assert launcher.shorten("Looking in indexes: https://pypi.org/simple") == ""


# --- real installs and starts --------------------------------------------------------------------


def test_helps_without_an_environment(tmp_path: Path) -> None:
    studio = write_studio(tmp_path)
    done = studio.run("--help")
    assert done.returncode == 0
    assert "--cli" in done.stdout
    assert not studio.home.exists()


def test_starts_again_without_pip(installed: Studio) -> None:
    before = (installed.home / "logs" / "install.log").stat().st_mtime_ns
    again = installed.run("--cli", "a brown dog")
    assert again.stdout == f"studio {installed.root.parent} --cli a brown dog\n"
    assert again.stderr == ""
    assert again.returncode == 1
    assert installed.run().stdout.split()[-1] == "ui"
    assert (installed.home / "logs" / "install.log").stat().st_mtime_ns == before


def test_makes_the_shortcut_with_its_own_python(installed: Studio) -> None:
    done = installed.run("--shortcut")
    assert done.stdout.endswith(f" {sys.executable} {installed.root / 'launcher.py'}\n")


def test_is_not_misled_by_the_users_files(installed: Studio) -> None:
    (installed.root.parent / "aiprod_studio.py").write_text("raise SystemExit('the wrong one')")
    assert installed.run("one").returncode == 0


def test_installs_the_test_tools_in_place(studio: Studio) -> None:
    (studio.home / "env" / "kept").touch()
    done = studio.run("--test", "-k", "launcher")
    assert done.stdout == f"tests {studio.root} -k launcher\n", done.stderr
    assert "[test]" in studio.log()
    assert (studio.home / "env" / "kept").exists()
    assert studio.run("one").stderr == ""
    assert studio.run("--test").stderr == ""


def test_goes_on_after_a_failure(studio: Studio) -> None:
    (studio.root / "broken").touch()
    failed = studio.run("one")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert "Next: " in failed.stderr
    assert str(studio.home / "logs" / "install.log") in failed.stderr
    assert "this backend is broken" in studio.log()
    (studio.home / "env" / "kept").touch()
    (studio.root / "broken").unlink()
    assert studio.run("one").returncode == 0
    assert (studio.home / "env" / "kept").exists()


@LINUX
def test_refuses_two_installs_and_survives_a_kill(studio: Studio) -> None:
    (studio.root / "wait").touch()
    with subprocess.Popen(
        [*studio.command, "one"],
        env=studio.environ(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as first:
        while not (studio.root / "builds").exists():
            assert first.poll() is None
            time.sleep(0.05)
        second = studio.run("one")
        first.send_signal(signal.SIGKILL)
    assert second.returncode == 2
    assert f"process {first.pid})" in second.stderr
    assert "Next: " in second.stderr
    # The killed launcher's pip still writes, so the lock must still be held.
    assert studio.run("one").returncode == 2
    (studio.root / "wait").unlink()
    for _ in range(100):
        third = studio.run("one")
        if "Another install" not in third.stderr:
            break
        time.sleep(0.1)
    assert third.returncode == 0, third.stderr


@LINUX
def test_rebuilds_a_broken_environment(studio: Studio) -> None:
    (studio.home / "env" / "left over").touch()
    for python in (studio.home / "env" / "bin").glob("python*"):
        python.unlink()
    assert studio.run("one").returncode == 0
    assert not (studio.home / "env" / "left over").exists()
    (studio.home / "env" / "left over").touch()
    repaired = studio.run("--repair")
    assert (repaired.returncode, repaired.stdout) == (0, "")
    assert not (studio.home / "env" / "left over").exists()


def test_never_clears_a_foreign_folder(tmp_path: Path) -> None:
    studio = write_studio(tmp_path)
    (studio.home / "env").mkdir(parents=True)
    (studio.home / "env" / "thesis.txt").touch()
    for arguments in (("one",), ("--repair",)):
        done = studio.run(*arguments)
        assert done.returncode == 2
        assert "no Python environment. Next:" in done.stderr
    assert (studio.home / "env" / "thesis.txt").exists()


@LINUX
@pytest.mark.parametrize("home", ["file/home", "/proc/home"])
def test_explains_a_folder_it_cannot_write(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").touch()
    done = write_studio(tmp_path).run("one", AIPROD_HOME=str(tmp_path / home))
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be written. Next: " in done.stderr
    assert home.partition("/")[0] in done.stderr
    assert "Traceback" not in done.stderr


@LINUX
def test_explains_a_full_disk(studio: Studio) -> None:
    (studio.home / "logs" / "install.log").unlink()
    (studio.home / "logs" / "install.log").symlink_to("/dev/full")
    done = studio.run("one")
    assert done.returncode == 2
    assert "The disk is full. Next: free some space" in done.stderr
    assert "Traceback" not in done.stderr


def test_explains_a_missing_network(studio: Studio) -> None:
    (studio.root / "needs").write_text("surely-not-here")
    offline = studio.run("one", PIP_INDEX_URL=CLOSED_PORT, PIP_RETRIES="1", NO_PROXY="*")
    assert offline.returncode == 2
    assert "does not answer. Next: connect this computer" in offline.stderr
    missing = studio.run("one")
    assert missing.returncode == 2
    assert "no build for Python 3." in missing.stderr


def test_explains_an_incomplete_copy(studio: Studio) -> None:
    (studio.root / "constraints.txt").unlink()
    done = studio.run("one")
    assert done.returncode == 2
    assert "constraints.txt cannot be read" in done.stderr


def write_torch(index: Path, local: str) -> None:
    """Put a stand-in for PyTorch, version 1.0+local, into a package index."""
    (index / "torch").mkdir(parents=True)
    name = f"torch-1.0+{local}-py3-none-any.whl"
    with zipfile.ZipFile(index / "torch" / name, "w") as wheel:
        info = "torch-1.0.dist-info/".replace("1.0", f"1.0+{local}")
        wheel.writestr("torch.py", f"build = {local!r}\n")
        wheel.writestr(
            info + "METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: 1.0+{local}\n"
        )
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr(info + "RECORD", "")
    (index / "torch" / "index.html").write_text(f'<a href="{name}">{name}</a>')


def test_takes_torch_from_the_index_that_was_named(studio: Studio, tmp_path: Path) -> None:
    (studio.root / "constraints.txt").write_text("torch==1.0\n")
    (studio.root / "aiprod_studio" / "__main__.py").write_text("import torch; print(torch.build)")
    for local in ("cpu", "cu130"):
        write_torch(tmp_path / local, local)
    cpu, cuda = ((tmp_path / local).as_uri() for local in ("cpu", "cu130"))
    first = studio.run(AIPROD_TORCH_INDEX=cpu)
    assert first.stdout == "cpu\n", first.stderr
    assert f"PyTorch: AIPROD_TORCH_INDEX is {cpu}." in first.stderr
    # What was installed stays, until another index is named.
    assert studio.run().stderr == ""
    assert studio.run(AIPROD_TORCH_INDEX=cuda).stdout == "cu130\n"
