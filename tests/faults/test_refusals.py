"""The system refuses for real: a full disk, a limit, a forbidden, immutable or read-only directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from .isolation import require_mounts, trials_of
from .ledger import Ledger
from .refusals import PLACES
from .requirements import require

pytestmark = pytest.mark.faults

# Where nothing at all can be written, what writes in place breaks nothing either.
WRITABLE = ("full tmpfs", "full ext4", "size limit")


@pytest.mark.parametrize("place", PLACES)
def test_when_the_system_refuses(place: str, tmp_path: Path, ledger: Ledger) -> None:
    """Each operation says what was refused, leaves the old value or the new one, and works again afterwards."""
    require("chattr")
    require_mounts(tmp_path, PLACES[place].system)
    controls = ("InPlace", "Deaf") if place in WRITABLE else ("Deaf",)
    kept, *caught = (trials_of("refusals", place, kind, folder=tmp_path / kind) for kind in ("Directory", *controls))
    ledger.record(
        f"{PLACES[place].kind}: the reason is told, the old value intact, all works afterwards", kept, *caught
    )


def test_a_directory_shared_with_another_user(tmp_path: Path, ledger: Ledger) -> None:
    """Who may write the directory may use it all, though the claims of others cannot be touched."""
    require_mounts(tmp_path, "tmpfs")
    kept, control = (trials_of("sharing", kind, folder=tmp_path / kind) for kind in ("Directory", "Touching"))
    ledger.record("a directory shared with another user: everything works on the other's files", kept, control)
