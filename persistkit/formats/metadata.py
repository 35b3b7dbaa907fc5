"""What Parquet alone loses of a table, kept in the file's metadata: labels, categories, dtypes.

``simplify`` turns a DataFrame into one that Parquet keeps, and metadata; ``restore`` makes the DataFrame of both again.
The metadata is tagged JSON: ``columns`` (labels), ``index`` (names, and how many of the first columns are its levels),
``cells`` (column of the file -> how its cells are restored), ``attrs``. Other readers of the file see labels as text,
the levels of the index as columns, and categories that are not text as their codes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from persistkit.errors import FormatError
from persistkit.formats.reading import decode
from persistkit.formats.writing import encode_json

if TYPE_CHECKING:
    from persistkit.formats.tables import Reader

__all__ = ["JSON", "TEXT", "Metadata", "arrow_columns", "is_safe", "object_columns", "restore", "simplify"]

Metadata = dict[str, Any]
Embed = Callable[[pd.DataFrame], str]

# What pandas makes of text by itself: a dtype of its own since version 3, Python objects before.
TEXT: Final[Any] = pd.StringDtype(na_value=np.nan) if int(pd.__version__.partition(".")[0]) > 2 else np.dtype(object)
_SAFE: Final = frozenset(
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"]
)
_PARQUET_OBJECTS: Final = frozenset([bytes, bool, date])
_MISSING: Final[dict[str, Any]] = {"None": None, "nan": np.nan, "NA": pd.NA}
_INDEX: Final = re.compile(r"__index_level_\d+__")  # a name by which older pyarrow knows an index
_LABEL_BYTES: Final = 16
JSON: Final = {"kind": "json"}
_OBJECT_KINDS: Final = {"object": 1, "text": 1, "json": 24}  # of [[],[]] three bytes become a list and its place


def is_safe(dtype: Any) -> bool:  # Any: pandas has dtypes of many kinds
    """Tell whether every value of a dtype goes through Parquet unchanged, so that none need be compared."""
    timed = isinstance(dtype, (np.dtype, pd.DatetimeTZDtype)) and dtype.kind in "mM"
    return (
        str(dtype) in _SAFE
        or (isinstance(dtype, pd.StringDtype) and dtype == TEXT)
        or (timed and not _in_seconds(dtype))
    )


def simplify(frame: pd.DataFrame, embed: Embed) -> tuple[pd.DataFrame, Metadata]:
    """Return a table that Parquet keeps, and the metadata that makes ``frame`` of it again.

    Labels and categories may be small tables of their own, which ``embed`` returns as text.

    Raises:
        FormatError: a label is of a type that cannot be carried.
    """
    levels = 0 if _stays(frame.index) else frame.index.nlevels
    columns = [*(frame.index.get_level_values(n) for n in range(levels)), *(column for _, column in frame.items())]
    titles = _column_names([*frame.index.names[:levels], *frame.columns], levels)
    described = {title: _describe_column(column, embed) for title, column in zip(titles, columns, strict=True)}
    cells = {title: cell for title, cell in described.items() if cell}
    metadata: Metadata = {"cells": cells} if cells else {}
    if frame.attrs:
        metadata["attrs"] = frame.attrs
    if titles[levels:] != list(frame.columns) or not _is_plain_text(frame.columns):
        metadata["columns"] = _describe_labels(frame.columns, "$.columns", embed)
    if frame.columns.empty and type(frame.index) is pd.RangeIndex:  # a Parquet file has no rows without columns
        metadata["index"] = _describe_labels(frame.index, "$.index", embed)
    elif levels or not _is_plain_name(frame.index.name):
        is_multi = isinstance(frame.index, pd.MultiIndex)
        metadata["index"] = {"names": list(frame.index.names), "levels": levels, "multi": is_multi}
    if not metadata:
        return frame, metadata
    index = pd.RangeIndex(len(frame)) if levels else frame.index
    table = pd.DataFrame(
        {title: _stored_column(column, cells.get(title), title) for title, column in zip(titles, columns, strict=True)},
        index=index.rename(None) if "index" in metadata else index,
        columns=pd.Index(titles, dtype=TEXT, name=None if "columns" in metadata else frame.columns.name),
        copy=False,
    )
    return table, metadata


def restore(table: Any, metadata: Metadata, reader: Reader, *, labels: bool = True) -> pd.DataFrame:
    """Return the DataFrame of an Arrow table, restored by its metadata.

    Without ``labels`` the columns keep their names in the file, and ``table`` may lack some.
    """
    cells = metadata.get("cells", {})
    titles = list(table.column_names)
    arrow = arrow_columns(metadata, titles)
    frame: pd.DataFrame = table.drop_columns(arrow).to_pandas()
    for title in arrow:
        array = pd.arrays.ArrowExtensionArray(table.column(title))
        frame.insert(titles.index(title), title, pd.Series(array, index=frame.index))
    for place, title in enumerate(titles[: frame.shape[1]]):
        if title in cells and title not in arrow:
            frame.isetitem(place, _restore_column(frame.iloc[:, place], cells[title], reader))
    frame = _restore_index(frame, metadata["index"], reader) if "index" in metadata else frame
    if "attrs" in metadata:
        frame.attrs = metadata["attrs"]
    if labels and "columns" in metadata:
        frame.columns = _restore_labels(metadata["columns"], reader)
    return frame


def arrow_columns(metadata: Metadata, titles: Iterable[str]) -> list[str]:
    """Return which of the columns have one of Arrow's own types, which pandas' metadata cannot describe."""
    cells = metadata.get("cells", {})
    return [title for title in titles if cells.get(title) == {"kind": "arrow"}]


def object_columns(metadata: Metadata, titles: Sequence[str]) -> dict[str, int]:
    """Return which columns of the file become Python objects, or are looked up as if they did.

    Each with how many bytes of memory a byte of its text becomes at most.
    """
    index = metadata.get("index", {})
    levels = dict.fromkeys(titles[: index["levels"]] if index.get("multi") else (), 1)
    cells = {title: _OBJECT_KINDS.get(cell.get("kind"), 0) for title, cell in metadata.get("cells", {}).items()}
    return levels | {title: expands for title, expands in cells.items() if expands}


def _restore_index(frame: pd.DataFrame, index: Metadata, reader: Reader) -> pd.DataFrame:
    if "range" in index:
        labels = _restore_labels(index, reader)
        if not frame.columns.empty:  # else Parquet keeps the rows
            raise FormatError(f"damaged parquet: a range of {len(labels):,} labels for a table with columns")
        return pd.DataFrame(index=labels, columns=frame.columns)
    levels = index["levels"]
    if levels:
        parts = [frame.iloc[:, n] for n in range(levels)]
        frame = frame.iloc[:, levels:]
        frame.index = pd.MultiIndex.from_arrays(parts) if index["multi"] else pd.Index(parts[0], dtype=parts[0].dtype)
    frame.index.names = index["names"]
    return frame


def _is_plain_text(labels: pd.Index[Any]) -> bool:
    named = _is_plain_name(labels.name)
    return type(labels) is pd.Index and _is_text(labels) and named and labels.is_unique and not labels.hasnans


def _is_text(labels: pd.Index[Any]) -> bool:
    """Tell whether labels are of the dtype that pandas makes of text, and nothing but text."""
    is_object = not isinstance(TEXT, pd.StringDtype)
    return bool(labels.dtype == TEXT) and not (is_object and any(type(label) is not str for label in labels))


def _is_plain_name(name: object) -> bool:
    return name is None or type(name) is str


def _stays(index: pd.Index[Any]) -> bool:
    """Tell whether Parquet keeps the index; of a RangeIndex at least the numbers."""
    named = _is_plain_name(index.name)
    return type(index) is pd.RangeIndex or (index.nlevels == 1 and is_safe(index.dtype) and named)


def _column_names(labels: list[Any], levels: int) -> list[str]:
    """Return a name for every column of the file: its label as text, made distinct."""
    titles: dict[str, None] = {}
    for n, label in enumerate(labels):
        text = f"index_{n}" if n < levels and label is None else str(label)
        text = text.encode(errors="backslashreplace").decode()
        while text in titles or _INDEX.fullmatch(text):
            text = f"{text}#{n}"
        titles[text] = None
    return list(titles)


def _describe_column(column: Any, embed: Embed) -> Metadata | None:
    """Return how the cells of a Series or Index level are restored; None where Parquet needs no help."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        if _is_text(dtype.categories) and dtype.categories.name is None and (column.array.codes >= 0).any():
            return None
        categories = _describe_labels(dtype.categories, f"$.{column.name}: the categories", embed)
        return {"kind": "codes", "categories": categories, "ordered": dtype.ordered}
    if isinstance(dtype, pd.ArrowDtype):
        return {"kind": "arrow"}
    if isinstance(dtype, pd.StringDtype) and dtype != TEXT:
        return {
            "kind": "text",
            "storage": dtype.storage.removesuffix("_numpy"),
            "missing": "NA" if dtype.na_value is pd.NA else "nan",
        }
    if _in_seconds(dtype):
        return {"kind": "seconds"}
    return _describe_objects(column.array) if dtype == "object" and len(column) else None


