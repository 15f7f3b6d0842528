"""A shortcut to the launcher, where this system's users look for programs."""

from __future__ import annotations

import os
import platform
import plistlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from aiprod_studio.errors import StudioError
from aiprod_studio.settings import settings

NAME = "AIPROD Studio"


def quote_exec(argument: str) -> str:
    """Quote an argument for a desktop entry's Exec line, where two layers eat backslashes."""
    quoted = re.sub(r'(["`$\\])', r"\\\1", argument).replace("\\", "\\\\").replace("%", "%%")
    return f'"{quoted}"'


def describe_desktop_entry(python: str, launcher: str, icon: str) -> str:
    """Return a Linux desktop entry; its terminal shows the install and, when closed, ends all."""
    script = quote_exec('"$0" "$1"; echo "Press Enter to close this window."; read -r _')
    return (
        f"[Desktop Entry]\nType=Application\nName={NAME}\nComment=Prompt to video with sound\n"
        f"Exec=sh -c {script} {quote_exec(python)} {quote_exec(launcher)}\nIcon={icon}\n"
        "Terminal=true\nCategories=AudioVideo;Video;Graphics;\n"
    )


def describe_mac_app(python: str, launcher: str, png: bytes) -> dict[str, bytes]:
    """Return the files of a macOS app that opens the launcher in Terminal."""
    plist = {
        "CFBundleName": NAME,
        "CFBundleIdentifier": "studio.aiprod.launcher",
        "CFBundlePackageType": "APPL",
        "CFBundleExecutable": "open",
        "CFBundleIconFile": "icon.icns",
    }
    # An icns file is a list of (kind, length, data); kind ic08 is a PNG of 256 x 256.
    picture = b"ic08" + (len(png) + 8).to_bytes(4, "big") + png
    opening = '#!/bin/sh\nexec open -a Terminal "${0%/*}/../Resources/start.command"\n'
    starting = f"#!/bin/sh\nexec {shlex.quote(python)} {shlex.quote(launcher)}\n"
    return {
        "Contents/Info.plist": plistlib.dumps(plist),
        "Contents/MacOS/open": opening.encode(),
        "Contents/Resources/start.command": starting.encode(),
        "Contents/Resources/icon.icns": b"icns" + (len(picture) + 8).to_bytes(4, "big") + picture,
    }


def describe_windows_link(python: str, launcher: str, icon: str) -> str:
    """Return the PowerShell script that puts a link on the desktop and prints its path."""
    target, argument, picture, folder = (
        "'" + text.replace("'", "''") + "'"
        for text in (python, f'"{launcher}"', icon, str(Path(launcher).parent))
    )
    return (
        "$ErrorActionPreference = 'Stop'\n"
        f"$path = Join-Path ([Environment]::GetFolderPath('Desktop')) '{NAME}.lnk'\n"
        "$link = (New-Object -ComObject WScript.Shell).CreateShortcut($path)\n"
        f"$link.TargetPath = {target}\n$link.Arguments = {argument}\n"
        f"$link.IconLocation = {picture}\n$link.WorkingDirectory = {folder}\n"
        "$link.Save()\n$path\n"
    )


def run_for_text(command: Sequence[str]) -> str:
    """Return what a small system program prints; raise StudioError if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise StudioError(
            f"{command[0]} failed ({done.stderr.strip()[:200]}). Next: make a shortcut to"
            " launcher.py by hand."
        )
    return done.stdout.strip()


def make_shortcut(system: str, python: str, launcher: str, user: Path) -> list[str]:
    """Put a shortcut below the home folder `user` that starts `launcher` with `python`.

    Returns the paths of what was made; raises `StudioError` when the system refuses.
    """
    assets = settings().assets
    if system == "Windows":
        script = describe_windows_link(python, launcher, str(assets / "icon.ico"))
        return [run_for_text(["powershell", "-NoProfile", "-Command", script])]
    if system == "Darwin":
        app = user / "Desktop" / f"{NAME}.app"
        png = (assets / "icon.png").read_bytes()
        for name, content in describe_mac_app(python, launcher, png).items():
            (app / name).parent.mkdir(parents=True, exist_ok=True)
            (app / name).write_bytes(content)
            (app / name).chmod(0o755)
        return [str(app)]
    entry = describe_desktop_entry(python, launcher, str(assets / "icon.png"))
    data = os.environ.get("XDG_DATA_HOME", "").strip() or user / ".local" / "share"
    places = [Path(data) / "applications"]
    places[0].mkdir(parents=True, exist_ok=True)
    named = shutil.which("xdg-user-dir") and run_for_text(["xdg-user-dir", "DESKTOP"])
    desktop = Path(named or user / "Desktop")
    places += [desktop] if desktop.is_dir() and desktop != user else []
    links = [place / "aiprod-studio.desktop" for place in places]
    for link in links:
        link.write_text(entry, encoding="utf-8")
        link.chmod(0o755)
    return [str(link) for link in links]


def main(arguments: Sequence[str]) -> int:
    """Make the shortcut for the Python and the launcher in `arguments`; return the exit code."""
    python, launcher = arguments
    try:
        links = make_shortcut(platform.system(), python, launcher, Path.home())
    except (StudioError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write("\n".join(links) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
