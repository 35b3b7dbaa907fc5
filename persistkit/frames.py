"""What an engine holds, as pandas DataFrames.

Columns of text have pandas' dtype ``str``, and a missing text is NaN; on pandas 2 the dtype is ``object``, and a
missing text is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from persistkit.background import engine_of
from persistkit.engine import Engine
from persistkit.entry import Entry, known_size, known_time
from persistkit.errors import FormatError
from persistkit.formats import decode_text, format_of
from persistkit.formats.metadata import TEXT
from persistkit.progress import load_in_batches
from persistkit.selection import Selection

if TYPE_CHECKING:
    from persistkit.engines.files import Finding
    from persistkit.transfer import Place
    from persistkit.views import Errors

__all__ = ["entries_frame", "findings_frame", "to_frame", "usage_frame", "values_frame"]

# `-<16 hex digits>.bin` closes every filename.
_HASH: Final = slice(-20, -4)
_TIME: Final = "datetime64[us, UTC]"
_EXACT_FLOAT: Final = 1 << 53
_INT64: Final = (1 << 63) - 1
# Beyond these, names are data: a table of them takes minutes and gigabytes to make.
_MOST_COLUMNS: Final = 10_000
_FREE_CELLS: Final = 1 << 24
_CELLS_A_VALUE: Final = 64
_MOST_NAME: Final = 1_000
# As the Rust runtime names them: a session, cut to its first steps.
_SNAPSHOT: Final = re.compile(r"(session:.+):step:[0-9]+")


def to_frame(
    place: Place, prefix: str = "", *, keys: Iterable[str] | None = None, glob: str | None = None
) -> pd.DataFrame:
    """Return one row for everything stored, sorted by key.

    Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.
    Those of ``keys`` that are not there have no row.

    Columns, of the same dtypes when there is no row:

    * ``key`` (str), missing where it cannot be known; those rows come last and only where everything is asked for
    * ``size`` in bytes (int64), 0 where the engine tells none that can be
    * ``modified`` (datetime64[us, UTC]), NaT where the engine keeps no time or tells none that can be
    * ``filename`` (str) and ``hash`` (str), its 16 hex digits
    * ``ambiguous`` (bool): several keys share this filename and nothing tells which of them it is; ``key`` is the
      likeliest, ``Store.alternatives(key)`` gives the others

    Raises:
        TypeError: ``place`` is no engine, store or backend; the message never shows it.
        ListingNotSupportedError: a backend that cannot list.
        StorageError: the storage refused, is gone or did not answer.
    """
    return entries_frame(Selection(keys, prefix, glob).entries(engine_of(place, "to_frame")))


def entries_frame(entries: Iterable[Entry]) -> pd.DataFrame:
    """Return the rows of ``to_frame`` for ``entries`` at hand, sorted by key, unknown keys last by filename."""
    # Columns, not a list of entries: thousands of them kept alive keep the garbage collector busy.
    keys: list[str | None] = []
    sizes: list[int] = []
    times: list[datetime | None] = []
    names: list[str] = []
    ambiguous: list[bool] = []
    for entry in entries:
        keys.append(entry.key)
        sizes.append(known_size(entry.size))
        times.append(known_time(entry.modified))
        names.append(entry.filename)
        ambiguous.append(entry.ambiguous)
    known = [row for row, key in enumerate(keys) if key is not None]
    unknown = [row for row, key in enumerate(keys) if key is None]
    order = sorted(known, key=lambda row: keys[row] or "") + sorted(unknown, key=names.__getitem__)
    names = [names[row] for row in order]
    return pd.DataFrame(
        {
            "key": text_column([keys[row] for row in order]),
            "size": np.array(sizes, dtype="int64")[order],
            "modified": pd.DatetimeIndex([times[row] for row in order], dtype=_TIME),
            "filename": text_column(names),
            "hash": text_column([name[_HASH] for name in names]),
            "ambiguous": np.array(ambiguous, dtype="bool")[order],
        },
        copy=False,
    )


def text_column(values: Sequence[str | None]) -> pd.api.extensions.ExtensionArray:
    """Return ``values`` as a column of pandas' text dtype; what no column can hold is shown escaped."""
    try:
        "".join(filter(None, values)).encode()
    except UnicodeEncodeError:  # a name on disk that is not UTF-8 arrives with lone surrogates
        values = [None if text is None else _escaped(text) for text in values]
    column: pd.api.extensions.ExtensionArray = pd.array(values, dtype=TEXT)
    return column


