"""The ledger: what was tried, how often, what it broke, and whether a broken control was caught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from .trials import Trials

__all__ = ["Ledger", "Trials", "table"]

_PROPERTY = "faults"
_SHOWN = 40


class Ledger:
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
        row = (
            promise,
            kept.count,
            kept.broken,
            sum(control.broken for control in controls),
            sum(control.count for control in controls),
        )
        self._properties.append((_PROPERTY, row))
        assert kept.violations == [], f"{kept.broken} of {kept.count}: {kept.violations[:_SHOWN]}"
        assert kept.count, "nothing was tried"
        assert controls, "without a control nothing is proved"
        assert all(control.broken for control in controls), "a broken control was not caught"


def table(reports: Iterable[pytest.TestReport]) -> str:
    """Return what the tests recorded as a Markdown table, with the skipped ones below; empty when there is nothing."""
    rows: dict[str, list[int]] = {}
    skipped: Counter[str] = Counter()
    for report in reports:
        if report.skipped and _is_ours(report.nodeid):
            skipped[_reason(report)] += 1
        if report.when == "call":
            for name, row in report.user_properties:
                if name == _PROPERTY:
                    promise, *figures = _row(row)
                    before = rows.get(promise, [0, 0, 0, 0])
                    rows[promise] = [sum(pair) for pair in zip(before, figures, strict=True)]
    lines = [
        f"| {promise} | {trials:,} | {broken:,} | {caught:,} of {of:,} |"
        for promise, (trials, broken, caught, of) in rows.items()
    ]
    if lines:
        lines = ["| promise | trials | violations | control caught |", "|---|---:|---:|---:|", *lines]
    lines += [f"\nSkipped: {count} tests, {reason}" for reason, count in skipped.items()]
    return "\n".join(lines)


def _is_ours(node_id: str) -> bool:
    return "faults/" in node_id


def _reason(report: pytest.TestReport) -> str:
    # pytest gives a skip as (file, line, reason).
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


def _row(recorded: object) -> Any:
    # Any: from another process pytest brings a property as plain JSON, a list in the place of a tuple.
    return recorded
