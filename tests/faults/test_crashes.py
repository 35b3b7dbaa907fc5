"""A writer dies at random moments: killed, or with the power of its disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from .isolation import require_mounts, trials_of
from .ledger import Ledger
from .requirements import require

pytestmark = pytest.mark.faults

# A broken writer is crashed until it is caught, or so often that chance is no excuse.
MOST = 300


@pytest.mark.parametrize("mode", ["single", "batch", "stream"])
def test_killed_at_a_random_moment(mode: str, tmp_path: Path, ledger: Ledger, times: int) -> None:
    """After kill -9 every key has the value acknowledged last, or the one being written: whole, under its true key."""
    require("unshare")
    kept = trials_of("crashes", "process", "Directory", mode, 60 * times, folder=tmp_path / "kept")
    control = trials_of("crashes", "process", "Copying", mode, MOST, folder=tmp_path / "control")
    ledger.record("kill -9 at a random moment: whole, nothing acknowledged lost", kept, control)


@pytest.mark.parametrize("mode", ["single", "batch", "stream"])
@pytest.mark.parametrize("system", ["ext4", "xfs"])
def test_a_power_cut_at_a_random_moment(system: str, mode: str, tmp_path: Path, ledger: Ledger, times: int) -> None:
    """After a power cut every key has the value acknowledged last, or the one being written, whole."""
    require_mounts(tmp_path, system)
    kept, *controls = (
        trials_of("crashes", system, kind, mode, cuts, folder=tmp_path / kind)
        for kind, cuts in (("Directory", 30 * times), ("WithoutFileSync", MOST), ("WithoutDirectorySync", MOST))
    )
    ledger.record(f"power cut on {system}, {mode} writes: whole, nothing acknowledged lost", kept, *controls)
