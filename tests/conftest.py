"""What every test gets: folders of its own, and a loud report of what did not run."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from aiprod_studio.settings import settings

REQUIRED = "AIPROD_REQUIRE_ALL"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the studio's folders below the test's own temporary folder."""
    monkeypatch.setenv("AIPROD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AIPROD_OUTPUTS", raising=False)
    monkeypatch.delenv("AIPROD_DATABASE", raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


def pytest_configure() -> None:
    """Hear Ctrl-C, as what a shell starts in the background, and its children, does not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def sees_gpu() -> bool:
    """Return whether PyTorch can use a GPU here."""
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs a GPU where there is none."""
    if item.get_closest_marker("gpu") and not sees_gpu():
        pytest.skip("no GPU that PyTorch can use")


def insist(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure where everything is required; expected failures stay."""
    if os.environ.get(REQUIRED) and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{reason_of(report)}; {REQUIRED} is set, so this must run"


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why a test was skipped."""
    told = report.longrepr
    return str(told[2] if isinstance(told, tuple) else told).removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let no test go missing unseen, but for those that need a GPU, which no CI machine has."""
    report = yield
    if not item.get_closest_marker("gpu"):
        insist(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let no module go missing unseen."""
    report = yield
    insist(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name every test that did not run, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section(f"{len(skipped)} DID NOT RUN", red=True, bold=True)
    for report in skipped:
        terminalreporter.line(f"{report.nodeid}: {reason_of(report)}")
