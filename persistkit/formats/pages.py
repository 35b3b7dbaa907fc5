"""Pages: what a Parquet value would unpack to, told from its pages' headers before anything is unpacked.

The metadata at the end of a Parquet file may lie about everything; the header before each page is what a reader goes
by when it allocates memory. Its format: Thrift's compact protocol, ``PageHeader`` of parquet-format's
``parquet.thrift``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from persistkit.errors import FormatError

__all__ = ["check_unpacked", "first_rows", "most_unpacked"]

# What any value may unpack to, and how many times its size a larger one may: run lengths compress without bound.
FREE_BYTES: Final = 128 * 1024 * 1024
TIMES_ITS_SIZE: Final = 256

_CELL: Final = 8
_TEXT: Final = 24  # its place among the others, and what pandas holds of it
_BOXED: Final = 72  # a number or text as a Python object, and its place
_OBJECT: Final = 128  # a cell that becomes a Python object of any other kind
_NUMBERS: Final = frozenset(["BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE"])
_OBJECTS: Final = frozenset(["DATE", "TIME", "DECIMAL"])

_MOST_BATCHES: Final = 20_000
_BATCH_ROWS: Final = 1 << 20
_BATCH_BYTES: Final = 16 * 1024 * 1024

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_DELTA_BYTE_ARRAY: Final = 7

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_DEEPEST: Final = 16


def most_unpacked(size_bytes: int) -> int:
    """Return how many bytes a Parquet value of this size may unpack to: 128 MiB, or 256 times its size if larger."""
    return max(FREE_BYTES, TIMES_ITS_SIZE * size_bytes)


def check_unpacked(file: Any, data: Any, most: int, *, boxed: Collection[str] = ()) -> int:
    """Refuse a Parquet value that would unpack to more than ``most`` bytes; return how many of them are left.

    The bound holds for what Arrow allocates and, estimated by type, for the pandas objects made of it: numbers of
    rows, sizes of unpacked pages, text that a dictionary or a shared prefix repeats.

    Args:
        file: pyarrow's ``ParquetFile`` of the value. Any: pyarrow ships no complete types.
        data: the bytes of the value, bytes or memoryview.
        most: how much is allowed.
        boxed: columns whose cells will become Python objects though their type does not say so.

    Raises:
        FormatError: it is larger, or its pages are damaged.
    """
    columns = _columns_of(file, data, range(file.metadata.num_row_groups))
    for column in columns:
        if column.path in boxed:
            column.cell_bytes += _BOXED
    return most - _check(data, columns, most)


def first_rows(file: Any, data: Any, rows: int, columns: list[str]) -> Any:
    """Return the first ``rows`` of the first group of rows, as a ``RecordBatch``; None when there is none.

    Raises:
        FormatError: they would unpack to more than 128 MiB, or their pages are damaged.
    """
    metadata = file.metadata
    group = next((n for n in range(metadata.num_row_groups) if metadata.row_group(n).num_rows), None)
    if group is None:
        return None
    _check(data, _columns_of(file, data, [group], rows), FREE_BYTES, group=group)
    return next(file.iter_batches(batch_size=rows, row_groups=[group], columns=columns), None)


def _check(data: Any, columns: list[_Column], most: int, *, group: int | None = None) -> int:
    total = sum(column.unpacked_bytes + column.cells * column.cell_bytes + _OBJECT for column in columns)
    repeated = [column for column in columns if column.longest * column.cells > 0]
    if total + sum(column.longest * column.cells for column in repeated) > most:
        for column in repeated:
            if total <= most:
                total += _text_bytes(data, column, columns, most, group)
    if total > most:
        raise FormatError(
            f"damaged parquet: {len(data):,} bytes would unpack to more than {most:,}, which is never done; "
            "read them with pyarrow if you trust them"
        )
    return total


@dataclass(slots=True)
class _Column:
    """One leaf of the schema, and what its pages come to.

    Attributes:
        cell_bytes: what one cell costs in memory, its text apart.
        is_text: its cells are of any length.
        cells: how many there are, by whoever claims most.
        unpacked_bytes: of all its pages.
        longest: the most one text can have that pages do not hold anew each time: a dictionary's, or a prefix's.
        has_prefixes: texts may repeat the one before.
    """

    path: str
    cell_bytes: int
    is_text: bool
    cells: int = 0
    unpacked_bytes: int = 0
    longest: int = 0
    has_prefixes: bool = False

    def add(self, page: _Page) -> None:
        """Count a page."""
        self.unpacked_bytes += page.unpacked_bytes
        if self.is_text and (page.is_dictionary or page.has_prefixes):
            self.longest = max(self.longest, page.unpacked_bytes)
            self.has_prefixes |= page.has_prefixes

    @classmethod
    def of(cls, schema: Any, *, as_objects: bool) -> _Column:  # Any: pyarrow's ColumnSchema
        kind, logical = schema.physical_type, schema.logical_type.type
        plain = logical not in _OBJECTS if kind in _NUMBERS else logical == "STRING"
        cost = _TEXT if kind == "BYTE_ARRAY" else _CELL
        if as_objects and not (plain and schema.max_repetition_level == 0 and "." not in schema.path):
            cost = _OBJECT
        return cls(schema.path, cost + max(schema.length, 0), kind == "BYTE_ARRAY")


def _columns_of(file: Any, data: Any, groups: Iterable[int], rows: int | None = None) -> list[_Column]:
    """Walk the pages of every column, up to those of the first ``rows`` if given.

    Pages that overlap would be unpacked many times, and are damage.
    """
    metadata = file.metadata
    chunks = _chunks_of(data)
    schema = [metadata.schema.column(n) for n in range(metadata.num_columns)]
    columns = [_Column.of(column, as_objects=rows is None) for column in schema]
    walked = 0
    for number in groups:
        group = metadata.row_group(number)
        for place, column in enumerate(columns):
            chunk = _Chunk.of(chunks, number, place)
            most = chunk.num_values if rows is None or schema[place].max_repetition_level else rows
            if min(group.num_rows, chunk.num_values) < 0:
                raise FormatError("damaged parquet: a number of rows below zero")
            cells = 0
            for page in _pages(data, chunk.start, chunk.end, min(most, chunk.num_values)):
                walked += page.stored_bytes
                if walked > len(data):
                    raise FormatError("damaged parquet: pages overlap")
                column.add(page)
                cells += page.cells
            column.cells += max(min(most, group.num_rows), min(most, chunk.num_values), cells)
    return columns


def _chunks_of(data: Any) -> list[list[dict[int, Any]]]:
    """Return the metadata of each column of each group of rows, as the file's end tells it.

    pyarrow's own ``RowGroupMetaData.column`` ends the whole process where that metadata is damaged.
    """
    try:
        end = _Cursor(data, len(data) - 8 - int.from_bytes(data[-8:-4], "little")).struct()
        groups = [group[1][1] for group in end[4][1]]
        return [[column[3][1] for column in columns] for columns in groups]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise FormatError("damaged parquet: the metadata at its end cannot be read") from error


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Where the pages of one column of a group of rows are."""

    num_values: int
    start: int
    end: int

    @classmethod
    def of(cls, chunks: list[list[dict[int, Any]]], group: int, place: int) -> _Chunk:
        """Return a column's place as Arrow reckons it; what is not there is damage."""
        try:
            fields = chunks[group][place]
            num_values, stored, start = (_long(fields, field) for field in (5, 7, 9))
            first = _long(fields, 11) if 11 in fields else 0
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise FormatError("damaged parquet: the metadata of a column cannot be read") from error
        start = first if 0 < first < start else start
        return cls(num_values, start, start + stored)


