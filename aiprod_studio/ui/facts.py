"""Facts of the machine for the eye and for a bug report, which tells nothing private."""

from __future__ import annotations

import os
import platform
import re
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from aiprod_studio import __version__
from aiprod_studio.settings import free_bytes, settings
from aiprod_studio.types import Hardware
from aiprod_studio.ui.texts import Texts

PACKAGES = ("torch", "av", "numpy", "pillow", "gradio", "sqlalchemy", "diffusers", "transformers")
LOG_LINES = 60
_READ_BYTES = 64 * 1024
_SECRETS = (
    (re.compile(r"\b(hf|sk|ghp|gho|glpat|xox[bp])[_-][A-Za-z0-9_-]{8,}"), r"\1_…"),
    (
        re.compile(
            r"(?i)\b(token|password|secret|api[_-]?key|authorization)(\W{1,3})(?:bearer\s+)?\S+"
        ),
        r"\1\2…",
    ),
    (re.compile(r"(\w+://)[^\s/@]+@"), r"\1…@"),
)


def draw_memory(hardware: Hardware | None, say: Texts) -> str:
    """Return bars of the memory that is free now."""
    if hardware is None:
        return f'<p class="as-card as-note">{escape(say("plan.unknown"))}</p>'
    bars = [_bar(say("system.ram"), hardware.ram_free_bytes, hardware.ram_bytes, say)]
    if hardware.device != "cpu":
        bars.append(_bar(hardware.name, hardware.free_bytes, hardware.total_bytes, say))
    return f'<div class="as-card as-memory">{"".join(bars)}</div>'


def draw_facts(hardware: Hardware | None, say: Texts) -> str:
    """Return hardware, folders and versions as a table."""
    rows = dict(_folders())
    if hardware is not None:
        rows |= {
            "system.device": f"{hardware.name} ({hardware.device})",
            "system.cores": str(hardware.cores),
        }
    rows["system.disk"] = _gigabytes(free_bytes(settings().outputs))
    rows["system.versions"] = ", ".join(_versions())
    table = "".join(
        f"<dt>{escape(say(key))}</dt><dd>{escape(value)}</dd>" for key, value in rows.items()
    )
    return f'<div class="as-card as-facts-table"><dl>{table}</dl></div>'


def write_report(hardware: Hardware | None, log: Path) -> str:
    """Return a bug report: versions, hardware and the log's end, without names and secrets."""
    lines = [f"AIPROD Studio {__version__}, Python {platform.python_version()}"]
    lines += [platform.platform(), ", ".join(_versions())]
    if hardware is not None:
        total, free = _gigabytes(hardware.total_bytes), _gigabytes(hardware.free_bytes)
        lines.append(f"{hardware.device}: {hardware.name}, {hardware.cores} cores")
        lines.append(f"{free} of {total} free; {hardware.because}")
    lines.append(f"{_gigabytes(free_bytes(settings().outputs))} of disk free")
    for name in ("studio.log", log.name):
        end = read_end(log.with_name(name))
        if end:
            lines += ["", f"--- {name}", end]
    return hide_private("\n".join(lines))


def hide_private(text: str) -> str:
    """Return `text` with tokens, passwords and the name of the person's home folder hidden."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    for home in {str(Path.home()), os.environ.get("USERPROFILE", "")} - {"", "/"}:
        text = text.replace(home, "~")
    return text


def read_end(log: Path) -> str:
    """Return the last lines of a log, empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _READ_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-LOG_LINES:])


def _bar(name: str, free: int, total: int, say: Texts) -> str:
    percent = round(100 * (1 - free / total)) if total else 0
    told = say("system.free", free=_gigabytes(free), total=_gigabytes(total))
    return (
        f'<div><p class="as-told"><span>{escape(name)}</span><span>{escape(told)}</span></p>'
        f'<div class="as-bar" role="meter" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}" aria-label="{escape(name)}">'
        f'<span style="width:{percent}%"></span></div></div>'
    )


def _folders() -> list[tuple[str, str]]:
    found = settings()
    return [
        ("system.outputs", str(found.outputs)),
        ("system.home", str(found.home)),
        ("system.logs", str(found.logs)),
        ("system.presets", str(found.home / "presets")),
    ]


def _versions() -> list[str]:
    """Return the versions of what is installed of `PACKAGES`."""
    found = [f"studio {__version__}", f"python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:.1f} GB"
