"""The report: what was tried, how often, what it broke, and whether a broken control was caught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

__all__ = ["Report", "Trials", "table"]

_PROPERTY: Final = "faults"
_SHOWN: Final = 40


@dataclass(slots=True)
class Trials:
    """How often something was tried, how often that broke the promise, and the first texts that say how.

    Example:
        >>> trials = Trials()
        >>> trials.add()
        >>> trials.add("torn after call 3", "a temp file is left")
        >>> trials.count, trials.broken
        (2, 1)
    """

    count: int = 0
    broken: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, *violations: str) -> None:
        """Count one trial; with any violation it broke the promise."""
        self += Trials(1, bool(violations), [violation[:300] for violation in violations])

    def __iadd__(self, other: Trials) -> Trials:
        self.count += other.count
        self.broken += other.broken
        self.violations = (self.violations + other.violations)[:_SHOWN]
        return self


class Report:
    """Records the trials of one test, in a form that reaches the table from any process of pytest."""

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._properties = properties

    def record(self, promise: str, kept: Trials, *controls: Trials) -> None:
        """Note the trials of persistkit and of its broken controls, then judge them.

        Args:
            promise: what holds, and under which fault; tests with the same text share a row of the table.
            kept: the trials of persistkit.
            controls: the trials of broken writers, by the very same code; each must have been caught at least once.

        Raises:
            AssertionError: a violation, a control that was not caught, or nothing tried at all.
        """
        caught, tried = sum(control.broken for control in controls), sum(control.count for control in controls)
        self._properties.append((_PROPERTY, (promise, kept.count, kept.broken, caught, tried)))
        assert kept.violations == [], f"{kept.broken} of {kept.count}: {kept.violations}"
        assert kept.count, "nothing was tried"
        assert controls, "without a control nothing is proved"
        assert all(control.broken for control in controls), "a broken control was not caught"


def table(reports: Iterable[pytest.TestReport]) -> str:
    """Return what the tests recorded as a Markdown table, with the skipped ones below; empty when there is nothing."""
    rows: dict[str, list[int]] = {}
    skipped: Counter[str] = Counter()
    for report in reports:
        if report.skipped and "faults/" in report.nodeid:
            skipped[_reason(report)] += 1
        if report.when == "call":
            for name, recorded in report.user_properties:
                if name == _PROPERTY:
                    # Any: from another process pytest brings a property as plain JSON, a list in the place of a tuple.
                    row: Any = recorded
                    before = rows.get(row[0], [0, 0, 0, 0])
                    rows[row[0]] = [sum(pair) for pair in zip(before, row[1:], strict=True)]
    lines = [
        f"| {promise} | {trials:,} | {broken:,} | {caught:,} of {of:,} |"
        for promise, (trials, broken, caught, of) in rows.items()
    ]
    if lines:
        lines = ["| promise | trials | violations | control caught |", "|---|---:|---:|---:|", *lines]
    lines += [f"\nSkipped: {count} tests, {reason}" for reason, count in skipped.items()]
    return "\n".join(lines)


def _reason(report: pytest.TestReport) -> str:
    # pytest gives a skip as (file, line, reason).
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
