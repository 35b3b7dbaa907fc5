"""DataFrames and Series as Parquet bytes and back, index and dtypes kept."""

from __future__ import annotations

import io
import json
import warnings
from base64 import b64decode, b64encode
from typing import Any, Final

import numpy as np
import pandas as pd

from persistkit.errors import FormatError
from persistkit.formats.pages import check_unpacked, most_unpacked
from persistkit.formats.recipes import Recipe, arrow_titles, boxed_titles, is_safe, plain, restored
from persistkit.operations import BytesLike

__all__ = ["decode_table", "encode_table"]

_MARK: Final = b"persistkit"


def encode_table(value: object) -> memoryview:
    """Return a DataFrame or Series as Parquet bytes that ``decode_table`` turns back into an equal one.

    Raises:
        FormatError: a part of it would come back changed, or the extra ``arrow`` is missing.
    """
    pa, pq = _pyarrow()
    if not isinstance(value, (pd.DataFrame, pd.Series)) or type(value) not in (pd.DataFrame, pd.Series):
        way = "str" if pd.api.types.is_scalar(value) else "pandas.DataFrame"
        raise FormatError(f"$: {type(value).__name__} is neither DataFrame nor Series; write {way}(value)")
    if not value.flags.allows_duplicate_labels:
        raise FormatError("$: the flag allows_duplicate_labels=False is not kept; set it after loading")
    try:
        frame = value if isinstance(value, pd.DataFrame) else _of_series(value)
        kept, recipe = plain(frame, _keep)
        if frame is not value:
            recipe = {**recipe, "series": True}
        table = _arrow_table(kept, recipe, pa)
        buffer = _written(table, pa, pq)
        _compare(frame, list(kept.columns), recipe, buffer, pa, pq)
    except FormatError:
        raise
    except Exception as error:  # Arrow raises what it likes; whatever it is, nothing was stored
        raise FormatError(f"$: Parquet does not take this table: {error}; give a column one type of value") from error
    return buffer


def decode_table(data: BytesLike) -> pd.DataFrame | pd.Series[Any]:
    """Return the DataFrame or Series of Parquet bytes.

    Raises:
        FormatError: the bytes are damaged, or the extra ``arrow`` is missing.
    """
    pa, pq = _pyarrow()
    try:
        frame, recipe = _Opener(most_unpacked(len(data)), pa, pq).open(data)
        if "series" not in recipe:
            return frame
        series = frame.iloc[:, 0]
        series.name = frame.columns[0]
    except FormatError:
        raise
    except Exception as error:  # Arrow raises what it likes on bytes of strangers
        raise FormatError(f"damaged parquet: {error}") from error
    return series


class _Opener:
    """Opens a value and the small tables its recipe holds, which share one allowance of memory."""

    def __init__(self, most: int, pa: Any, pq: Any) -> None:
        self._most = most
        self._pa = pa
        self._pq = pq

    def open(self, data: BytesLike, *, labels: bool = False) -> tuple[pd.DataFrame, Recipe]:
        """Return the DataFrame of a value, and its recipe; ``labels`` cost more than other cells, to look them up."""
        file = self._pq.ParquetFile(self._pa.BufferReader(data))
        recipe = self.allow(file, data, labels=labels)
        table = file.read(use_pandas_metadata=True)
        table.validate(full=True)
        return restored(table, recipe, self.kept), recipe

    def allow(self, file: Any, data: BytesLike, *, labels: bool = False) -> Recipe:
        """Take what a value unpacks to from the allowance, and return its recipe."""
        recipe: Recipe = json.loads((file.schema_arrow.metadata or {}).get(_MARK, b"{}"))
        boxed = set(file.schema_arrow.names) if labels else boxed_titles(recipe)
        self._most = check_unpacked(file, data, self._most, boxed=boxed)
        return recipe

    def kept(self, text: str) -> pd.DataFrame:
        """Return a small table that is held in a recipe."""
        return self.open(b64decode(text), labels=True)[0]


def _pyarrow() -> tuple[Any, Any]:  # Any: pyarrow ships no complete types
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError as error:
        raise FormatError('tables need pyarrow: pip install "persistkit[arrow]"') from error
    return pa, pq


def _of_series(series: pd.Series[Any]) -> pd.DataFrame:
    name = series.name.item() if isinstance(series.name, np.generic) else series.name
    frame = series.to_frame("value")
    frame.columns = pd.Index([name], dtype=object, tupleize_cols=False)
    frame.attrs = series.attrs
    return frame


