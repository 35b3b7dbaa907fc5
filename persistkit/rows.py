"""Rows of LangGraph's tables as single values: the columns as a line of JSON, the payloads byte for byte.

A value is the line ``MAGIC``, a line of JSON (the small columns by their names, and ``parts``: path, type and size of
each payload), and the payloads, as they are stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from persistkit.errors import FormatError

__all__ = ["MAGIC", "Part", "row_head", "split_row"]

# No text and no other format begins so: 0x93 is no first byte of UTF-8.
MAGIC: Final = b"\x93LANGGRAPH 1\n"
Part: TypeAlias = tuple[list[str], str | None, bytes]

_dumps: Final = json.JSONEncoder(separators=(",", ":")).encode


def row_head(columns: dict[str, Any], parts: Iterable[tuple[Sequence[str], str | None, int]]) -> bytes:
    """Return what stands before the payloads of a row.

    Args:
        columns: the small columns, by name.
        parts: of each payload the path to its place in the row, its type and its size in bytes.
    """
    return MAGIC + _dumps({**columns, "parts": list(parts)}).encode() + b"\n"


def split_row(data: bytes) -> tuple[dict[str, Any], list[Part]]:
    """Return the small columns of a row, and path, type and bytes of each payload.

    Raises:
        FormatError: the row is damaged.
    """
    end = data.find(b"\n", len(MAGIC)) + 1
    try:
        columns: dict[str, Any] = json.loads(data[len(MAGIC) : end])
        parts = []
        for path, kind, size in columns.pop("parts"):
            if not path or not all(type(name) is str for name in path) or type(size) is not int or size < 0:
                raise ValueError("a payload has no place or size")
            parts.append((path, kind, data[end : end + size]))
            end += size
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FormatError(f"damaged langgraph: the line of columns cannot be read: {str(error)[:200]}") from error
    if not data.startswith(MAGIC) or end != len(data):
        raise FormatError(f"damaged langgraph: {end:,} bytes are described, {len(data):,} are there")
    return columns, parts
