"""How much memory a table takes once it is read, estimated before anything is unpacked."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, Final

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from persistkit.arguments import BytesLike
from persistkit.errors import FormatError
from persistkit.formats.footer import Chunk

__all__ = ["Allowance"]

# What any value may take, and how many times its size a larger one may: run lengths compress without bound.
_FREE_BYTES: Final = 256 * 1024 * 1024
TIMES_ITS_SIZE: Final = 256

_CELL: Final = 16  # a number in Arrow's memory, and in pandas'
_TEXT: Final = 24  # its place among the others, and what pandas holds of it
_BOXED: Final = 144  # a number or text as a Python object
_OBJECT: Final = 256  # a cell that becomes a Python object of any other kind
_COPIES: Final = 2  # of repeated text, while pyarrow's buffers grow
_NUMBERS: Final = frozenset(["BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE"])
_OBJECTS: Final = frozenset(["DATE", "TIME", "DECIMAL"])

# Arrow's own types hide the text they are made of, in the versions that have them.
_AS_STORED: Final = (
    {"arrow_extensions_enabled": False} if "arrow_extensions_enabled" in signature(pq.ParquetFile).parameters else {}
)
_MOST_BATCHES: Final = 20_000
_BATCH_ROWS: Final = 1 << 20
_BATCH_BYTES: Final = 32 * 1024 * 1024


class Allowance:
    """The memory that a table, and the tables kept within its metadata, may take together.

    Args:
        value_bytes: size of the whole value.
        max_bytes: how much is allowed; None for 256 MiB, or 256 times the size of the value where that is more.
        measure: never refuse; ``used`` tells what the limit would have to be.

    Attributes:
        used: bytes counted so far.
        max_bytes: how many are allowed.
    """

    def __init__(self, value_bytes: int, max_bytes: int | None = None, *, measure: bool = False) -> None:
        self.used = 0
        self.max_bytes = max(_FREE_BYTES, TIMES_ITS_SIZE * value_bytes) if max_bytes is None else max_bytes
        self._measure = measure

    def take(self, size_bytes: int) -> None:
        """Count memory.

        Raises:
            FormatError: it is more than is left.
        """
        self.used += size_bytes
        if self.used > self.max_bytes and not self._measure:
            raise FormatError(
                f"the table needs more than {self.max_bytes:,} bytes of memory; raise max_bytes if you trust it"
            )

    def take_table(self, file: Any, data: BytesLike, groups: list[list[Chunk]], objects: Mapping[str, int]) -> None:
        """Count what the columns of a Parquet file take.

        Args:
            file: pyarrow's ``ParquetFile``. Any: pyarrow ships no complete types.
            data: the bytes of the file.
            groups: what ``read_footer`` returned.
            objects: how many bytes of memory a byte of text becomes, for columns whose cells become Python objects
                though their type does not say so.

        Raises:
            FormatError: it is more than is left, or a group of rows lacks columns.
        """
        columns = _columns_of(file, groups, objects)
        self.take(sum(column.fixed_bytes for column in columns))
        repeating = [column for column in columns if column.most_text_bytes]
        most = sum(column.most_text_bytes for column in repeating)
        if most <= (self.max_bytes - self.used) // 8:
            return self.take(most)
        for column in repeating:
            self._take_repeated_text(column, data, is_alone=[other.path for other in columns].count(column.path) == 1)
        return None

    def _take_repeated_text(self, column: _Column, data: BytesLike, *, is_alone: bool) -> None:
        """Count the text of a column by its lengths; what repeats the text before is read in small batches."""
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // column.longest)) if column.has_prefixes else _BATCH_ROWS
        if not is_alone or (column.has_prefixes and (column.is_nested or column.cells > rows * _MOST_BATCHES)):
            return self.take(column.most_text_bytes)
        file = pq.ParquetFile(
            pa.BufferReader(data),
            read_dictionary=[] if column.has_prefixes else [column.path],
            **_AS_STORED,
        )
        for batch in file.iter_batches(batch_size=rows, columns=[column.path], use_threads=False):
            self.take(column.copies * sum(map(_text_bytes, batch.columns)))
        return None


class _Column:
    """One leaf of the schema, and what its chunks come to.

    Attributes:
        fixed_bytes: what its cells take, text that repeats itself apart.
        most_text_bytes: the most that such text can take.
        longest: the longest such a text can be.
        copies: how many bytes of memory a byte of such text takes.
    """

    def __init__(self, schema: Any, chunks: list[Chunk], objects: Mapping[str, int], *, is_categorical: bool) -> None:
        self.path: str = schema.path
        self.is_nested = schema.max_repetition_level > 0 or any(len(chunk.path) > 1 for chunk in chunks)
        self.cells = sum(chunk.cells for chunk in chunks)
        self.has_prefixes = any(chunk.repeats_prefixes for chunk in chunks)
        expands = 0 if self.is_nested or not chunks else objects.get(chunks[0].path[0].decode(errors="replace"), 0)
        is_categorical = is_categorical and not expands
        is_text = schema.physical_type == "BYTE_ARRAY" and not is_categorical
        repeating = [chunk for chunk in chunks if is_text and (chunk.repeats_values or chunk.repeats_prefixes)]
        self.longest = max((chunk.unpacked_bytes for chunk in repeating), default=0)
        self.copies = max(_COPIES, expands)
        self.most_text_bytes = self.copies * sum(chunk.unpacked_bytes * chunk.cells for chunk in repeating)
        cell_bytes = _TEXT if is_categorical else _cell_bytes(schema, is_nested=self.is_nested)
        cell_bytes += _BOXED if expands else 0
        unpacked_bytes = max(1, expands) * sum(chunk.unpacked_bytes for chunk in chunks)
        self.fixed_bytes = self.cells * cell_bytes + unpacked_bytes + _OBJECT


def _columns_of(file: Any, groups: list[list[Chunk]], objects: Mapping[str, int]) -> list[_Column]:
    schema = [file.schema.column(place) for place in range(len(file.schema))]
    if any(len(group) != len(schema) for group in groups):
        raise FormatError("damaged parquet: a group of rows lacks columns")
    kinds = {field.name: str(field.type) for field in file.schema_arrow}
    return [
        _Column(
            column,
            [group[place] for group in groups],
            objects,
            is_categorical=kinds.get(column.path, "").startswith("dictionary"),
        )
        for place, column in enumerate(schema)
    ]


def _cell_bytes(schema: Any, *, is_nested: bool) -> int:
    kind, logical = schema.physical_type, schema.logical_type.type
    is_plain = logical not in _OBJECTS if kind in _NUMBERS else logical == "STRING"
    if is_nested or not is_plain:
        return _OBJECT + int(max(schema.length, 0))
    return _TEXT if kind == "BYTE_ARRAY" else _CELL


def _text_bytes(array: Any) -> int:  # Any: any array of pyarrow's
    if pa.types.is_struct(array.type):
        return sum(map(_text_bytes, array.flatten()))
    if pa.types.is_nested(array.type):
        return _text_bytes(array.flatten())
    if not pa.types.is_dictionary(array.type):
        return int(pc.sum(pc.binary_length(array)).as_py() or 0)
    lengths = pc.binary_length(array.dictionary).cast(pa.int64())
    return int(pc.sum(lengths.take(array.indices)).as_py() or 0)
