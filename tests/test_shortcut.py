"""The shortcut: what it holds on every system, and real ones below a temporary home."""

from __future__ import annotations

import configparser
import os
import plistlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from aiprod_studio import shortcut

REPOSITORY = Path(__file__).resolve().parents[1]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="tested on Linux only")


@LINUX
def test_describes_a_desktop_entry() -> None:
    entry = configparser.RawConfigParser()
    entry.read_string(
        shortcut.describe_desktop_entry("/a b/python", '/c "$d`/100%\\launcher.py', "/i.png")
    )
    # The desktop reads the value as a string first, then as arguments in quotes.
    written = entry["Desktop Entry"]["Exec"].replace("\\\\", "\\").replace("%%", "%")
    arguments = [quoted[1:-1] for quoted in re.findall(r'"(?:[^"\\]|\\.)*"', written)]
    unquoted = [re.sub(r"\\(.)", r"\1", argument) for argument in arguments]
    assert written.startswith("sh -c ")
    assert unquoted[1:] == ["/a b/python", '/c "$d`/100%\\launcher.py']
    shown = subprocess.run(
        ["sh", "-c", unquoted[0], "echo", "a  b"], input="\n", capture_output=True, text=True
    )
    assert shown.stdout == "a  b\nPress Enter to close this window.\n"
    assert entry["Desktop Entry"]["Terminal"] == "true"


def test_describes_a_mac_app() -> None:
    png = (REPOSITORY / "assets" / "icon.png").read_bytes()
    files = shortcut.describe_mac_app("/a b/python", "/it's/launcher.py", png)
    plist = plistlib.loads(files["Contents/Info.plist"])
    assert f"Contents/MacOS/{plist['CFBundleExecutable']}" in files
    icns = files[f"Contents/Resources/{plist['CFBundleIconFile']}"]
    assert icns[:4] == b"icns"
    assert int.from_bytes(icns[4:8], "big") == len(icns)
    assert icns.endswith(png)
    start = files["Contents/Resources/start.command"].decode()
    assert shlex.split(start.splitlines()[1]) == ["exec", "/a b/python", "/it's/launcher.py"]


def test_describes_a_windows_link() -> None:
    script = shortcut.describe_windows_link("C:\\py\\python.exe", "C:\\it's\\launcher.py", "i.ico")
    assert "$link.TargetPath = 'C:\\py\\python.exe'" in script
    assert "$link.Arguments = '\"C:\\it''s\\launcher.py\"'" in script
    assert script.count("'") % 2 == 0


def test_has_its_icons() -> None:
    png = (REPOSITORY / "assets" / "icon.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert [int.from_bytes(png[i : i + 4], "big") for i in (16, 20)] == [256, 256]
    assert (REPOSITORY / "assets" / "icon.ico").read_bytes()[:4] == b"\0\0\1\0"
    assert "<svg" in (REPOSITORY / "assets" / "icon.svg").read_text()


@LINUX
def test_makes_a_shortcut(tmp_path: Path) -> None:
    (tmp_path / "Desktop").mkdir()
    data = str(tmp_path / "data")
    done = subprocess.run(
        [sys.executable, "-m", "aiprod_studio.shortcut", "/a b/python", "/c d/launcher.py"],
        env={**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": data, "PATH": "/nowhere"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    menu, desktop = map(Path, done.stdout.splitlines())
    assert menu == tmp_path / "data" / "applications" / "aiprod-studio.desktop"
    assert desktop == tmp_path / "Desktop" / "aiprod-studio.desktop"
    assert "/c d/launcher.py" in menu.read_text(encoding="utf-8")
    assert os.access(desktop, os.X_OK)


@LINUX
def test_makes_a_mac_app(tmp_path: Path) -> None:
    (app,) = shortcut.make_shortcut("Darwin", "/a b/python", "/c d/launcher.py", tmp_path)
    assert Path(app) == tmp_path / "Desktop" / "AIPROD Studio.app"
    for script in ("Contents/MacOS/open", "Contents/Resources/start.command"):
        subprocess.run(["sh", "-n", Path(app) / script], check=True)
        assert os.access(Path(app) / script, os.X_OK)


@LINUX
def test_says_what_it_cannot_write(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
        assert shortcut.main(["/python", "/launcher.py"]) == 2
    assert "file" in capfd.readouterr().err