def _long(fields: dict[int, Any], field: int) -> int:
    kind, value = fields[field]
    if kind != _I64:
        raise ValueError(f"field {field}")
    return int(value)


@dataclass(frozen=True, slots=True)
class _Page:
    """One page, by its header."""

    stored_bytes: int
    unpacked_bytes: int
    cells: int
    is_dictionary: bool
    has_prefixes: bool


def _pages(data: Any, start: int, end: int, cells: int) -> Iterator[_Page]:
    """Iterate over the pages that a reader of so many cells meets."""
    if not 0 <= start <= end <= len(data):
        raise FormatError("damaged parquet: a column lies outside the file")
    seen = 0
    while start < end and seen < cells:
        try:
            cursor = _Cursor(data, start)
            header = cursor.struct()
            kind, unpacked, stored = (_number(header, field) for field in (1, 2, 3))
            fields: dict[int, Any] = header.get({_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}.get(kind, 0), (0, {}))[1]
            count = _number(fields, 1) if fields else 0
            encoding = _number(fields, 4 if kind == _DATA_V2 else 2) if fields else 0
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise FormatError(f"damaged parquet: no page at byte {start:,}") from error
        seen += 0 if kind == _DICTIONARY else count
        yield _Page(
            stored_bytes=cursor.at + stored - start,
            unpacked_bytes=unpacked,
            cells=0 if kind == _DICTIONARY else count,
            is_dictionary=kind == _DICTIONARY,
            has_prefixes=encoding == _DELTA_BYTE_ARRAY,
        )
        start = cursor.at + stored


