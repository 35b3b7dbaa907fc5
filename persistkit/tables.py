"""DataFrames and Series as Parquet bytes and back, index and dtypes kept."""

from __future__ import annotations

import io
import json
import warnings
from typing import Any, Final

import numpy as np
import pandas as pd

from persistkit.errors import FormatError

__all__ = ["decode_table", "encode_table"]

_MARK: Final = b"persistkit"
# Values of these dtypes go through Parquet unchanged; columns of any other are read back and compared.
_SAFE: Final = frozenset(
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "str"]
)
# Run lengths compress without bound: refuse what could not be meant rather than fill the memory.
_MAX_CELLS_A_BYTE: Final = 32
_FREE_CELLS: Final = 1 << 24


def encode_table(value: object) -> memoryview:
    """Return a DataFrame or Series as Parquet bytes that ``decode_table`` turns back into an equal one.

    Raises:
        FormatError: a part of it would come back changed, or the extra ``arrow`` is missing.
    """
    pa, pq = _pyarrow()
    if type(value) is pd.Series:
        frame, mark = _of_series(value)
    elif type(value) is pd.DataFrame:
        frame, mark = value, None
    else:
        raise FormatError(f"$: {type(value).__name__} is neither DataFrame nor Series; write pandas.DataFrame(value)")
    if not frame.flags.allows_duplicate_labels:
        raise FormatError("$: the flag allows_duplicate_labels=False is not kept; set it after loading")
    if type(frame.index) is pd.RangeIndex and not isinstance(frame.index.name, (str, type(None))):
        raise FormatError("$.index: the name of a RangeIndex comes back as text; name it with text")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Arrow warns of does not come back
            table = pa.Table.from_pandas(frame)
        if mark is not None:
            table = table.replace_schema_metadata({**table.schema.metadata, _MARK: mark})
        sink = io.BytesIO()  # grows faster than Arrow's own stream
        pq.write_table(table, sink)
        buffer = sink.getbuffer()
        _compare(frame, buffer, pa, pq)
    except FormatError:
        raise
    except Exception as error:  # Arrow raises what it likes; whatever it is, nothing was stored
        raise FormatError(f"$: Parquet does not take this table: {error}") from error
    return buffer


def decode_table(data: bytes) -> pd.DataFrame | pd.Series[Any]:
    """Return the DataFrame or Series of Parquet bytes.

    Raises:
        FormatError: the bytes are damaged, or the extra ``arrow`` is missing.
    """
    pa, pq = _pyarrow()
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        _check_size(file.metadata, len(data))
        table = file.read(use_pandas_metadata=True)
        frame: pd.DataFrame = table.to_pandas()
        mark = (table.schema.metadata or {}).get(_MARK)
        if mark is None:
            return frame
        series = frame.iloc[:, 0]
        series.name = json.loads(mark)["series"]
    except FormatError:
        raise
    except Exception as error:  # Arrow raises what it likes on bytes of strangers
        raise FormatError(f"damaged parquet: {error}") from error
    return series


def _pyarrow() -> tuple[Any, Any]:  # Any: pyarrow ships no complete types
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError as error:
        raise FormatError('tables need pyarrow: pip install "persistkit[arrow]"') from error
    return pa, pq


def _of_series(series: pd.Series[Any]) -> tuple[pd.DataFrame, bytes]:
    if series.name is not None and type(series.name) not in (str, int):
        raise FormatError(f"$.name: {series.name!r} does not come back as it went in; name the Series with text")
    frame = series.to_frame("value")
    frame.attrs = series.attrs
    return frame, json.dumps({"series": series.name}).encode()


def _check_size(metadata: Any, size_bytes: int) -> None:  # Any: pyarrow's FileMetaData
    cells = metadata.num_rows * max(metadata.num_columns, 1)
    claimed = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups)) // 8
    if metadata.num_rows < 0 or max(cells, claimed) > max(_MAX_CELLS_A_BYTE * size_bytes, _FREE_CELLS):
        raise FormatError(
            f"damaged parquet: {size_bytes:,} bytes claim {metadata.num_rows:,} rows, more than is ever unpacked"
        )


def _compare(frame: pd.DataFrame, buffer: memoryview, pa: Any, pq: Any) -> None:
    """Refuse a table that would come back changed: labels and dtypes by the schema, risky columns by their cells."""
    file = pq.ParquetFile(pa.BufferReader(buffer))
    _check_size(file.metadata, len(buffer))
    kept = file.schema_arrow.empty_table().to_pandas()
    if not _same_labels(kept.columns, frame.columns):
        raise FormatError(f"$.columns: {frame.columns!r} do not come back as they went in; use distinct text")
    if kept.attrs != frame.attrs:
        raise FormatError("$.attrs: they do not come back as they went in; keep them to JSON")
    for name, before, after in zip(frame.columns, frame.dtypes, kept.dtypes, strict=True):
        if before != after and not (before.kind == "O" or isinstance(before, pd.CategoricalDtype)):
            raise FormatError(f"$.{name}: dtype {before} comes back as {after}; {_dtype_advice(before)}")
    risky = [n for n, dtype in enumerate(frame.dtypes) if not _is_safe(dtype)]
    index_is_safe = type(frame.index) is pd.RangeIndex or (
        frame.index.nlevels == 1 and _is_safe(frame.index.dtype) and _same_index(kept.index, frame.index[:0])
    )
    if not risky and index_is_safe:
        return
    names = [file.schema_arrow.names[n] for n in risky]
    back = file.read(columns=names, use_pandas_metadata=True).to_pandas()
    if not _same_index(back.index, frame.index):
        raise FormatError(f"$.index: an index of dtype {frame.index.dtype} does not come back as it went in")
    for place, n in enumerate(risky):
        _compare_column(frame.iloc[:, n], back.iloc[:, place])


def _compare_column(before: pd.Series[Any], after: pd.Series[Any]) -> None:
    same = before.dtype == after.dtype and bool(before.array.equals(after.array))
    if same and before.dtype.kind == "O":
        for n, (cell, kept) in enumerate(zip(before.array, after.array, strict=True)):
            if type(cell) is not type(kept) or isinstance(cell, (list, dict, np.ndarray)):
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
    return _same_labels(now.categories, then.categories) and now.ordered == then.ordered


def _same_labels(after: pd.Index[Any], before: pd.Index[Any]) -> bool:
    same = after.equals(before) and list(after.names) == list(before.names) and after.nlevels == before.nlevels
    return same and [type(label) for label in after] == [type(label) for label in before]


def _same_index(after: pd.Index[Any], before: pd.Index[Any]) -> bool:
    if type(after) is not type(before) or list(after.names) != list(before.names) or not after.equals(before):
        return False
    if isinstance(before, pd.MultiIndex) and isinstance(after, pd.MultiIndex):
        return list(after.dtypes) == list(before.dtypes)
    if after.dtype != before.dtype:
        return False
    return before.dtype.kind != "O" or [type(label) for label in after] == [type(label) for label in before]


def _is_safe(dtype: Any) -> bool:
    return (
        str(dtype) in _SAFE
        or (isinstance(dtype, np.dtype) and dtype.kind in "mM")
        or isinstance(dtype, pd.DatetimeTZDtype)
    )


def _dtype_advice(dtype: Any) -> str:
    if getattr(dtype, "kind", "") == "M":
        return "write column.dt.as_unit('ms')"
    return "convert the column first"