def _describe_objects(array: Any) -> Metadata | None:
    """Return how objects are restored: text with one kind of gap as it is, other kinds that Parquet lacks as JSON."""
    kinds = set(map(type, array))
    gaps = kinds - {str}
    for name, missing in _MISSING.items():
        if (
            str in kinds
            and gaps <= {type(missing)}
            and (name != "nan" or all(pd.isna(cell) for cell in array if type(cell) is float))
        ):
            return {"kind": "object", "missing": name}
    kinds.discard(type(None))
    return JSON if len(kinds) > 1 or not kinds <= _PARQUET_OBJECTS else None


def _stored_column(column: Any, cell: Metadata | None, title: str) -> Any:
    if cell is not None and cell["kind"] == "codes":
        return column.array.codes
    if cell != JSON:
        return column.array
    return pd.array([encode_json(item, f"$.{title}[{n}]").decode() for n, item in enumerate(column.array)], dtype=TEXT)


def _restore_column(column: pd.Series[Any], cell: Metadata, reader: Reader) -> Any:
    """Return the cells of one column as they were."""
    kind = cell["kind"]
    if kind == "codes":
        categories = _restore_labels(cell["categories"], reader)
        return pd.Categorical.from_codes(column.to_numpy(), categories=categories, ordered=cell["ordered"])
    if kind == "text":
        return column.astype(_string_dtype(cell["storage"], _MISSING[cell["missing"]]))
    if kind == "seconds":
        return column.dt.as_unit("s")
    if kind == "json":
        cells = np.empty(len(column), dtype=object)
        for n, text in enumerate(column):
            cells[n] = decode(text.encode(), "json")
        return pd.Series(cells, index=column.index, dtype=object)
    if not isinstance(column.dtype, pd.StringDtype) and column.dtype != object:
        raise FormatError("damaged parquet: cells that are not text cannot become objects")
    cells = column.astype(object).to_numpy(copy=True)
    cells[column.isna().to_numpy()] = _MISSING[cell["missing"]]
    return pd.Series(cells, index=column.index, dtype=object)


