"""Many processes, forks, and event loops one after the other: one directory serves them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from .isolation import trials_of
from .ledger import Ledger
from .requirements import require_fork


def test_many_processes_in_one_directory(tmp_path: Path, ledger: Ledger, times: int) -> None:
    """Four processes write the same keys while two read them: every value read is whole, every listing true."""
    require_fork()
    kept = trials_of("crowd", "Directory", 2 * times, folder=tmp_path / "kept", alone=False)
    control = trials_of("crowd", "Copying", 1, folder=tmp_path / "control", alone=False)
    ledger.record("four processes write while two read: whole values, true listings", kept, control)


@pytest.mark.parametrize("what", ["files", "loop"])
def test_a_fork_at_any_moment(what: str, tmp_path: Path, ledger: Ledger, times: int) -> None:
    """A child forked while threads are writing uses the same object: it answers, and keeps what it is told."""
    require_fork()
    kept = trials_of("forks", what, 20 * times, folder=tmp_path / "kept", alone=False)
    control = trials_of("forks", "bare loop", 1, folder=tmp_path / "control", alone=False)
    ledger.record("fork at any moment: the child's calls answer, and are kept", kept, control)
