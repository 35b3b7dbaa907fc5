"""Suggestions: the key that may be meant by one that is not there, and the method by one that a store has not."""

from __future__ import annotations

import difflib
from itertools import islice
from time import monotonic
from typing import Final

from persistkit.engine import Engine

__all__ = ["Suggestions", "spelling_of"]

_SUGGEST_AMONG: Final = 10_000
_SUGGEST_SECONDS: Final = 0.2
# What people try who come from an engine, or from another library.
_SPELLINGS: Final = {
    "delete": "del store[key]",
    "exists": "key in store",
    "save": "store[key] = value",
    "batch_save": "store.update(values)",
    "batch_load": "store.load_many(keys)",
    "list_keys": "store.keys(prefix)",
    "glob": "store.keys(glob=pattern)",
    "key_count": "len(store)",
}


def spelling_of(name: str) -> str:
    """Say how a store is used by whoever tried its attribute ``name``, which it has not.

    Example:
        >>> spelling_of("delete")
        'it is used like a dict: del store[key]; bytes go through store.engine.delete(...)'
    """
    told = f"it is used like a dict: {_SPELLINGS.get(name, 'store[key]')}"
    return told + (f"; bytes go through store.engine.{name}(...)" if hasattr(Engine, name) else "")


class Suggestions:
    """The keys of an engine that are like those asked for, as long as looking for them is quick.

    No key is suggested among more than 10,000. A directory is scanned whole before it gives the first one, which takes
    long where it holds a million: it is done once, and then no more.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._are_quick = True

    def near(self, key: str) -> str | None:
        """Return the stored key that is most like ``key``, or None."""
        if not self._are_quick:
            return None
        began = monotonic()
        some = [entry.key for entry in islice(self._engine.entries(), _SUGGEST_AMONG + 1)]
        self._are_quick = len(some) <= _SUGGEST_AMONG and monotonic() - began < _SUGGEST_SECONDS
        if len(some) > _SUGGEST_AMONG:
            return None
        found = difflib.get_close_matches(key, filter(None, some), n=1)
        return found[0] if found else None
