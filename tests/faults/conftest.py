"""What the tests of faults share: the report, and how many trials are asked for."""

from __future__ import annotations

import os

import pytest

from .report import Report, table


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Where a test notes its trials."""
    return Report(request.node.user_properties)


@pytest.fixture(scope="session")
def times() -> int:
    """How many times as many trials as CI makes (``python -m tests.faults --times``)."""
    return int(os.environ.get("FAULTS_TIMES", "1"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of what was tried, whenever anything was."""
    outcomes = ("passed", "failed", "skipped")
    printed = table([report for outcome in outcomes for report in terminalreporter.getreports(outcome)])
    if printed:
        terminalreporter.section("promises broken on purpose")
        terminalreporter.write_line(printed)
