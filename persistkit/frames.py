"""What a backend holds, as pandas DataFrames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import pandas as pd
from anyio import to_thread

from persistkit.backend import Entry, PersistenceBackend
from persistkit.operations import check_prefix, traced

__all__ = ["entries_frame", "to_frame"]

# `-<16 hex digits>.bin` closes every filename.
_HASH: Final = slice(-20, -4)


async def to_frame(backend: PersistenceBackend, prefix: str = "") -> pd.DataFrame:
    """Return one row for everything stored whose key starts with ``prefix``, sorted by key.

    Columns, of the same dtypes when there is no row: ``key`` (str, missing where it cannot be known; those rows
    come last and only when ``prefix`` is empty), ``size`` in bytes (int64), ``modified`` (datetime64[us, UTC],
    NaT where the engine keeps no time), ``filename`` (str) and ``hash`` (str, its 16 hex digits).

    Raises:
        ListingNotSupportedError: the backend cannot list.
        StorageError: the storage refused, is gone or did not answer.

    Example:
        >>> import asyncio
        >>> from persistkit import MemoryPersistenceBackend
        >>> backend = MemoryPersistenceBackend()
        >>> asyncio.run(backend.save("a/b", b"12345"))
        >>> asyncio.run(to_frame(backend))[["key", "size", "hash"]]
           key  size              hash
        0  a/b     5  000000000b8855f7
    """
    check_prefix(prefix)
    core = backend.blocking_core
    if core is None:
        return entries_frame([entry async for entry in backend.entries(prefix)])
    # One hop for the whole listing: entry by entry through an asynchronous iterator costs twice as much.
    with traced("entries", prefix):
        return await to_thread.run_sync(lambda: entries_frame(core.entries(prefix)))


def entries_frame(entries: Iterable[Entry]) -> pd.DataFrame:
    """Return the rows of ``to_frame`` for entries at hand, sorted by key, unknown keys last by filename."""
    known: list[Entry] = []
    unknown: list[Entry] = []
    for entry in entries:
        (unknown if entry.key is None else known).append(entry)
    known.sort(key=lambda entry: entry.key or "")
    unknown.sort(key=lambda entry: entry.filename)
    rows = known + unknown
    filenames = [entry.filename for entry in rows]
    return pd.DataFrame(
        {
            "key": text_column([entry.key for entry in rows]),
            "size": np.array([entry.size for entry in rows], dtype="int64"),
            "modified": pd.DatetimeIndex([entry.modified for entry in rows], dtype="datetime64[us, UTC]"),
            "filename": text_column(filenames),
            "hash": text_column([filename[_HASH] for filename in filenames]),
        },
        copy=False,
    )


def text_column(values: Sequence[str | None]) -> pd.api.extensions.ExtensionArray:
    """Return ``values`` as a column of pandas' text dtype; what no column can hold is shown escaped."""
    try:
        return pd.array(values, dtype="str")
    except UnicodeEncodeError:  # a name on disk that is not UTF-8 arrives with lone surrogates
        escaped = [None if text is None else text.encode(errors="backslashreplace").decode() for text in values]
        return pd.array(escaped, dtype="str")
