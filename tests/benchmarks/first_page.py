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

from tests.ui.conftest import FLAGS, PATIENCE_MS, find_port, read_address, start_studio

STARTS = 3
MARKS = {
    "prompt": "#porch textarea:focus",
    "form": "#as-prompt textarea:focus",
    "plan": "#as-plan .as-fits",
}
"""What is waited for, in this order: a prompt can be typed, in the form of the page, the plan."""


def start(home: Path, browser: Browser) -> list[float]:
    """Return the seconds until the address is told, and until each of `MARKS` is there."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    port = find_port()
    begin = time.perf_counter()
    with start_studio(home, port) as process:
        read_address(process, port)
        seconds = [time.perf_counter() - begin]
        page.goto(f"http://127.0.0.1:{port}/", wait_until="commit")
        for mark in MARKS.values():
            page.locator(mark).wait_for()
            seconds.append(time.perf_counter() - begin)
        page.close()
    return seconds


def main() -> None:
    """Print the table."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    load, cores = os.getloadavg()[0], os.cpu_count()
    print(f"{cores} cores, load {load:.1f}, Python {sys.version.split()[0]}")
    print(f"{'start':<8}" + "".join(f"{name:>10}" for name in ("address", *MARKS)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        for number in range(1, STARTS + 1):
            seconds = start(Path(folder), browser)
            print(f"{number:<8}" + "".join(f"{each:8.2f} s" for each in seconds))
        browser.close()


if __name__ == "__main__":
    main()
