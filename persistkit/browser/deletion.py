"""Deleting what was seen, and nothing newer than what was seen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile

from persistkit.backend import Entry
from persistkit.blocking import BlockingBackend
from persistkit.errors import BatchError

__all__ = ["delete_unchanged"]


def delete_unchanged(backend: BlockingBackend, seen: Sequence[Entry]) -> dict[str, str]:
    """Delete the values of ``seen`` whose size and time are still the ones that were seen.

    The backend is listed once to compare; a save between this look and the delete is not noticed. A key that is
    gone already counts as deleted. Entries without a key cannot be deleted and must not be given.

    Returns:
        Why each key that was kept was kept.

    Raises:
        StorageError: the storage refused, is gone or did not answer.
    """
    wanted = {entry.key: entry for entry in seen if entry.key is not None}
    current = {entry.key: entry for entry in backend.entries(_shared_start(wanted)) if entry.key in wanted}
    failures: dict[str, str] = {}
    unchanged: list[str] = []
    for key, before in wanted.items():
        now = current.get(key)
        if now is not None and (now.size, now.modified) != (before.size, before.modified):
            failures[key] = "was changed after it was listed: look at it again first"
        elif now is not None:
            unchanged.append(key)
    try:
        backend.batch_delete(unchanged)
    except BatchError as error:
        failures |= {key: str(failure) for key, failure in error.failures.items()}
    return failures


def _shared_start(keys: Collection[str]) -> str:
    """Return the text every key starts with."""
    first, last = min(keys, default=""), max(keys, default="")
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
