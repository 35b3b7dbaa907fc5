"""What the end of a Parquet file says of the whole, read before pyarrow is let near it.

pyarrow's own ``RowGroupMetaData.column`` ends the process where the metadata is damaged, and before version 26 a schema
that is nested deeply overflows the stack. Format: Thrift's compact protocol, ``FileMetaData`` of parquet-format's
``parquet.thrift``.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from persistkit.arguments import BytesLike
from persistkit.errors import FormatError

__all__ = ["Chunk", "read_footer"]

_MAX_DEPTH: Final = 100  # pyarrow's own since version 26; those before overflow the stack some thousands deeper
_REPEATS_VALUES: Final = {2, 7, 8}  # PLAIN_DICTIONARY, DELTA_BYTE_ARRAY, RLE_DICTIONARY
_DELTA_BYTE_ARRAY: Final = 7
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_FIXED_BYTES: Final = {_TRUE: 1, _FALSE: 1, _BYTE: 1, _DOUBLE: 8}  # no struct of a footer holds a map


@dataclass(frozen=True, slots=True)
class Chunk:
    """The values of one column in one group of rows, as the file describes them."""

    path: tuple[bytes, ...]  # from the column of the table down to the values
    cells: int  # missing ones included
    stored_bytes: int
    unpacked_bytes: int  # before its pages are compressed
    repeats_values: bool  # its encoding stores text once that occurs many times
    repeats_prefixes: bool  # its encoding stores only where a text differs from the one before


def read_footer(data: BytesLike) -> list[list[Chunk]]:
    """Return the chunks that a Parquet file describes, for each group of rows one for each column.

    Raises:
        FormatError: the description is damaged, or its schema is nested more than 100 levels deep.
    """
    try:
        start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        if start < 4:
            raise ValueError("it begins before the file does")
        footer = _read_struct(BytesIO(data[start:-8]))
        _check_depth([node.get(5, 0) for node in footer[2]])
        groups = [[_chunk(column[3], group[3]) for column in group[1]] for group in footer.get(4, [])]
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise FormatError(f"damaged parquet: its end cannot be read: {str(error)[:100]}") from error
    if sum(chunk.stored_bytes for group in groups for chunk in group) > len(data):
        raise FormatError("damaged parquet: columns overlap")
    return groups


def _chunk(fields: dict[int, Any], rows: int) -> Chunk:
    path, encodings = tuple(fields[3]), set(fields[2])
    sizes = fields[5], rows, fields[6], fields[7], fields[9], fields.get(11, 0)
    if min(sizes) < 0 or not path:
        raise ValueError("below zero")
    repeats = bool(encodings & _REPEATS_VALUES), _DELTA_BYTE_ARRAY in encodings
    return Chunk(path, max(fields[5], rows), fields[7], fields[6], *repeats)


def _check_depth(children: list[int]) -> None:
    """Refuse a schema, given as the number of children of each node, the parent first, that is nested too deeply."""
    left: list[int] = []
    for count in children:
        while left and left[-1] == 0:
            left.pop()
        if left:
            left[-1] -= 1
        left.append(count)
        if len(left) > _MAX_DEPTH:
            raise ValueError(f"the schema is nested more than {_MAX_DEPTH} levels deep")


def _read_struct(stream: BytesIO) -> dict[int, Any]:
    """Return the values of a struct by the numbers of their fields; a field that occurs twice is damage."""
    fields: dict[int, Any] = {}
    number = 0
    while head := stream.read(1)[0]:
        number = number + (head >> 4) if head >> 4 else _read_signed(stream)
        if number in fields:
            raise ValueError(f"field {number}")
        kind = head & 15
        fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else _read_value(stream, kind)
    return fields


def _read_value(stream: BytesIO, kind: int) -> Any:
    if kind in (_I16, _I32, _I64):
        return _read_signed(stream)
    if kind == _STRUCT:
        return _read_struct(stream)
    if kind in (_LIST, _SET):
        head = stream.read(1)[0]
        length = head >> 4 if head >> 4 < 15 else _read_unsigned(stream)
        return [_read_value(stream, head & 15) for _ in range(length)]
    size = _read_unsigned(stream) if kind == _BINARY else _FIXED_BYTES[kind]
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("longer than the file")
    return content


def _read_unsigned(stream: BytesIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("a number without end")


def _read_signed(stream: BytesIO) -> int:
    value = _read_unsigned(stream)
    return (value >> 1) ^ -(value & 1)
