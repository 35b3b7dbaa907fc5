"""The system refuses for real: a full disk, a limit, a forbidden, immutable or read-only directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from .fork_server import MOUNTS_OF_ITS_OWN, trials_of
from .mutants import KEPT
from .report import Report
from .requirements import require, require_mounts
from .write_failures import PLACES, refuse_each_operation, share_with_another_user

pytestmark = pytest.mark.faults

# Where nothing at all can be written, what writes in place breaks nothing either.
WRITABLE = ("full tmpfs", "full ext4", "size limit")


@pytest.mark.parametrize("place", PLACES)
def test_when_the_system_refuses(place: str, tmp_path: Path, report: Report) -> None:
    """Each operation says what was refused, leaves the old value or the new one, and works again afterwards."""
    require("chattr")
    require_mounts(tmp_path, PLACES[place].system)
    mutants = ("WritesInPlace", "IgnoresErrors") if place in WRITABLE else ("IgnoresErrors",)
    kept, *controls = (
        trials_of(refuse_each_operation, place, mutant, tmp_path, command=MOUNTS_OF_ITS_OWN)
        for mutant in (KEPT, *mutants)
    )
    promise = f"{PLACES[place].kind}: the reason is told, the old value intact, all works afterwards"
    report.record(promise, kept, *controls)


def test_a_directory_shared_with_another_user(tmp_path: Path, report: Report) -> None:
    """A user who may write the directory may use it all, though owner files of others cannot be touched."""
    require_mounts(tmp_path, "tmpfs")
    kept, control = (
        trials_of(share_with_another_user, mutant, command=MOUNTS_OF_ITS_OWN) for mutant in (KEPT, "TouchesOwnerFiles")
    )
    report.record("a directory shared with another user: everything works on the other's files", kept, control)
