"""Tables a page at a time: arrays, Parquet, CSV, JSON Lines and lists of objects."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from persistkit.browser.trees import fields_of, written
from persistkit.formats.arrays import npy_header
from persistkit.formats.footer import Chunk, read_footer
from persistkit.text import human_size, visible

__all__ = ["array_table", "csv_table", "objects_table", "parquet_table"]

ROWS: Final = 50
_COLUMNS: Final = 60
_CELL: Final = 120
_DIGITS: Final = 9
_TITLE: Final = 1000
_CELL_BYTES: Final = 64 * 1024
_UNPACKED_BYTES: Final = 128 * 1024 * 1024
_HEADER_BYTES: Final = 64 * 1024
_LAYER_BYTES: Final = 4 * 1024 * 1024
_PICTURE_BYTES: Final = 1024 * 1024
_LINE_POINTS: Final = 400
_PICTURE_SIDE: Final = 96

Read = Callable[[int, int], bytes]
Array = npt.NDArray[Any]  # Any: of whatever type the value says


def array_table(read: Read, size: int, first: int, places: Sequence[int]) -> dict[str, Any]:
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
    if start + math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"damaged array: {math.prod(shape):,} items of {dtype} are announced, and fewer are there")
    outer, (rows, width) = shape[:-2], (1, 1, *shape)[-2:] if len(shape) > 1 else ((*shape, 1)[0], 1)
    places = [
        min(max(0, place), length - 1) for place, length in zip([*places, *[0] * len(outer)], outer, strict=False)
    ]
    layer = _Layer(read, dtype, shape, start, places, fortran=fortran and len(shape) > 1)
    total = rows if math.prod(shape) else 0
    first = _page(first, total)
    records = dtype.names is not None and len(shape) < 2
    shown = min(width, _COLUMNS)
    block = layer.rows(first, min(ROWS, total - first), shown)
    if records:
        names, kinds = list(dtype.names or ()), [str(dtype[name]) for name in dtype.names or ()]
        cells = [[row[0][name] for name in names] for row in block]
        numeric = [dtype[name].kind in "biufc" for name in names]
    else:
        names, kinds = [str(n) for n in range(shown)] if len(shape) > 1 else ["value"], [""] * shown
        cells, numeric = [list(row) for row in block], [dtype.kind in "biufc"] * shown
    by = " by ".join(f"{length:,}" for length in shape) or "scalar"
    left = f" · {_plural(width - shown, 'column')} not shown" if width > shown else ""
    summary = f"{dtype if dtype.names is None else 'records'} · {by}{left}"
    table = _table(summary, names, kinds, numeric, cells, first, total)
    picture = layer.picture(rows, width) if dtype.kind in "biuf" and dtype.names is None and total > 1 else None
    return {**table, "axes": [list(axis) for axis in zip(outer, places, strict=True)], "picture": picture}


class _Layer:
    """The last two axes of an array, in files in either order; one axis is one column."""

    def __init__(
        self, read: Read, dtype: np.dtype[Any], shape: tuple[int, ...], start: int, places: list[int], *, fortran: bool
    ) -> None:
        self._read = read
        self._dtype = dtype
        self._width = shape[-1] if len(shape) > 1 else 1
        self._bytes = math.prod(shape[-2:]) * dtype.itemsize
        if fortran:
            size = math.prod(shape) * dtype.itemsize
            if size > _LAYER_BYTES:
                raise ValueError("an array in column order is shown up to 4 MiB: load it in Python")
            whole = np.frombuffer(read(start, size), dtype).reshape(shape, order="F")
            self._whole: Array | None = whole[tuple(places)]
        else:
            self._whole = None
            outer = shape[:-2]
            number = int(np.ravel_multi_index(tuple(places), outer)) if outer and math.prod(shape) > 0 else 0
            self._start = start + number * self._bytes

    def rows(self, first: int, many: int, columns: int) -> Array:
        """Return the beginning of some rows."""
        if self._whole is not None:
            return self._whole[first : first + many, :columns]
        row_bytes = self._width * self._dtype.itemsize
        if columns < self._width:
            wanted = columns * self._dtype.itemsize
            data = b"".join(self._read(self._start + (first + row) * row_bytes, wanted) for row in range(many))
        else:
            data = self._read(self._start + first * row_bytes, many * row_bytes)
        return np.frombuffer(data, self._dtype, many * columns).reshape(many, columns)

    def picture(self, rows: int, width: int) -> list[list[int | None]] | None:
        """Return some of the numbers as 0 to 255, None for what is no number; nothing of a large layer."""
        if self._bytes > _PICTURE_BYTES:
            return None
        values = self.rows(0, rows, width) if self._whole is None else self._whole
        side = (_PICTURE_SIDE, _PICTURE_SIDE) if width > 1 else (_LINE_POINTS, 1)
        steps = (-(-rows // side[0]), -(-width // side[1]))
        few = values[:: steps[0], :: steps[1]].astype(np.float64)
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
        ValueError: it cannot be shown; the text says why.
    """
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    groups = read_footer(data)  # pyarrow is not let near a damaged one
    schema = pq.read_schema(pa.BufferReader(data))
    prefixed = {chunk.path[0].decode(errors="replace") for group in groups for chunk in group if chunk.repeats_prefixes}
    once = [one.name for one in schema if pa.types.is_string(one.type) or pa.types.is_binary(one.type)]
    # Text that is stored once stays once.
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=[name for name in once if name not in prefixed])
    total = file.metadata.num_rows
    index = [name for name in _index_of(schema) if name in schema.names]
    names = [*index, *(name for name in schema.names if name not in index)]
    shown = names[: _COLUMNS + len(index)]
    first = _page(first, total)
    columns = _parquet_rows(file, groups, shown, first)
    types = [schema.field(name).type for name in shown]
    numeric = [pa.types.is_integer(one) or pa.types.is_floating(one) or pa.types.is_decimal(one) for one in types]
    left = f" · {_plural(len(names) - len(shown), 'column')} not shown" if len(names) > len(shown) else ""
    summary = f"Parquet · {_plural(total, 'row')} by {_plural(len(names) - len(index), 'column')}{left}"
    rows = [list(row) for row in zip(*columns, strict=True)]
    return {**_table(summary, shown, [_dtype(one) for one in types], numeric, rows, first, total), "index": len(index)}


