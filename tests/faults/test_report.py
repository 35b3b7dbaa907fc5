"""The report judges: it refuses violations, controls that were not caught, and tests that tried nothing."""

from __future__ import annotations

import pytest

from .report import Report, Trials, table


def trials_of(count: int, broken: int) -> Trials:
    """Return so many trials, the first ones broken."""
    trials = Trials()
    for number in range(count):
        trials.add(*["torn"] * (number < broken))
    return trials


@pytest.mark.parametrize(
    ("kept", "controls", "verdict"),
    [
        (trials_of(3, 1), [trials_of(3, 3)], "1 of 3"),
        (trials_of(0, 0), [trials_of(3, 3)], "nothing was tried"),
        (trials_of(3, 0), [], "without a control"),
        (trials_of(3, 0), [trials_of(3, 3), trials_of(3, 0)], "not caught"),
    ],
)
def test_what_proves_nothing_fails(kept: Trials, controls: list[Trials], verdict: str) -> None:
    """A violation, an empty test and a control that slipped through each fail, and stand in the report all the same."""
    properties: list[tuple[str, object]] = []
    with pytest.raises(AssertionError, match=verdict):
        Report(properties).record("whole", kept, *controls)
    assert len(properties) == 1


def test_the_table_adds_up_rows_of_one_promise_and_counts_what_was_skipped() -> None:
    """Tests of one promise share a row; a skipped test is named below."""
    properties: list[tuple[str, object]] = []
    report = Report(properties)
    report.record("whole", trials_of(1000, 0), trials_of(10, 7))
    report.record("whole", trials_of(500, 0), trials_of(10, 10))
    done = pytest.TestReport("faults/a", ("a", 1, "a"), {}, "passed", None, "call", user_properties=properties)
    reason = ("a", 1, "Skipped: the kernel refuses ext4")
    skipped = pytest.TestReport("faults/b", ("b", 1, "b"), {}, "skipped", reason, "setup")
    assert table([done, skipped]).splitlines() == [
        "| promise | trials | violations | control caught |",
        "|---|---:|---:|---:|",
        "| whole | 1,500 | 0 | 17 of 20 |",
        "",
        "Skipped: 1 tests, Skipped: the kernel refuses ext4",
    ]
    assert table([]) == ""
