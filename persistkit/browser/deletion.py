"""Deleting what was seen, and nothing newer than what was seen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Final

from persistkit.backend import Entry
from persistkit.blocking import BlockingBackend
from persistkit.errors import BatchError

__all__ = ["delete_unchanged"]

_LOOKS: Final = 3


def delete_unchanged(backend: BlockingBackend, seen: Sequence[Entry]) -> dict[str, str]:
    """Delete the values of ``seen`` whose size and time are still the ones that were seen.

    The backend is listed again to compare. Where it has a change token, it is looked at until nothing was saved
    during the look, three times at most; so what goes unnoticed is a save in the moment between the end of the last
    look and the delete. No engine here deletes on a condition. A key that is gone already counts as deleted.
    Entries without a key cannot be deleted and must not be given.

    Returns:
        Why each key that was kept was kept.

    Raises:
        StorageError: the storage refused, is gone or did not answer.
    """
    wanted = {entry.key: entry for entry in seen if entry.key is not None}
    for _ in range(_LOOKS):
        token = backend.change_token()
        current = {entry.key: entry for entry in backend.entries(_shared_start(wanted)) if entry.key in wanted}
        if token is None or backend.change_token() == token:
            break
    changed = {
        key: "was changed after it was listed: look at it again first"
        for key, now in current.items()
        if key is not None and (now.size, now.modified) != (wanted[key].size, wanted[key].modified)
    }
    try:
        backend.batch_delete([key for key in wanted if key in current and key not in changed])
    except BatchError as error:
        changed |= {key: str(failure) for key, failure in error.failures.items()}
    return changed


def _shared_start(keys: Collection[str]) -> str:
    """Return the text every key starts with."""
    first, last = min(keys, default=""), max(keys, default="")
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
