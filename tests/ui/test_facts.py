"""The bug report tells nothing private."""

from __future__ import annotations

from pathlib import Path

from aiprod_studio.settings import settings
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.facts import draw_facts, draw_memory, hide_private, write_report


def test_secrets_and_the_home_folder_are_hidden() -> None:
    text = (
        f"{Path.home()}/clips token=abcdef12345 hf_AbCdEfGhIjKlMn "
        "postgresql://me:secret@db/studio Authorization: Bearer xyz"
    )
    hidden = hide_private(text)
    for secret in (str(Path.home()), "abcdef12345", "AbCdEf", "me:secret"):
        assert secret not in hidden
    assert "~/clips" in hidden


def test_the_report_has_versions_hardware_and_the_end_of_the_log(bench: Bench) -> None:
    log = settings().logs / "worker.log"
    log.parent.mkdir(parents=True)
    log.write_text("\n".join(f"line {n}" for n in range(500)), encoding="utf-8")
    hardware = bench.machine.hardware
    report = write_report(hardware, log)
    assert "AIPROD Studio" in report
    assert "line 499" in report
    assert "line 1\n" not in report
    assert hardware is not None
    assert hardware.name in draw_facts(hardware, bench.say)
    assert "GB free" in draw_memory(hardware, bench.say)
