"""A writer dies at random moments: killed, or with the power of its disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from .crashes import crash_again_and_again
from .fork_server import MOUNTS_OF_ITS_OWN, trials_of
from .mutants import KEPT
from .report import Report
from .requirements import require_mounts

pytestmark = pytest.mark.faults

# A broken writer is crashed until it is caught, or so often that chance is no excuse.
MOST = 300


@pytest.mark.parametrize("mode", ["single", "batch", "stream"])
def test_killed_at_a_random_moment(mode: str, tmp_path: Path, report: Report, times: int) -> None:
    """After kill -9 every key has the value acknowledged last, or the one being written: whole, under its true key."""
    kept = trials_of(crash_again_and_again, "process", KEPT, mode, 60 * times, tmp_path / "kept")
    control = trials_of(crash_again_and_again, "process", "Copies", mode, MOST, tmp_path / "control")
    report.record("kill -9 at a random moment: whole, nothing acknowledged lost", kept, control)


@pytest.mark.parametrize("mode", ["single", "batch", "stream"])
@pytest.mark.parametrize("system", ["ext4", "xfs"])
def test_a_power_cut_at_a_random_moment(system: str, mode: str, tmp_path: Path, report: Report, times: int) -> None:
    """After a power cut every key has the value acknowledged last, or the one being written, whole."""
    require_mounts(tmp_path, system)
    kept, *controls = (
        trials_of(crash_again_and_again, system, mutant, mode, cuts, tmp_path / mutant, command=MOUNTS_OF_ITS_OWN)
        for mutant, cuts in ((KEPT, 30 * times), ("WithoutFileSync", MOST), ("WithoutDirectorySync", MOST))
    )
    report.record(f"power cut on {system}, {mode} writes: whole, nothing acknowledged lost", kept, *controls)
