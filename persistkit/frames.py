"""What a backend holds, as pandas DataFrames."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
from anyio import to_thread

from persistkit.backend import Entry, PersistenceBackend, check_backend
from persistkit.blocking import BlockingBackend
from persistkit.errors import FormatError
from persistkit.formats import decode_text, format_of
from persistkit.operations import check_prefix, traced

__all__ = ["entries_frame", "findings_frame", "to_frame", "usage_frame", "values_frame"]


def __dir__() -> list[str]:
    return __all__


# `-<16 hex digits>.bin` closes every filename.
_HASH: Final = slice(-20, -4)
_BATCH: Final = 500
_EXACT_FLOAT: Final = 1 << 53
_INT64: Final = (1 << 63) - 1
# Beyond these, names are data: a table of them takes minutes and gigabytes to make.
_MOST_COLUMNS: Final = 10_000
_FREE_CELLS: Final = 1 << 24
_CELLS_A_VALUE: Final = 64
_MOST_NAME: Final = 1_000


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
    check_backend(backend, "to_frame")
    check_prefix(prefix)
    core = backend.blocking_core
    if core is None:
        columns = _Columns()
        async for entry in backend.entries(prefix):
            columns.append(entry)
        return columns.frame()
    # One hop for the whole listing: entry by entry through an asynchronous iterator costs twice as much.
    with traced("entries", prefix):
        return await to_thread.run_sync(lambda: entries_frame(core.entries(prefix)))


def entries_frame(entries: Iterable[Entry]) -> pd.DataFrame:
    """Return the rows of ``to_frame`` for ``entries`` at hand, sorted by key, unknown keys last by filename.

    Example:
        >>> entries = [Entry("b", 2, None, "b-000000000002b607.bin"), Entry("a", 1, None, "a-000000000002b606.bin")]
        >>> entries_frame(entries)[["key", "size"]]
          key  size
        0   a     1
        1   b     2
    """
    columns = _Columns()
    for entry in entries:
        columns.append(entry)
    return columns.frame()


class _Columns:
    """The columns of entries as they come: thousands of entries kept alive keep the garbage collector busy."""

    def __init__(self) -> None:
        self._keys: list[str | None] = []
        self._sizes: list[int] = []
        self._times: list[datetime | None] = []
        self._filenames: list[str] = []

    def append(self, entry: Entry) -> None:
        key, size, modified, stored_as, _ = entry
        self._keys.append(key)
        self._sizes.append(size)
        self._times.append(modified)
        self._filenames.append(entry.filename if stored_as is None else stored_as)

    def frame(self) -> pd.DataFrame:
        """Return the rows sorted by key, those of unknown key last, by filename."""
        keys, filenames = self._keys, self._filenames
        known = [row for row, key in enumerate(keys) if key is not None]
        unknown = [row for row, key in enumerate(keys) if key is None]
        order = sorted(known, key=lambda row: keys[row] or "") + sorted(unknown, key=filenames.__getitem__)
        filenames = [filenames[row] for row in order]
        return pd.DataFrame(
            {
                "key": text_column([keys[row] for row in order]),
                "size": np.array(self._sizes, dtype="int64")[order],
                "modified": pd.DatetimeIndex([self._times[row] for row in order], dtype="datetime64[us, UTC]"),
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
    """Return the JSON objects under ``keys`` of ``backend`` as rows: nested objects as dotted columns, index the key.

    A column starts where the first object that has it does; where an object lacks it, or holds null, is a gap. Whole
    numbers stay whole beside gaps (Int64), truth values too (boolean), and numbers beyond 2**53 are never rounded
    (object). Values that are no JSON object, or damaged, or would make more than 10,000 columns or a table almost
    empty, are left out and named in ``.attrs["skipped"]`` (key -> reason).

    Example:
        >>> from persistkit import MemoryPersistenceBackend
        >>> backend = BlockingBackend(MemoryPersistenceBackend())
        >>> backend.save("run/1", b'{"loss": 0.25, "settings": {"rate": 0.1}}')
        >>> values_frame(backend, ["run/1"]).to_dict("index")
        {'run/1': {'loss': 0.25, 'settings.rate': 0.1}}
    """
    columns: dict[str, list[Any]] = {}
    index: list[str] = []
    values = 0
    skipped: dict[str, str] = {}
    for key, data in load_in_batches(backend, keys):
        try:
            value = decode_text(data) if data is not None else None
            if isinstance(value, dict):
                row = flattened(value)
                new = () if row.keys() <= columns.keys() else row.keys() - columns.keys()
                for name in new:
                    _check_name(name)
                _check_width(len(columns) + len(new), len(index) + 1, values + len(row))
                _append(columns, row, len(index))
                values += len(row)
                index.append(key)
            else:
                skipped[key] = "gone meanwhile" if data is None else f"no JSON object, but {format_of(data)}"
        except (FormatError, RecursionError) as error:
            skipped[key] = str(error)
    filled = {n: _column(cells, len(index)) for n, cells in enumerate(columns.values())}
    frame = pd.DataFrame(filled, index=pd.Index(index, dtype="str", name="key"), copy=False)
    frame.columns = pd.Index([_escaped(name) for name in columns], dtype="str")
    frame.attrs["skipped"] = skipped
    return frame


def usage_frame(entries: Iterable[Entry], *, depth: int = 1, separators: str = ":/") -> pd.DataFrame:
    """Return columns ``prefix``, ``keys`` and ``size`` (bytes): sums of ``entries`` by the first parts of the key.

    The largest come first. A prefix ends with its separator; a key of fewer parts stands for itself; unknown keys
    have a missing prefix.

    Args:
        entries: what to sum.
        depth: how many parts make a prefix.
        separators: the characters that end a part.

    Raises:
        ValueError: ``depth`` is below 1, or there is no separator.

    Example:
        >>> usage_frame([Entry("run:1", 3, None, ""), Entry("run:2", 4, None, ""), Entry("note", 1, None, "")])
          prefix  keys  size
        0   run:     2     7
        1   note     1     1
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

    Example:
        >>> import asyncio, tempfile
        >>> from persistkit import FilePersistenceBackend
        >>> len(findings_frame(asyncio.run(FilePersistenceBackend(tempfile.mkdtemp()).check())))
        0
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


