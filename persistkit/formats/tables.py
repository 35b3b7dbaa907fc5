"""DataFrames and Series as Parquet bytes and back, index and dtypes kept."""

from __future__ import annotations

import io
import json
import warnings
from base64 import b64decode, b64encode
from inspect import signature
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from persistkit.arguments import BytesLike
from persistkit.errors import FormatError
from persistkit.formats.footer import read_footer
from persistkit.formats.memory import TIMES_ITS_SIZE, Allowance
from persistkit.formats.metadata import Metadata, arrow_columns, is_safe, object_columns, restore, simplify
from persistkit.formats.writing import encode_json

__all__ = ["decode_table", "encode_table"]

_MARK: Final = b"persistkit"
_PADDING: Final = b"persistkit.padding"
# A page ends at 1 MiB; that it also ends at 20,000 rows makes six times as many, whose headers all are read.
_PAGES: Final = {"max_rows_per_page": 1 << 20} if "max_rows_per_page" in signature(pq.ParquetWriter).parameters else {}


def encode_table(value: pd.DataFrame | pd.Series[Any]) -> memoryview:
    """Return a DataFrame or Series as Parquet bytes that ``decode_table`` turns back into an equal one.

    Raises:
        FormatError: a part of it would come back changed.
    """
    if not value.flags.allows_duplicate_labels:
        raise FormatError("$: the flag allows_duplicate_labels=False is not kept; set it after loading")
    try:
        frame = value if isinstance(value, pd.DataFrame) else _of_series(value)
        stored, metadata = simplify(frame, _embed)
        if frame is not value:
            metadata = {**metadata, "series": True}
        table = _arrow_table(stored, metadata)
        buffer = _written(table)
        allowance = Allowance(len(buffer), measure=True)
        _compare(frame, list(stored.columns), metadata, _Reader(allowance), buffer)
        if allowance.used > allowance.max_bytes:
            buffer = _written(_padded(table, allowance.used // TIMES_ITS_SIZE))
    except FormatError:
        raise
    except Exception as error:  # Arrow raises what it likes; whatever it is, nothing was stored
        raise FormatError(f"$: Parquet does not take this table: {error}; give a column one type of value") from error
    return buffer


def decode_table(data: BytesLike, *, max_bytes: int | None = None) -> pd.DataFrame | pd.Series[Any]:
    """Return the DataFrame or Series of Parquet bytes.

    Args:
        data: a Parquet file.
        max_bytes: how much memory it may take; None for 256 MiB, or 256 times its size where that is more.

    Raises:
        FormatError: the bytes are damaged, or need more memory.
    """
    try:
        frame, metadata = _Reader(Allowance(len(data), max_bytes)).open(data)
        if "series" not in metadata:
            return frame
        series = frame.iloc[:, 0]
        series.name = frame.columns[0]
    except FormatError:
        raise
    except Exception as error:  # Arrow raises what it likes on other programs' bytes
        raise FormatError(f"damaged parquet: {str(error)[:300]}") from error
    return series


class _Reader:
    """Reads a table and the small tables kept within its metadata, which share one allowance of memory."""

    def __init__(self, allowance: Allowance) -> None:
        self.take = allowance.take
        self._allowance = allowance

    def open(self, data: BytesLike, *, as_labels: bool = False) -> tuple[pd.DataFrame, Metadata]:
        """Return the DataFrame in a file, and its metadata; labels cost more than other cells, to look them up."""
        file, metadata = self.open_file(data, as_labels=as_labels)
        # Before version 19 pyarrow does not read what has no group of rows.
        table = file.read(use_pandas_metadata=True) if file.num_row_groups else file.schema_arrow.empty_table()
        table.validate(full=True)
        return restore(table, metadata, self), metadata

    def open_file(self, data: BytesLike, *, as_labels: bool = False) -> tuple[Any, Metadata]:
        """Return pyarrow's ``ParquetFile``, and our metadata, once the memory for all of it is allowed."""
        groups = read_footer(data)
        file = pq.ParquetFile(pa.BufferReader(data))
        metadata: Metadata = json.loads((file.schema_arrow.metadata or {}).get(_MARK, b"{}"))
        names = file.schema_arrow.names
        objects = dict.fromkeys(names, 1) if as_labels else object_columns(metadata, names)
        self._allowance.take_table(file, data, groups, objects)
        return file, metadata

    def open_embedded(self, text: str) -> pd.DataFrame:
        """Return a small table that is kept within the metadata."""
        return self.open(b64decode(text), as_labels=True)[0]


def _of_series(series: pd.Series[Any]) -> pd.DataFrame:
    frame = series.to_frame("value")
    frame.columns = pd.Index([series.name], dtype=object, tupleize_cols=False)
    frame.attrs = series.attrs
    return frame


def _arrow_table(frame: pd.DataFrame, metadata: Metadata) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what Arrow warns of does not come back
        table = pa.Table.from_pandas(frame)
    about = dict(table.schema.metadata)
    arrow = arrow_columns(metadata, frame.columns)
    if arrow or frame.attrs:
        described = {**json.loads(about[b"pandas"]), "attributes": frame.attrs}  # older pyarrow leaves them out
        described["columns"] = [column for column in described["columns"] if column["field_name"] not in arrow]
        try:
            about[b"pandas"] = json.dumps(described).encode()
        except TypeError as error:
            raise FormatError(f"$.attrs: {error}; keep them to JSON") from error
    if metadata:
        about[_MARK] = json.dumps(metadata, separators=(",", ":")).encode()
    return table.replace_schema_metadata(about)


def _written(table: Any) -> memoryview:
    # The default tries a dictionary for every column, and statistics: half the time of a save.
    kinds = pa.types
    numbers = [field.name for field in table.schema if kinds.is_integer(field.type) or kinds.is_temporal(field.type)]
    texts = [field.name for field in table.schema if not kinds.is_primitive(field.type)]
    sink = io.BytesIO()  # grows faster than Arrow's own stream
    pq.write_table(
        table,
        sink,
        write_statistics=False,
        use_dictionary=texts,
        column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
        **_PAGES,
    )
    return sink.getbuffer()


def _padded(table: Any, size_bytes: int) -> Any:
    """Return a table whose file will be larger: reading would refuse what repeats itself and is stored so densely."""
    return table.replace_schema_metadata({**table.schema.metadata, _PADDING: b" " * size_bytes})


def _embed(frame: pd.DataFrame) -> str:
    return b64encode(encode_table(frame)).decode()


def _compare(frame: pd.DataFrame, titles: list[str], metadata: Metadata, reader: _Reader, buffer: memoryview) -> None:
    """Refuse a table that would come back changed: labels and dtypes by the schema, risky columns by their cells."""
    file, _ = reader.open_file(buffer)
    back = restore(file.schema_arrow.empty_table(), metadata, reader)
    if not _same_index(back.columns, frame.columns):
        raise FormatError(f"$.columns: {frame.columns!r} do not come back as they went in; use distinct text")
    _compare_attrs(frame.attrs, back.attrs)
    for name, before, after in zip(frame.columns, frame.dtypes, back.dtypes, strict=True):
        if before != after and not (before.kind == "O" or isinstance(before, pd.CategoricalDtype)):
            raise FormatError(f"$.{name}: dtype {before} comes back as {after}; convert the column first")
    levels = metadata.get("index", {}).get("levels", 0)
    if not levels and type(frame.index) is not pd.RangeIndex and not _same_index(back.index, frame.index[:0]):
        raise _changed_index(frame)
    cells = metadata.get("cells", {})
    safe = [is_safe(dtype) or cells.get(titles[levels + n]) == {"kind": "json"} for n, dtype in enumerate(frame.dtypes)]
    risky = [n for n, is_kept in enumerate(safe) if not is_kept]
    if not risky and not levels:
        return
    wanted = [*titles[:levels], *(titles[levels + n] for n in risky)]
    back = restore(_read(file, wanted, titles), metadata, reader, labels=False)
    if levels and not _same_index(back.index, frame.index):
        raise _changed_index(frame)
    for place, n in enumerate(risky):
        _compare_column(frame.iloc[:, n], back.iloc[:, place])


def _compare_attrs(before: dict[Any, Any], after: dict[Any, Any]) -> None:
    try:
        same = encode_json(before) == encode_json(after)
    except FormatError as error:
        raise FormatError(f"$.attrs{str(error).removeprefix('$')}") from error
    if not same:
        raise FormatError("$.attrs: they do not come back as they went in; keep them to JSON")


def _read(file: Any, wanted: list[str], titles: list[str]) -> Any:
    table = file.read(columns=wanted, use_pandas_metadata=True)
    if table.column_names[: len(wanted)] == wanted:
        return table
    # Arrow takes ``a`` for the path to ``a.b`` too.
    return file.read(use_pandas_metadata=True).drop_columns([title for title in titles if title not in wanted])


def _changed_index(frame: pd.DataFrame) -> FormatError:
    dtype = list(frame.index.dtypes) if isinstance(frame.index, pd.MultiIndex) else frame.index.dtype
    return FormatError(f"$.index: an index of dtype {dtype} does not come back as it went in; use reset_index()")


def _compare_column(before: pd.Series[Any], after: pd.Series[Any]) -> None:
    same = before.dtype == after.dtype and bool(before.array.equals(after.array))
    if same and before.dtype == object:
        for n, (cell, kept) in enumerate(zip(before.array, after.array, strict=True)):
            if not _same_cell(cell, kept):
                raise FormatError(f"$.{before.name}[{n}]: a cell of type {type(cell).__name__} changes on the way")
    if not same or not _same_categories(before, after):
        raise FormatError(
            f"$.{before.name}: its cells do not come back as they went in (dtype {before.dtype}); "
            "mixed and nested cells need a dtype of their own, or JSON"
        )


def _same_categories(before: pd.Series[Any], after: pd.Series[Any]) -> bool:
    now, then = after.dtype, before.dtype
    if not isinstance(then, pd.CategoricalDtype) or not isinstance(now, pd.CategoricalDtype):
        return True
    return _same_index(now.categories, then.categories) and now.ordered == then.ordered


def _same_index(after: pd.Index[Any], before: pd.Index[Any]) -> bool:
    if type(after) is not type(before) or list(after.names) != list(before.names) or not after.equals(before):
        return False
    if isinstance(before, pd.MultiIndex) and isinstance(after, pd.MultiIndex):
        return list(after.dtypes) == list(before.dtypes) and all(
            _same_index(after.get_level_values(n), before.get_level_values(n)) for n in range(before.nlevels)
        )
    if after.dtype != before.dtype:
        return False
    return before.dtype.kind != "O" or all(map(_same_cell, before, after))


def _same_cell(before: object, after: object) -> bool:
    """Tell whether one of two equal cells is the other in type too; of nested ones that cannot be seen."""
    return type(before) is type(after) and not isinstance(before, (list, dict, np.ndarray))
