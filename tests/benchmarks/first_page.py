"""Seconds from the start to a page that can be used: `python -m tests.benchmarks.first_page`.

A browser is there already. The first start is in a data folder of its own, as on a new machine.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.ui.conftest import FLAGS, PATIENCE_MS, run_studio

STARTS = 3


def start(home: Path, browser: Browser) -> tuple[float, float, float]:
    """Return the seconds until the address is told, a prompt can be typed, the plan is there."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    begin = time.perf_counter()
    with run_studio(home) as served:
        told = time.perf_counter() - begin
        page.goto(served.address, wait_until="commit")
        page.locator("#as-prompt textarea:enabled").wait_for()
        typed = time.perf_counter() - begin
        page.locator("#as-plan .as-fits").wait_for()
        planned = time.perf_counter() - begin
        page.close()
    return told, typed, planned


def main() -> None:
    """Print the table."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    load, cores = os.getloadavg()[0], os.cpu_count()
    print(f"{cores} cores, load {load:.1f}, Python {sys.version.split()[0]}")
    print(f"{'start':<8}{'address':>10}{'prompt':>10}{'plan':>10}")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        for number in range(1, STARTS + 1):
            told, typed, planned = start(Path(folder), browser)
            print(f"{number:<8}{told:8.2f} s{typed:8.2f} s{planned:8.2f} s")
        browser.close()


if __name__ == "__main__":
    main()
