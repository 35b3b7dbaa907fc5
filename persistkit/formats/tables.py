"""DataFrames and Series as Parquet bytes and back, index and dtypes kept."""

from __future__ import annotations

import io
import json
import warnings
from base64 import b64decode, b64encode
from inspect import signature
from typing import Any, Final

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from persistkit.arguments import BytesLike
from persistkit.errors import FormatError
from persistkit.formats.footer import read_footer
from persistkit.formats.memory import TIMES_ITS_SIZE, Allowance
from persistkit.formats.metadata import JSON, Metadata, arrow_columns, is_safe, object_columns, restore, simplify
from persistkit.formats.reading import decode
from persistkit.formats.writing import encode_json

__all__ = ["Reader", "decode_table", "encode_table"]

_MARK: Final = b"persistkit"
_THREADED_BYTES: Final = 1024 * 1024
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
        reader = Reader(len(buffer), measure=True)
        _compare(frame, list(stored.columns), reader, buffer)
        if reader.used > reader.max_bytes:  # reading would refuse what repeats itself and is stored so densely
            padding = {_PADDING: b" " * (reader.used // TIMES_ITS_SIZE)}
            buffer = _written(table.replace_schema_metadata({**table.schema.metadata, **padding}))
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
        frame, metadata = Reader(len(data), max_bytes).open(data)
        if "series" not in metadata:
            return frame
        series = frame.iloc[:, 0]
        series.name = frame.columns[0]
    except FormatError:
        raise
    except Exception as error:  # Arrow raises what it likes on other programs' bytes
        raise FormatError(f"damaged parquet: {str(error)[:300]}") from error
    return series


class Reader(Allowance):
    """Reads a table, and the small tables kept within its metadata, which share one allowance of memory."""

    def open(self, data: BytesLike, *, as_labels: bool = False) -> tuple[pd.DataFrame, Metadata]:
        """Return the DataFrame in a file, and its metadata; labels cost more than other cells, to look them up."""
        file, metadata = self.open_file(data, as_labels=as_labels)
        if file.num_row_groups:
            # Each thread keeps the memory of what it has unpacked, and a few bytes may unpack to much.
            table = file.read(use_pandas_metadata=True, use_threads=len(data) > _THREADED_BYTES)
        else:  # which pyarrow reads from version 19 on
            table = file.schema_arrow.empty_table()
        table.validate(full=True)
        return restore(table, metadata, self), metadata

    def open_file(self, data: BytesLike, *, as_labels: bool = False) -> tuple[Any, Metadata]:
        """Return pyarrow's ``ParquetFile``, and our metadata, once the memory for all of it is allowed."""
        groups = read_footer(data)
        file = pq.ParquetFile(pa.BufferReader(data))
        metadata: Metadata = decode((file.schema_arrow.metadata or {}).get(_MARK, b"{}"), "json")
        names = file.schema_arrow.names
        objects = dict.fromkeys(names, 1) if as_labels else object_columns(metadata, names)
        self.take_table(file, data, groups, objects)
        return file, metadata

    def open_embedded(self, text: str) -> pd.DataFrame:
        """Return a small table that is kept within the metadata."""
        return self.open(b64decode(text), as_labels=True)[0]


def _of_series(series: pd.Series[Any]) -> pd.DataFrame:
    frame = series.to_frame("value")
    frame.columns = pd.Index([series.name], dtype=object, tupleize_cols=False)
    return frame


def _arrow_table(frame: pd.DataFrame, metadata: Metadata) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what Arrow warns of does not come back
        table = pa.Table.from_pandas(frame)
    about = dict(table.schema.metadata)
    if arrow := arrow_columns(metadata, frame.columns):
        described = json.loads(about[b"pandas"])
        described["columns"] = [column for column in described["columns"] if column["field_name"] not in arrow]
        about[b"pandas"] = json.dumps(described).encode()
    if metadata:
        about[_MARK] = encode_json(metadata)
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


def _embed(frame: pd.DataFrame) -> str:
    return b64encode(encode_table(frame)).decode()


def _compare(frame: pd.DataFrame, titles: list[str], reader: Reader, buffer: memoryview) -> None:
    """Refuse a table that would come back changed: labels and dtypes by the schema, risky columns by their cells."""
    file, metadata = reader.open_file(buffer)
    back = restore(file.schema_arrow.empty_table(), metadata, reader)
    if not _same_index(back.columns, frame.columns):
        raise FormatError(f"$.columns: {frame.columns!r} do not come back as they went in; use distinct text")
    levels = metadata.get("index", {}).get("levels", 0)
    cells = [metadata.get("cells", {}).get(title) for title in titles[levels:]]
    risky = [n for n, dtype in enumerate(frame.dtypes) if not is_safe(dtype) and cells[n] != JSON]
    if levels or risky:
        wanted = [*titles[:levels], *(titles[levels + n] for n in risky)]
        back = restore(_read(file, wanted, titles), metadata, reader, labels=False)
    index = frame.index[: len(back)]
    if type(index) is not pd.RangeIndex and not _same_index(back.index, index):
        dtype = list(index.dtypes) if isinstance(index, pd.MultiIndex) else index.dtype
        raise FormatError(f"$.index: an index of dtype {dtype} does not come back as it went in; use reset_index()")
    for place, n in enumerate(risky):
        after, before = back.iloc[:, place], frame.iloc[:, n]
        if not _same_cells(after, before):
            raise FormatError(
                f"$.{before.name}: its cells do not come back as they went in (dtype {before.dtype}, afterwards "
                f"{after.dtype}); convert the column first"
            )


def _read(file: Any, wanted: list[str], titles: list[str]) -> Any:
    table = file.read(columns=wanted, use_pandas_metadata=True)
    if table.column_names[: len(wanted)] == wanted:
        return table
    # Arrow takes ``a`` for the path to ``a.b`` too.
    return file.read(use_pandas_metadata=True).drop_columns([title for title in titles if title not in wanted])


def _same_index(after: pd.Index[Any], before: pd.Index[Any]) -> bool:
    if type(after) is not type(before) or list(after.names) != list(before.names):
        return False
    if isinstance(before, pd.MultiIndex) and isinstance(after, pd.MultiIndex):
        return list(after.dtypes) == list(before.dtypes) and all(
            _same_cells(after.get_level_values(n), before.get_level_values(n)) for n in range(before.nlevels)
        )
    return _same_cells(after, before)


def _same_cells(after: Any, before: Any) -> bool:
    """Tell whether two columns, or two indexes, are alike in dtype, order of categories, cells and their types."""
    if after.dtype != before.dtype or not after.array.equals(before.array):
        return False
    if isinstance(before.dtype, pd.CategoricalDtype):
        return _same_index(after.dtype.categories, before.dtype.categories)
    return before.dtype != object or list(map(type, after.array)) == list(map(type, before.array))
