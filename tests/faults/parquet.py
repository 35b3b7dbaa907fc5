"""Parquet files as other programs write them, and by hand, so that they can lie (format: ``parquet.thrift``)."""

from __future__ import annotations

import struct as packing
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow.parquet import write_table  # type: ignore[import-untyped]

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12
INT64, PLAIN = 2, 0
UNCOMPRESSED, ZSTD = 0, 6
REQUIRED, OPTIONAL = 0, 1

Field = tuple[int, int, bytes]


def written(table: Any, **options: Any) -> bytes:
    """Return a table of pandas' or pyarrow's as another program writes it."""
    sink = BytesIO()
    write_table(pa.Table.from_pandas(table) if isinstance(table, pd.DataFrame) else table, sink, **options)
    return sink.getvalue()


def varint(value: int) -> bytes:
    """Return an unsigned number."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int, kind: int = I32) -> Field:
    """Return a field that holds a number."""
    return field, kind, varint((value << 1) ^ (value >> 63))


def text(field: int, value: bytes) -> Field:
    """Return a field that holds bytes."""
    return field, BINARY, varint(len(value)) + value


def items(field: int, values: Sequence[bytes], kind: int = STRUCT) -> Field:
    """Return a field that holds a list."""
    return field, LIST, bytes([0xF0 | kind]) + varint(len(values)) + b"".join(values)


def struct(*fields: Field) -> bytes:
    """Return a struct."""
    out, last = bytearray(), 0
    for field, kind, content in fields:
        out += bytes([(field - last) << 4 | kind]) + content
        last = field
    return bytes(out) + b"\0"


def element(name: bytes, *, kind: int | None = None, children: int = 0, repetition: int = REQUIRED) -> bytes:
    """Return a node of the schema."""
    head = [] if kind is None else [number(1, kind)]
    tail = [number(5, children)] if children else []
    return struct(*head, number(3, repetition), text(4, name), *tail)


def page(content: bytes, cells: int, *, unpacked: int | None = None) -> bytes:
    """Return a page: ``content`` is what follows the header, as the column's codec packed it."""
    inner = (5, STRUCT, struct(number(1, cells), number(2, PLAIN), number(3, 3), number(4, 3)))
    sizes = number(2, len(content) if unpacked is None else unpacked), number(3, len(content))
    return struct(number(1, 0), *sizes, inner) + content


def column(size: int, cells: int, *, codec: int = UNCOMPRESSED) -> bytes:
    """Return the metadata of one column ``a`` of numbers in a group of rows."""
    fields = [
        number(1, INT64), items(2, [varint(0)], I32), items(3, [varint(1) + b"a"], BINARY), number(4, codec),
        number(5, cells, I64), number(6, size, I64), number(7, size, I64), number(9, 4, I64),
    ]  # fmt: skip
    return struct(number(2, 4, I64), (3, STRUCT, struct(*fields)))


def rows_of(columns: Sequence[bytes], rows: int) -> bytes:
    """Return a group of rows."""
    return struct(items(1, columns), number(2, 100, I64), number(3, rows, I64))


def file(body: bytes, schema: Sequence[bytes], groups: Sequence[bytes], rows: int, notes: bytes = b"") -> bytes:
    """Return a whole file whose first page begins at byte 4."""
    pairs = [items(5, [struct(text(1, b"pandas"), text(2, notes))])] if notes else []
    footer = struct(number(1, 2), items(2, schema), number(3, rows, I64), items(4, groups), *pairs)
    return b"PAR1" + body + footer + packing.pack("<I", len(footer)) + b"PAR1"


def one_column(
    pages: bytes, cells: int, *, rows: int | None = None, codec: int = UNCOMPRESSED, notes: bytes = b""
) -> bytes:
    """Return a file of one required column ``a``; ``cells`` and ``rows`` may be lies."""
    schema = [element(b"r", children=1), element(b"a", kind=INT64)]
    claimed = cells if rows is None else rows
    return file(pages, schema, [rows_of([column(len(pages), cells, codec=codec)], claimed)], claimed, notes)
