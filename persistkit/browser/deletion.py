"""Deleting what was seen, and nothing newer than what was seen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Final

from persistkit.browser.index import KeyIndex
from persistkit.engine import Engine
from persistkit.entry import Entry
from persistkit.errors import BatchError

__all__ = ["delete_unchanged"]

_LOOKS: Final = 3


def delete_unchanged(engine: Engine, seen: Sequence[Entry]) -> dict[str, str]:
    """Delete the values of ``seen`` whose size and time are still the ones that were seen.

    The engine is listed again to compare. Where it has a change token, it is looked at until nothing was saved
    during the look, three times at most; so what goes unnoticed is a save in the moment between the end of the last
    look and the delete, and, where the engine keeps no time, a new value of the same size. No engine deletes on a
    condition. A key that is gone already counts as deleted. Entries without a key must not be given.

    Returns:
        Why each key that was kept was kept.

    Raises:
        StorageError: the storage refused, is gone or did not answer.
    """
    wanted = {entry.key: entry for entry in seen if entry.key is not None}
    if not wanted:
        return {}
    shared = _shared_start(wanted)
    for _ in range(_LOOKS):
        token = engine.change_token()
        # Through an index, as what was seen came: odd sizes and times are compared as they were shown.
        current = KeyIndex.of(entry for entry in engine.entries(shared) if entry.key in wanted)
        if token is None or engine.change_token() == token:
            break
    present = {key: current.entry(row) for key in wanted if (row := current.find(key)) is not None}
    changed = {
        key: "was changed after it was listed: look at it again first"
        for key, now in present.items()
        if (now.size, now.modified) != (wanted[key].size, wanted[key].modified)
    }
    try:
        engine.batch_delete([key for key in present if key not in changed])
    except BatchError as error:
        changed |= {key: str(failure) for key, failure in error.failures.items()}
    return changed


def _shared_start(keys: Collection[str]) -> str:
    """Return the text every key starts with."""
    pairs = zip(min(keys), max(keys), strict=False)
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
