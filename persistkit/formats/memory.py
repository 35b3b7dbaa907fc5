"""How much memory a table takes once it is read, estimated before anything is unpacked."""

from __future__ import annotations

from collections import Counter
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

_CELL: Final = 16  # a number, or where a text is, in Arrow's memory and in pandas'
_OBJECT: Final = 256  # a cell that becomes a Python object
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

        ``objects`` are columns whose cells become Python objects though their type does not say so, each with how many
        bytes of memory a byte of its text becomes.

        Raises:
            FormatError: it is more than is left, or a group of rows lacks columns.
        """
        leaves = [file.schema.column(place) for place in range(len(file.schema))]
        if any(len(group) != len(leaves) for group in groups):
            raise FormatError("damaged parquet: a group of rows lacks columns")
        categorical = {field.name for field in file.schema_arrow if pa.types.is_dictionary(field.type)} - objects.keys()
        columns = [
            _Column(leaf, [group[place] for group in groups], objects, is_categorical=leaf.path in categorical)
            for place, leaf in enumerate(leaves)
        ]
        self.take(sum(column.fixed_bytes for column in columns))
        most = sum(column.most_text_bytes for column in columns)
        if most <= (self.max_bytes - self.used) // 8:
            return self.take(most)
        namesakes = Counter(leaf.path for leaf in leaves)
        for column in columns:
            if column.batch_rows and column.most_text_bytes and namesakes[column.path] == 1:
                self._take_repeated_text(column, data)
            else:
                self.take(column.most_text_bytes)
        return None

    def _take_repeated_text(self, column: _Column, data: BytesLike) -> None:
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=column.dictionary, **_AS_STORED)
        for batch in file.iter_batches(batch_size=column.batch_rows, columns=[column.path], use_threads=False):
            self.take(column.copies * sum(map(_text_bytes, batch.columns)))


class _Column:
    """One leaf of the schema, and what its chunks come to.

    Attributes:
        fixed_bytes: what its cells take, text that repeats itself apart.
        most_text_bytes: the most that such text can take.
        copies: how many bytes of memory a byte of such text takes.
        batch_rows: how many rows are unpacked at a time to count such text; 0 where only the most can be told.
    """

    def __init__(self, leaf: Any, chunks: list[Chunk], objects: Mapping[str, int], *, is_categorical: bool) -> None:
        self.path: str = leaf.path
        is_nested = leaf.path != leaf.name or leaf.max_repetition_level > 0
        expands = 0 if is_nested else objects.get(leaf.path, 0)
        self.copies = max(_COPIES, expands)
        cells = sum(chunk.cells for chunk in chunks)
        is_object = bool(expands) or is_nested or not _is_plain(leaf)
        cell_bytes = _OBJECT + max(leaf.length, 0) if is_object else _CELL
        self.fixed_bytes = (
            cells * cell_bytes + max(1, expands) * sum(chunk.unpacked_bytes for chunk in chunks) + _OBJECT
        )
        is_text = leaf.physical_type == "BYTE_ARRAY" and not is_categorical
        repeating = [chunk for chunk in chunks if is_text and chunk.repeats_values]
        self.most_text_bytes = self.copies * sum(chunk.unpacked_bytes * chunk.cells for chunk in repeating)
        self.dictionary = [self.path]  # its texts stay apart from where they are
        self.batch_rows = _BATCH_ROWS
        if any(chunk.repeats_prefixes for chunk in repeating):
            self.dictionary = []  # pyarrow makes none of these
            longest = max(chunk.unpacked_bytes for chunk in repeating)
            self.batch_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, longest)))
            if is_nested or cells > self.batch_rows * _MOST_BATCHES:
                self.batch_rows = 0


def _is_plain(leaf: Any) -> bool:
    """Tell whether the cells are numbers, times or text, in pandas as in Arrow."""
    logical = leaf.logical_type.type
    return logical not in _OBJECTS if leaf.physical_type in _NUMBERS else logical == "STRING"


def _text_bytes(array: Any) -> int:  # Any: any array of pyarrow's
    if pa.types.is_struct(array.type):
        return sum(map(_text_bytes, array.flatten()))
    if pa.types.is_nested(array.type):
        return _text_bytes(array.flatten())
    if not pa.types.is_dictionary(array.type):
        return int(pc.sum(pc.binary_length(array)).as_py() or 0)
    lengths = pc.binary_length(array.dictionary).cast(pa.int64())
    return int(pc.sum(lengths.take(array.indices)).as_py() or 0)