def _arrow_table(frame: pd.DataFrame, recipe: Recipe, pa: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what Arrow warns of does not come back
        table = pa.Table.from_pandas(frame)
    about = dict(table.schema.metadata)
    if arrow := arrow_titles(recipe, frame.columns):
        described = json.loads(about[b"pandas"])
        described["columns"] = [column for column in described["columns"] if column["field_name"] not in arrow]
        about[b"pandas"] = json.dumps(described).encode()
    if recipe:
        about[_MARK] = json.dumps(recipe, separators=(",", ":")).encode()
    return table.replace_schema_metadata(about)


def _written(table: Any, pa: Any, pq: Any) -> memoryview:
    # The default tries a dictionary for every column, and statistics: half the time of a save.
    kinds = pa.types
    numbers = [field.name for field in table.schema if kinds.is_integer(field.type) or kinds.is_temporal(field.type)]
    texts = [field.name for field in table.schema if not kinds.is_primitive(field.type)]
    dense = {"use_dictionary": texts, "column_encoding": dict.fromkeys(numbers, "DELTA_BINARY_PACKED")}
    buffer = _bytes_of(table, pq, dense)
    try:
        _Opener(most_unpacked(len(buffer)), pa, pq).allow(pq.ParquetFile(pa.BufferReader(buffer)), buffer)
    except FormatError:  # what repeats itself shrinks without bound that way, and would not be opened again
        return _bytes_of(table, pq, {"use_dictionary": False})
    return buffer


def _bytes_of(table: Any, pq: Any, encodings: dict[str, Any]) -> memoryview:
    sink = io.BytesIO()  # grows faster than Arrow's own stream
    # A page ends at 1 MiB; Arrow's own end at 20,000 rows makes six times as many, whose headers all are read.
    pq.write_table(table, sink, write_statistics=False, max_rows_per_page=1 << 20, **encodings)
    return sink.getbuffer()


def _keep(frame: pd.DataFrame) -> str:
    return b64encode(encode_table(frame)).decode()


def _compare(frame: pd.DataFrame, titles: list[str], recipe: Recipe, buffer: memoryview, pa: Any, pq: Any) -> None:
    """Refuse a table that would come back changed: labels and dtypes by the schema, risky columns by their cells."""
    file = pq.ParquetFile(pa.BufferReader(buffer))
    opener = _Opener(most_unpacked(len(buffer)), pa, pq)
    try:
        opener.allow(file, buffer)
        kept = restored(file.schema_arrow.empty_table(), recipe, opener.kept)
    except FormatError as error:
        raise FormatError(
            "$: it repeats itself so much that loading would take it for an attack on the memory; "
            "store it in several values, or with DataFrame.to_parquet in a file of its own"
        ) from error
    if not _same_index(kept.columns, frame.columns):
        raise FormatError(f"$.columns: {frame.columns!r} do not come back as they went in; use distinct text")
    if kept.attrs != frame.attrs:
        raise FormatError("$.attrs: they do not come back as they went in; keep them to JSON")
    for name, before, after in zip(frame.columns, frame.dtypes, kept.dtypes, strict=True):
        if before != after and not (before.kind == "O" or isinstance(before, pd.CategoricalDtype)):
            raise FormatError(f"$.{name}: dtype {before} comes back as {after}; convert the column first")
    levels = recipe.get("index", {}).get("levels", 0)
    if not levels and type(frame.index) is not pd.RangeIndex and not _same_index(kept.index, frame.index[:0]):
        raise _changed_index(frame)
    risky = [n for n, dtype in enumerate(frame.dtypes) if not is_safe(dtype)]
    if not risky and not levels:
        return
    wanted = [*titles[:levels], *(titles[levels + n] for n in risky)]
    again = _Opener(most_unpacked(len(buffer)), pa, pq)
    back = restored(_read(file, wanted, titles), recipe, again.kept, labels=False)
    if levels and not _same_index(back.index, frame.index):
        raise _changed_index(frame)
    for place, n in enumerate(risky):
        _compare_column(frame.iloc[:, n], back.iloc[:, place])


def _read(file: Any, wanted: list[str], titles: list[str]) -> Any:
    table = file.read(columns=wanted, use_pandas_metadata=True)
    if table.column_names[: len(wanted)] == wanted:
        return table
    # Arrow takes ``a`` for the path to ``a.b`` too.
    return file.read(use_pandas_metadata=True).drop_columns([title for title in titles if title not in wanted])


def _changed_index(frame: pd.DataFrame) -> FormatError:
    dtype = list(frame.index.dtypes) if isinstance(frame.index, pd.MultiIndex) else frame.index.dtype
    return FormatError(f"$.index: an index of dtype {dtype} does not come back as it went in")


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
