"""What a backend holds, as pandas DataFrames."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
from anyio import to_thread

from persistkit.backend import Entry, PersistenceBackend
from persistkit.blocking import BlockingBackend
from persistkit.errors import FormatError
from persistkit.formats import decode, format_of
from persistkit.operations import check_prefix, traced

__all__ = ["entries_frame", "findings_frame", "to_frame", "usage_frame", "values_frame"]

# `-<16 hex digits>.bin` closes every filename.
_HASH: Final = slice(-20, -4)
_BATCH: Final = 500
_EXACT_FLOAT: Final = 1 << 53


class Finding(Protocol):
    """One problem of one file, as a backend's ``check`` reports it."""

    @property
    def problem(self) -> str: ...
    @property
    def filename(self) -> str: ...
    @property
    def key(self) -> str | None: ...
    @property
    def size(self) -> int: ...
    @property
    def modified(self) -> datetime: ...
    @property
    def repaired(self) -> bool: ...


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
    keys: list[str | None] = []
    sizes: list[int] = []
    times: list[datetime | None] = []
    filenames: list[str] = []
    for entry in entries:
        keys.append(entry.key)
        sizes.append(entry.size)
        times.append(entry.modified)
        filenames.append(entry.filename)
    known = [row for row, key in enumerate(keys) if key is not None]
    unknown = [row for row, key in enumerate(keys) if key is None]
    order = sorted(known, key=lambda row: keys[row] or "") + sorted(unknown, key=filenames.__getitem__)
    filenames = [filenames[row] for row in order]
    return pd.DataFrame(
        {
            "key": text_column([keys[row] for row in order]),
            "size": np.array(sizes, dtype="int64")[order],
            "modified": pd.DatetimeIndex([times[row] for row in order], dtype="datetime64[us, UTC]"),
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
        escaped = [None if text is None else _escaped(text) for text in values]
        return pd.array(escaped, dtype="str")


def values_frame(backend: BlockingBackend, keys: Sequence[str]) -> pd.DataFrame:
    """Return the JSON objects under ``keys`` as rows: nested objects as dotted columns, index the key.

    A column starts where the first object that has it does. Values that are no JSON object, or damaged, are left
    out and named in ``.attrs["skipped"]`` (key -> reason).
    """
    rows: list[dict[str, Any]] = []
    index: list[str] = []
    skipped: dict[str, str] = {}
    for key, data in load_in_batches(backend, keys):
        try:
            value = decode(data) if data is not None else None
            if isinstance(value, dict):
                rows.append(flattened(value))
                index.append(key)
            else:
                skipped[key] = "gone meanwhile" if data is None else f"no JSON object, but {format_of(data)}"
        except (FormatError, RecursionError) as error:
            skipped[key] = str(error)
    frame = pd.DataFrame(columns_of(rows), index=pd.Index(index, dtype="str", name="key"))
    frame.attrs["skipped"] = skipped
    return frame


def usage_frame(entries: Iterable[Entry], *, depth: int = 1, separators: str = ":/") -> pd.DataFrame:
    """Return columns ``prefix``, ``keys`` and ``size`` (bytes): sums by the first ``depth`` parts of the key.

    A prefix ends with its separator; a key of fewer parts stands for itself; unknown keys have a missing prefix.
    The largest come first.

    Raises:
        ValueError: ``depth`` is below 1, or there is no separator.
    """
    if depth < 1 or not separators:
        raise ValueError(f"usage takes a depth of at least 1 and some separators, not {depth!r} and {separators!r}")
    start = re.compile(f"(?:[^{re.escape(separators)}]*[{re.escape(separators)}]){{{depth}}}")
    sums: dict[str | None, list[int]] = {}
    for entry in entries:
        found = None if entry.key is None else start.match(entry.key)
        total = sums.setdefault(entry.key if found is None else found[0], [0, 0])
        total[0] += 1
        total[1] += entry.size
    rows = sorted(sums.items(), key=lambda row: (-row[1][1], row[0] or ""))
    return pd.DataFrame(
        {
            "prefix": text_column([prefix for prefix, _ in rows]),
            "keys": np.array([total[0] for _, total in rows], dtype="int64"),
            "size": np.array([total[1] for _, total in rows], dtype="int64"),
        }
    )


def findings_frame(findings: Iterable[Finding]) -> pd.DataFrame:
    """Return the findings of a backend's ``check`` as rows, in their order.

    Columns: ``problem``, ``filename``, ``key``, ``size`` (bytes), ``modified``, ``repaired``.
    """
    rows = list(findings)
    return pd.DataFrame(
        {
            "problem": text_column([row.problem for row in rows]),
            "filename": text_column([row.filename for row in rows]),
            "key": text_column([row.key for row in rows]),
            "size": np.array([row.size for row in rows], dtype="int64"),
            "modified": pd.DatetimeIndex([row.modified for row in rows], dtype="datetime64[us, UTC]"),
            "repaired": np.array([row.repaired for row in rows], dtype="bool"),
        }
    )


def load_in_batches(backend: BlockingBackend, keys: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
    """Yield every key with its stored bytes, in order, a batch in memory at a time."""
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        yield from zip(batch, backend.batch_load(batch), strict=True)


def flattened(value: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its nested objects as dotted keys.

    Example:
        >>> flattened({"loss": 1, "by": {"split": {"test": 2}}})
        {'loss': 1, 'by.split.test': 2}
    """
    flat: dict[str, Any] = {}
    _flatten(value, "", flat)
    return flat


def _flatten(value: dict[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    for name, item in value.items():
        column = prefix + name
        if type(item) is dict and item:
            _flatten(item, f"{column}.", flat)
        elif column in flat:
            raise FormatError(f"two values for the column {column!r}: a dotted name and a nested object")
        else:
            flat[column] = item


def columns_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return rows as columns, None where a row lacks one; much faster than handing pandas the rows."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {_escaped(name): _column([row.get(name) for row in rows]) for name in names}


def _column(values: list[Any]) -> Any:
    if None in values and any(type(value) is int and abs(value) > _EXACT_FLOAT for value in values):
        return pd.Series(values, dtype=object).array  # beside a gap pandas would round them to floats
    try:
        return pd.Series(values).array
    except UnicodeEncodeError:  # JSON may escape lone surrogates, which pandas' text dtype cannot hold
        return pd.Series([_escaped(value) if isinstance(value, str) else value for value in values]).array


def _escaped(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