def _string_dtype(storage: str, missing: Any) -> Any:
    if missing is pd.NA:
        return pd.StringDtype(storage)
    try:
        return pd.StringDtype(storage, na_value=missing)
    except TypeError:  # pandas 2.2 had the first form of this dtype, over Arrow alone
        return pd.StringDtype("pyarrow_numpy") if storage == "pyarrow" else TEXT


def _describe_labels(labels: pd.Index[Any], path: str, embed: Embed) -> Metadata:
    """Return how labels or categories are restored: from a range, single values, or a small table of their own."""
    names = list(labels.names)
    if isinstance(labels, pd.RangeIndex):
        return {"names": names, "range": [labels.start, labels.stop, labels.step]}
    if labels.dtype == object and labels.nlevels == 1:
        return {"names": names, "values": list(labels)}
    levels = {str(n): labels.get_level_values(n).array for n in range(labels.nlevels)}
    try:
        return {"names": names, "table": embed(pd.DataFrame(levels)), "multi": isinstance(labels, pd.MultiIndex)}
    except FormatError as error:
        raise FormatError(f"{path}: they do not come back as they are: {error}") from error


def _restore_labels(described: Metadata, reader: Reader) -> pd.Index[Any]:
    labels: pd.Index[Any]
    if "range" in described:
        labels = pd.RangeIndex(*described["range"])
        reader.take(_LABEL_BYTES * len(labels))
    elif "values" in described:
        labels = pd.Index(described["values"], dtype=object, tupleize_cols=False)
    else:
        levels = [level for _, level in reader.open_embedded(described["table"]).items()]
        labels = pd.MultiIndex.from_arrays(levels) if described["multi"] else pd.Index(levels[0])
    labels.names = described["names"]
    return labels


def _in_seconds(dtype: Any) -> bool:
    return isinstance(dtype, (np.dtype, pd.DatetimeTZDtype)) and str(dtype).startswith("datetime64[s")
