"""Many processes, and forks at any moment: one directory serves them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from .concurrent_processes import work_at_once
from .fork_server import trials_of
from .forks import fork_again_and_again
from .mutants import KEPT
from .report import Report
from .requirements import require_fork


def test_many_processes_in_one_directory(tmp_path: Path, report: Report, times: int) -> None:
    """Four processes write the same keys while two read them: every value read is whole, every listing true."""
    require_fork()
    kept = trials_of(work_at_once, KEPT, 2 * times, tmp_path / "kept")
    control = trials_of(work_at_once, "Copies", 1, tmp_path / "control")
    report.record("four processes write while two read: whole values, true listings", kept, control)


@pytest.mark.parametrize("what", ["files", "loop"])
def test_a_fork_at_any_moment(what: str, tmp_path: Path, report: Report, times: int) -> None:
    """A child forked while threads are writing uses the same object: it answers, and keeps what it is told."""
    require_fork()
    kept = trials_of(fork_again_and_again, what, 20 * times, tmp_path / "kept")
    control = trials_of(fork_again_and_again, "bare loop", 1, tmp_path / "control")
    report.record("fork at any moment: the child's calls answer, and are kept", kept, control)