def _number(fields: dict[int, Any], field: int) -> int:
    kind, value = fields[field]
    if kind != _I32 or not 0 <= value < 1 << 31:
        raise ValueError(f"field {field}")
    return int(value)


class _Cursor:
    """Reads Thrift's compact protocol, with nothing left to interpretation: a field twice is damage."""

    __slots__ = ("_data", "at")

    def __init__(self, data: Any, at: int) -> None:
        self._data = data
        self.at = at

    def struct(self, depth: int = 0) -> dict[int, tuple[int, Any]]:
        """Return the fields of a struct: number -> type and value."""
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        fields: dict[int, tuple[int, Any]] = {}
        number = 0
        while True:
            head = self._byte()
            if head == 0:
                return fields
            number = number + (head >> 4) if head >> 4 else self._signed()
            if not 0 < number < 1 << 15 or number in fields:
                raise ValueError(f"field {number}")
            kind = head & 15
            fields[number] = kind, None if kind in (_TRUE, _FALSE) else self._value(kind, depth + 1)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_I16, _I32, _I64):
            return self._signed()
        if kind == _STRUCT:
            return self.struct(depth)
        if kind in (_TRUE, _FALSE, _BYTE):
            self.at += 1
        elif kind == _DOUBLE:
            self.at += 8
        elif kind == _BINARY:
            size_bytes = self._unsigned()  # moves ``at`` too
            self.at += size_bytes
        elif kind in (_LIST, _SET):
            head = self._byte()
            length = head >> 4 if head >> 4 < 15 else self._unsigned()
            if length > len(self._data) - self.at:  # every element has a byte at least
                raise ValueError("a list longer than the file")
            return [self._value(head & 15, depth + 1) for _ in range(length)]
        else:
            raise ValueError(f"type {kind}")  # no header of a page holds a map
        return None

    def _byte(self) -> int:
        byte: int = self._data[self.at]
        self.at += 1
        return byte

    def _unsigned(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number without end")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


def _text_bytes(data: Any, column: _Column, columns: list[_Column], most: int, group: int | None) -> int:
    """Return how many bytes the texts of a column come to, unpacked in batches; more than ``most`` when it is more.

    Texts of a dictionary are counted without repeating them. Those that repeat the one before are unpacked, so few at
    a time that none of the batches can be large.
    """
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    if sum(other.path == column.path for other in columns) > 1:
        raise FormatError(f"damaged parquet: two columns {column.path[:60]!r} of texts that may repeat without end")
    repeating = [] if column.has_prefixes else [column.path]
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=repeating, arrow_extensions_enabled=False)
    rows = _BATCH_ROWS if repeating else max(1, min(_BATCH_ROWS, _BATCH_BYTES // column.longest))
    if column.cells > rows * _MOST_BATCHES:
        return most + 1
    total = 0
    groups = range(file.num_row_groups) if group is None else [group]
    seen = 0
    for batch in file.iter_batches(batch_size=rows, row_groups=groups, columns=[column.path], use_threads=False):
        total += sum(_length(array) for array in batch.columns)
        seen += batch.num_rows
        if total > most or (group is not None and seen >= column.cells):
            break
    return total


def _length(array: Any) -> int:  # Any: any array of pyarrow's
    """Return how many bytes the texts in an array have."""
    import pyarrow as pa
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    if pa.types.is_struct(array.type):
        return sum(_length(child) for child in array.flatten())
    if pa.types.is_nested(array.type):
        return _length(array.flatten())
    if not pa.types.is_dictionary(array.type):
        return int(pc.sum(pc.binary_length(array)).as_py() or 0)
    lengths = pc.binary_length(array.dictionary).cast(pa.int64())
    return int(pc.sum(lengths.take(array.indices)).as_py() or 0)
