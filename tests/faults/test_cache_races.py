"""Races for the result of a cached function, at full size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from races import race

from .report import Report, Trials

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
# Races, processes, and in which of the races the one that computes is killed: where it had a lease that takes 20 s.
SIZES = {
    "files": (2_000, 8, 100),
    "sqlite": (2_000, 8, 100),
    "postgresql": (500, 4, 100),
    "valkey": (200, 4, 100),
    "s3": (50, 4, 25),
}


@pytest.mark.parametrize("place", SIZES, indirect=True)
def test_one_computes_and_the_others_take_over(
    place: tuple[str, dict[str, Any]], tmp_path: Path, report: Report, request: pytest.FixtureRequest
) -> None:
    """Each result is computed once to its end, though holders of the lock are killed."""
    races, processes, kill_each = SIZES[request.node.callspec.params["place"]]
    doubles, died = race(place, tmp_path / "log", races=races, processes=processes, kill_each=kill_each)
    assert died == races // kill_each
    caught, _ = race(place, tmp_path / "control", races=20, processes=4, kill_each=20, how="look first")
    report.record(
        "processes race for a cached result, and are killed: it is computed once",
        Trials(races, doubles, ["computed twice"] * bool(doubles)),
        Trials(20, caught, ["computed twice"] * bool(caught)),
    )