def values_frame(engine: Engine, keys: Sequence[str], errors: Errors = "skip") -> pd.DataFrame:
    """Return the JSON objects under ``keys`` as rows: see ``Store.values_frame``."""
    columns: dict[str, list[Any]] = {}
    index: list[str] = []
    values = 0
    skipped: dict[str, str] = {}
    for key, data in load_in_batches(engine, keys):
        if data is None:
            skipped[key] = "not in this store"
            continue
        try:
            row = _row(key, data, errors)
            new = () if row.keys() <= columns.keys() else row.keys() - columns.keys()
            for name in new:
                _check_name(name)
            _check_width(len(columns) + len(new), len(index) + 1, values + len(row))
        except (FormatError, RecursionError) as error:
            if errors == "raise":
                raise FormatError(f"load {key!r} as a row: {error}") from None
            skipped[key] = str(error)
            continue
        _append(columns, row, len(index))
        values += len(row)
        index.append(key)
    filled = {n: _column(cells, len(index)) for n, cells in enumerate(columns.values())}
    frame = pd.DataFrame(filled, index=pd.RangeIndex(len(index)), copy=False)
    frame.index = pd.Index(index, dtype="str", name="key")
    frame.columns = pd.Index([_escaped(name) for name in columns], dtype="str")
    frame.attrs["skipped"] = skipped
    listed = set(index)
    repeated = sum((found := _SNAPSHOT.fullmatch(key)) is not None and found[1] in listed for key in index)
    if repeated:
        frame.attrs["note"] = (
            f"{repeated:,} of these {len(index):,} rows are snapshots of sessions that have a row too; "
            "persistkit.agents.sessions_frame(store) has one row per session"
        )
    return frame


def _row(key: str, data: bytes, errors: Errors) -> dict[str, Any]:
    value = decode_text(data, key)
    if isinstance(value, dict):
        return flattened(value)
    if errors == "bytes":
        return {"bytes": data}
    found = format_of(data, key)
    raise FormatError(f"no JSON object, but {found}{f' ({type(value).__name__})' if found == 'json' else ''}")


def usage_frame(entries: Iterable[Entry], *, depth: int = 1) -> pd.DataFrame:
    """Return the sums of ``entries`` by the first parts of their keys: see ``Store.usage``."""
    if depth < 1:
        raise ValueError(f"usage takes a depth of at least 1, not {depth!r}")
    start = re.compile(f"(?:[^:/]*[:/]){{{depth}}}")
    sums: dict[str | None, list[int]] = {}
    for entry in entries:
        found = None if entry.key is None else start.match(entry.key)
        total = sums.setdefault(entry.key if found is None else found[0], [0, 0])
        total[0] += 1
        total[1] += known_size(entry.size)
    rows = sorted(sums.items(), key=lambda row: (-row[1][1], row[0] or ""))
    return pd.DataFrame(
        {
            "prefix": text_column([prefix for prefix, _ in rows]),
            "keys": np.array([total[0] for _, total in rows], dtype="int64"),
            "size": np.array([known_size(total[1]) for _, total in rows], dtype="int64"),
        }
    )


def findings_frame(findings: Iterable[Finding]) -> pd.DataFrame:
    """Return the findings of ``FileEngine.check`` as rows, in their order.

    Columns: ``problem``, ``filename``, ``key``, ``size`` (bytes), ``modified``, ``repaired``.
    """
    rows = list(findings)
    return pd.DataFrame(
        {
            "problem": text_column([row.problem for row in rows]),
            "filename": text_column([row.filename for row in rows]),
            "key": text_column([row.key for row in rows]),
            "size": np.array([row.size for row in rows], dtype="int64"),
            "modified": pd.DatetimeIndex([row.modified for row in rows], dtype=_TIME),
            "repaired": np.array([row.repaired for row in rows], dtype="bool"),
        }
    )


def _check_width(width: int, rows: int, values: int) -> None:
    """Refuse the object that makes the table wider, or emptier, than could be meant."""
    if width > _MOST_COLUMNS:
        raise FormatError(f"with it the table would have {width:,} columns, more than {_MOST_COLUMNS:,}")
    if width * rows > max(_FREE_CELLS, _CELLS_A_VALUE * values):
        raise FormatError(f"with it the table would be empty but for {values:,} of {width * rows:,} cells")


def flattened(value: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its nested objects as dotted keys."""
    if dict not in map(type, value.values()) and all(type(name) is str for name in value):
        return value
    flat: dict[str, Any] = {}
    _flatten(value, "", flat)
    return flat


def _flatten(value: dict[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    for name, item in value.items():
        column = f"{prefix}{name}"
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
        return pd.Series(cells, dtype=object)  # pandas would round them to floats
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