def _check_width(width: int, rows: int, values: int) -> None:
    """Refuse the object that makes the table wider, or emptier, than could be meant."""
    if width > _MOST_COLUMNS:
        raise FormatError(f"with it the table would have {width:,} columns, more than {_MOST_COLUMNS:,}")
    if width * rows > max(_FREE_CELLS, _CELLS_A_VALUE * values):
        raise FormatError(f"with it the table would be empty but for {values:,} of {width * rows:,} cells")


def flattened(value: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its nested objects as dotted keys.

    Example:
        >>> flattened({"loss": 1, "by": {"split": {"test": 2}}})
        {'loss': 1, 'by.split.test': 2}
    """
    if dict not in map(type, value.values()):
        return value
    flat: dict[str, Any] = {}
    _flatten(value, "", flat)
    return flat


def _flatten(value: dict[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    for name, item in value.items():
        column = prefix + name
        _check_name(column)  # before it grows with every level
        if type(item) is dict and item:
            _flatten(item, f"{column}.", flat)
        elif column in flat:
            raise FormatError(f"two values for the column {column!r}: a dotted name and a nested object")
        else:
            flat[column] = item


def _check_name(name: str) -> None:
    if len(name) > _MOST_NAME:
        raise FormatError(f"the name of a column has {len(name):,} characters, more than {_MOST_NAME:,}")


def _append(columns: dict[str, list[Any]], row: dict[str, Any], above: int) -> None:
    """Append the row below the ``above`` rows that are there; gaps are filled when the column grows again."""
    # Column by column, so that a row is freed at once: thousands of live dicts keep the garbage collector busy.
    for name, item in row.items():
        cells = columns.get(name)
        if cells is None:
            cells = columns[name] = [None] * above
        elif len(cells) < above:
            cells.extend([None] * (above - len(cells)))
        cells.append(item)


def _column(cells: list[Any], rows: int) -> Any:
    cells.extend([None] * (rows - len(cells)))
    kinds = set(map(type, cells))
    gaps = type(None) in kinds
    if int in kinds and (gaps or float in kinds) and not _fits(cells, _EXACT_FLOAT if float in kinds else _INT64):
        return pd.array(cells, dtype=object)  # pandas would round them to floats
    if gaps and kinds == {int, type(None)}:
        return pd.array(cells, dtype="Int64")
    if gaps and kinds == {bool, type(None)}:
        return pd.array(cells, dtype="boolean")
    try:
        return pd.Series(cells).array
    except UnicodeEncodeError:  # JSON may escape lone surrogates, which pandas' text dtype cannot hold
        return pd.Series([_escaped(cell) if isinstance(cell, str) else cell for cell in cells]).array


def _fits(cells: list[Any], limit: int) -> bool:
    return all(-limit <= cell <= limit for cell in cells if type(cell) is int)


def _escaped(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