def _index_of(schema: Any) -> list[str]:  # Any: pyarrow ships no types
    """Return the columns that are the index, as persistkit or pandas keeps them."""
    about = schema.metadata or {}
    try:
        if levels := json.loads(about.get(b"persistkit", b"{}")).get("index", {}).get("levels", 0):
            return list(schema.names[:levels])
        return [name for name in json.loads(about[b"pandas"])["index_columns"] if isinstance(name, str)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _dtype(arrow: Any) -> str:
    """Return the name of a type, as NumPy and pandas have it where they do."""
    return str(arrow).replace("large_", "").replace("double", "float64")


def _parquet_rows(file: Any, groups: list[list[Chunk]], names: list[str], first: int) -> list[list[Any]]:
    """Return some rows, column by column; groups of rows before them are not read."""
    columns: list[list[Any]] = [[] for _ in names]
    before = 0
    for number, group in enumerate(groups):
        rows = file.metadata.row_group(number).num_rows
        if before + rows <= first or before >= first + ROWS:
            before += rows
            continue
        # A prefix that is stored once may be in every one of the rows.
        unpacked = sum(
            chunk.unpacked_bytes * (ROWS if chunk.repeats_prefixes else 1)
            for chunk in group
            if chunk.path[0].decode(errors="replace") in names
        )
        if unpacked > _UNPACKED_BYTES:
            size = human_size(unpacked)
            raise ValueError(f"its rows would unpack to more than a preview holds, {size}: load it in Python")
        for batch in file.iter_batches(ROWS, row_groups=[number], columns=names):
            begin, end = max(0, first - before), min(len(batch), first + ROWS - before)
            if begin < end:
                for cells, name in zip(columns, names, strict=True):
                    cells += _cells(batch.column(name).slice(begin, end - begin))
            before += len(batch)
            if before >= first + ROWS:
                break
    return columns


def _cells(column: Any) -> list[Any]:  # Any: an array of pyarrow's
    """Return the cells as Python objects, of long ones the beginning or the size; one is unpacked at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    cells = []
    for number in range(len(column)):
        part = column.slice(number, 1)
        if pa.types.is_dictionary(part.type):
            part = part.dictionary_decode()
        if pa.types.is_string(part.type) or pa.types.is_large_string(part.type):
            part = pc.utf8_slice_codeunits(part, 0, _TITLE)
        cells.append(
            part.to_pylist()[0] if part.nbytes <= _CELL_BYTES else f"{part.type}, {part.nbytes:,} bytes"[-_CELL:]
        )
    return cells


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
    numeric = [all(cell is None or _is_number(cell) for cell in column) for column in zip(*shown, strict=True)]
    summary = f"{_plural(len(rows), 'row')} by {_plural(len(names), 'column')}" + ("" if complete else " in this part")
    return _table(summary, names, [""] * len(names), numeric, shown, first, len(rows))


def objects_table(values: list[object], first: int) -> dict[str, Any]:
    """Return rows of a list of objects, a column for each name; what is no object has a column of its own.

    Raises:
        ValueError: none of the values is an object.
    """
    first = _page(first, len(values))
    rows = [fields_of(value) for value in values]
    names = list(islice(dict.fromkeys(name for row in rows if row is not None for name in row), 10 * _COLUMNS))
    if not names:
        raise ValueError("no objects, so no columns")
    own = [] if all(row is not None for row in rows) else ["(value)"]
    page = list(zip(rows, values, strict=True))[first : first + ROWS]
    cells = [
        [
            *([_json_cell(value)] if own and row is None else [None] * len(own)),
            *(_json_cell((row or {}).get(name)) for name in names),
        ]
        for row, value in page
    ]
    numeric = [
        any(column) and all(c is None or _is_number(str(c)) for c in column) for column in zip(*cells, strict=True)
    ]
    summary = f"{_plural(len(values), 'row')} by {_plural(len(names), 'column')}"
    return _table(summary, own + names, [""] * len(own + names), numeric, cells, first, len(values))


def _json_cell(value: object) -> str | None:
    return None if value is None else value if isinstance(value, str) else written(value, None)


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
    names: Sequence[str],
    kinds: list[str],
    numeric: list[bool],
    rows: list[list[Any]],
    first: int,
    total: int,
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
    text = visible(str(value)[: _TITLE + 1])
    return text if len(text) <= _CELL else [f"{text[: _CELL - 1]}…", text[:_TITLE]]
