"""Tables a page at a time: arrays, Parquet, CSV, JSON Lines and lists of objects."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from persistkit.browser.trees import fields_of, written
from persistkit.formats.arrays import npy_header
from persistkit.text import visible

__all__ = ["array_table", "csv_table", "objects_table", "parquet_table"]

ROWS: Final = 50
_COLUMNS: Final = 60
_CELL: Final = 120
_DIGITS: Final = 9
_TITLE: Final = 1000
_TABLE_BYTES: Final = 128 * 1024 * 1024
_HEADER_BYTES: Final = 64 * 1024
_COLUMN_ORDER_BYTES: Final = 4 * 1024 * 1024
_PICTURE_BYTES: Final = 1024 * 1024
_LINE_POINTS: Final = 400
_PICTURE_SIDE: Final = 96
_NUMBERS: Final = "iufc"
_OWN: Final = "(value)"  # the column of what is no object

Array = npt.NDArray[Any]  # Any: of whatever type the value says


def array_table(read: Callable[[int, int], bytes], size: int, first: int, places: Sequence[int]) -> dict[str, Any]:
    """Return rows of a .npy array of any size, read by ranges; of one with more axes than two a slice.

    Args:
        read: returns so many bytes of the value from a position on.
        size: of the value, in bytes.
        first: the first row.
        places: which place of each axis but the last two is shown.

    Raises:
        ValueError: it cannot be shown; the text says why.
    """
    dtype, fortran, shape, start = npy_header(read(0, _HEADER_BYTES))
    count = math.prod(shape)
    if start + count * dtype.itemsize > size:
        raise ValueError(f"damaged array: {count:,} items of {dtype} are announced, and fewer are there")
    *outer, rows, width = axes = shape if len(shape) > 1 else (*shape, 1, 1)[:2]
    places = [min(max(0, place), side - 1) for place, side in zip([*places, *[0] * len(outer)], outer, strict=False)]
    total = rows if count else 0
    first = _page(first, total)

    def items(at: int, many: int) -> Array:
        return np.frombuffer(read(start + at * dtype.itemsize, many * dtype.itemsize), dtype)

    layer: Array | None = None  # the last two axes, unless they are large
    if not count:
        layer = np.empty((0, width), dtype)
    elif fortran and len(shape) > 1:
        if count * dtype.itemsize > _COLUMN_ORDER_BYTES:
            raise ValueError("an array in column order is shown up to 4 MiB: load it in Python")
        layer = items(0, count).reshape(shape, order="F")[tuple(places)]
    elif rows * width * dtype.itemsize <= _PICTURE_BYTES:
        layer = items(int(np.ravel_multi_index((*places, 0), axes[:-1])) * width, rows * width).reshape(rows, width)
    page = layer[first : first + ROWS, :_COLUMNS] if layer is not None else _rows_of(items, axes, places, first)
    fields = [(name, dtype[name]) for name in dtype.names or ()] if len(shape) < 2 else []
    names = [name for name, _ in fields] or (["value"] if len(shape) < 2 else [str(n) for n in range(page.shape[1])])
    cells = [[row[0][name] for name in names] if fields else list(row) for row in page]
    numeric = [one.kind in _NUMBERS for _, one in fields] or [dtype.kind in _NUMBERS] * len(names)
    by = " by ".join(f"{length:,}" for length in shape) or "scalar"
    summary = f"{dtype if dtype.names is None else 'records'} · {by}{_left_out(width)}"
    table = _table(summary, names, numeric, cells, first, total, [str(one) for _, one in fields])
    picture = _picture(layer) if layer is not None and dtype.kind in "biuf" and total > 1 else None
    return {**table, "axes": [list(axis) for axis in zip(outer, places, strict=True)], "picture": picture}


def _rows_of(items: Callable[[int, int], Array], axes: Sequence[int], places: Sequence[int], first: int) -> Array:
    """Return a page of rows of a large slice, of wide rows the beginning."""
    rows, width = axes[-2:]
    many, at = min(ROWS, rows - first), int(np.ravel_multi_index((*places, first), axes[:-1])) * width
    if width <= _COLUMNS:
        return items(at, many * width).reshape(many, width)
    return np.stack([items(at + row * width, _COLUMNS) for row in range(many)])


def _picture(layer: Array) -> list[list[int | None]] | None:
    """Return some of the numbers as 0 to 255, None for what is no number."""
    rows, width = layer.shape
    side = (_PICTURE_SIDE, _PICTURE_SIDE) if width > 1 else (_LINE_POINTS, 1)
    few = layer[:: -(-rows // side[0]), :: -(-width // side[1])].astype(np.float64)
    known = np.isfinite(few)
    if not known.any():
        return None
    low, high = float(few[known].min()), float(few[known].max())
    scaled = np.where(known, few / 2 - low / 2, 0) / ((high / 2 - low / 2) or 1) * 255
    return [
        [int(cell) if fine else None for cell, fine in zip(*pair, strict=True)]
        for pair in zip(scaled, known, strict=True)
    ]


def parquet_table(data: bytes, first: int) -> dict[str, Any]:
    """Return rows of a Parquet value, its index before its columns.

    Raises:
        FormatError: it is damaged, or would take too much memory.
    """
    import pandas as pd

    from persistkit.formats.tables import decode_table  # here, because both take a while to import

    table = decode_table(data, max_bytes=_TABLE_BYTES)
    frame = table.to_frame() if isinstance(table, pd.Series) else table
    levels = 0 if isinstance(frame.index, pd.RangeIndex) else frame.index.nlevels
    total, width = frame.shape
    first = _page(first, total)
    page = frame.iloc[first : first + ROWS, : max(0, _COLUMNS - levels)]
    page = page.reset_index(allow_duplicates=True) if levels else page
    columns = [
        [None if pd.api.types.is_scalar(cell) and pd.isna(cell) else cell for cell in column.tolist()]
        for _, column in page.items()
    ]
    numeric = [
        dtype.kind in _NUMBERS or any(isinstance(cell, Decimal) for cell in column)
        for dtype, column in zip(page.dtypes, columns, strict=True)
    ]
    summary = f"Parquet · {_plural(total, 'row')} by {_plural(width, 'column')}{_left_out(width + levels)}"
    rows = [list(row) for row in zip(*columns, strict=True)]
    shown = _table(summary, list(page.columns), numeric, rows, first, total, [str(one) for one in page.dtypes])
    return {**shown, "index": levels}


def _left_out(width: int) -> str:
    return f" · {_plural(width - _COLUMNS, 'column')} not shown" if width > _COLUMNS else ""


def csv_table(text: str, separator: str, first: int, *, complete: bool) -> dict[str, Any]:
    """Return rows of comma- or tab-separated text; its first row names the columns.

    Raises:
        ValueError: it is no such table.
    """
    lines = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    if not lines:
        raise ValueError("no rows")
    names, rows = lines[0], lines[1:] if complete else lines[1:-1]
    first = _page(first, len(rows))
    shown = [[cell or None for cell in (row + [""] * len(names))[: len(names)]] for row in rows[first : first + ROWS]]
    summary = f"{_plural(len(rows), 'row')} by {_plural(len(names), 'column')}" + ("" if complete else " in this part")
    return _table(summary, names, _numeric(shown), shown, first, len(rows))


def objects_table(values: list[object], first: int) -> dict[str, Any]:
    """Return rows of a list of objects, a column for each name; what is no object has a column of its own.

    Raises:
        ValueError: none of the values is an object.
    """
    first = _page(first, len(values))
    rows = [{_OWN: value} if (fields := fields_of(value)) is None else fields for value in values]
    found = islice(dict.fromkeys(name for row in rows for name in row), 10 * _COLUMNS)
    names = sorted(found, key=lambda name: name != _OWN)
    if names in ([], [_OWN]):
        raise ValueError("no objects, so no columns")
    cells = [[_json_cell(row.get(name)) for name in names] for row in rows[first : first + ROWS]]
    summary = f"{_plural(len(values), 'row')} by {_plural(len(names), 'column')}"
    return _table(summary, names, _numeric(cells), cells, first, len(values))


def _json_cell(value: object) -> str | None:
    return None if value is None else value if isinstance(value, str) else written(value, None)


def _numeric(rows: list[list[str | None]]) -> list[bool]:
    """Return which columns of text hold numbers alone."""
    return [all(cell is None or _is_number(cell) for cell in column) for column in zip(*rows, strict=True)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plural(count: int, one: str) -> str:
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def _page(first: int, total: int) -> int:
    return max(0, min(first, total - 1)) // ROWS * ROWS


def _table(
    summary: str,
    names: Sequence[object],
    numeric: list[bool],
    rows: list[list[Any]],
    first: int,
    total: int,
    kinds: Sequence[str] = (),
) -> dict[str, Any]:
    return {
        "summary": summary,
        "columns": [visible(str(name))[:_CELL] for name in names[:_COLUMNS]],
        "kinds": [visible(kind)[:_CELL] for kind in kinds[:_COLUMNS]],
        "numeric": numeric[:_COLUMNS],
        "index": 0,
        "rows": [[_cell(*pair) for pair in zip(row[:_COLUMNS], numeric, strict=False)] for row in rows],
        "first": first,
        "step": ROWS,
        "total": total,
    }


def _cell(value: object, numeric: bool) -> str | list[str] | None:
    """Return what stands in a cell: text, its beginning and more of it for a title, or None for what is missing."""
    if value is None or (isinstance(value, (np.datetime64, np.timedelta64)) and np.isnat(value)):
        return None
    if isinstance(value, (float, np.floating)):
        if math.isnan(value):
            return None
        short, full = f"{value:.6g}", str(value)
        return full if len(full) <= len(short) + 2 else [short, full]
    if numeric and isinstance(value, str) and "." in value and len(value) > _DIGITS:
        return [f"{float(value):.6g}", visible(value[:_TITLE])]
    start = value[: _TITLE + 1] if isinstance(value, (str, bytes)) else value  # written out it would be longer still
    text = visible(str(start)[: _TITLE + 1])
    return text if len(text) <= _CELL else [f"{text[: _CELL - 1]}…", text[:_TITLE]]
