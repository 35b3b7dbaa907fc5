"""Rows of LangGraph's tables, as values: plain data.

A value is a row as ``persistkit.rows`` has it. ``decode_row`` makes a dict of it, with the payloads decoded in their
places: msgpack and JSON as ``langgraph.checkpoint.serde.jsonplus`` writes them, into plain data. No class that a
payload names is imported: an object becomes ``{"$class": "module.Class", **fields}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from math import prod
from pathlib import Path
from sys import getsizeof
from typing import Any, Final
from uuid import UUID

from persistkit.errors import FormatError
from persistkit.rows import split_row

__all__ = ["decode_payload", "decode_row", "row_text"]

_POSITIONAL, _KEYWORDS, _METHOD, _ARRAY, _SNAPSHOT = 1, 2, 3, 6, 7
_OBJECTS: Final = range(6)  # 0: one argument; 4 and 5: pydantic's fields
_DTYPE: Final = re.compile(r"[<>|=][?biufcmMSUV]\d{1,9}(\[\d*[a-zA-Z]+\])?")
_MAX_DEPTH: Final = 32  # of objects within objects; msgpack itself ends at 512 lists or dicts in each
# Below, nothing a payload can say takes much memory: an empty dict is one byte there and 64 here.
_SMALL: Final = 16 * 1024
_LEAST_MEMORY: Final = 128 * 1024 * 1024
_MOST_GROWTH: Final = 16
_SHOWN_BYTES: Final = 100
_SHOWN_ITEMS: Final = 1_000
_PLAIN: Final = frozenset([str, int, float, bool, bytes, type(None)])


def decode_row(data: bytes) -> dict[str, Any]:
    """Return a row as a dict: its columns by name, the payloads decoded.

    Raises:
        FormatError: the row or a payload is damaged, or made to take too much memory.
        ImportError: the package of the extra ``agents`` is not installed.
    """
    row, parts = split_row(data)
    for path, kind, payload in parts:
        *way, name = path
        place = row
        for step in way:
            place = place.setdefault(step, {})
            if type(place) is not dict:
                raise FormatError(f"damaged langgraph: {'.'.join(path)} has no place, {step!r} is no object")
        place[name] = decode_payload(kind, payload)
    return row


def row_text(data: bytes) -> str:
    """Return a row as JSON for people: times and the like as text, bytes and arrays by their first items.

    Raises:
        FormatError: as ``decode_row``, or it is nested too deeply for JSON.
        ImportError: the package of the extra ``agents`` is not installed.
    """
    row = decode_row(data)
    try:
        return json.dumps(row, default=_shown)
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"it cannot be shown as JSON: {str(error)[:200]}") from error


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$class": "bytes", "size": len(value), "first": repr(value[:_SHOWN_BYTES])}
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if not hasattr(value, "dtype"):
        return str(value)
    first = value.reshape(-1)[:_SHOWN_ITEMS]
    return {"$class": "numpy.ndarray", "dtype": str(value.dtype), "shape": value.shape, "first": first.tolist()}


def decode_payload(kind: str | None, data: bytes) -> Any:
    """Return what a payload of a type holds, as plain data; ``{"$type": kind, "data": data}`` where it is not read.

    Raises:
        FormatError: it is damaged, or made to take too much memory.
        ImportError: the package of the extra ``agents`` is not installed.
    """
    if kind == "msgpack":
        return _Unpacking(len(data)).read(data)
    if kind == "null":
        return None
    if kind in ("bytes", "bytearray"):
        return data
    if kind == "json":
        try:
            return _loads(data.decode(errors="surrogatepass"))
        except (ValueError, RecursionError) as error:
            raise FormatError(f"damaged langgraph: not JSON: {str(error)[:200]}") from error
    return {"$type": kind, "data": data}  # pickle would run code, and what is encrypted has its key elsewhere


def _constructed(value: dict[str, Any]) -> Any:
    """Return an object of LangChain's JSON as plain data."""
    name = value.get("id")
    if value.get("type") != "constructor" or value.get("lc") not in (1, 2) or type(name) is not list:
        return value
    args = {"args": value["args"]} if value.get("args") else {}
    return _object(".".join(map(str, name)), value.get("kwargs") or {}) | args


_loads: Final = json.JSONDecoder(object_hook=_constructed).decode


def _object(name: str, fields: Any) -> dict[str, Any]:
    if type(fields) is dict and "$class" not in fields:
        return {"$class": name, **fields}
    return {"$class": name, "value": fields}


class _Unpacking:
    """Reads one payload of msgpack, whose objects are payloads within it, and counts what that takes."""

    def __init__(self, size: int) -> None:
        try:
            import msgpack
        except ImportError as error:
            raise ImportError('LangGraph needs one more package: pip install "persistkit[agents]"') from error
        self._msgpack = msgpack
        self._depth = 0
        self._copied = 8 * size + _SMALL  # each level of objects is a copy of those within it
        self._memory = max(_LEAST_MEMORY, _MOST_GROWTH * size)

    def read(self, data: bytes) -> Any:
        self._depth += 1
        self._copied -= len(data)
        if self._depth > _MAX_DEPTH or self._copied < 0:
            raise FormatError("damaged langgraph: objects are nested too deeply")
        hooks: dict[str, Any] = {}
        try:
            if len(data) > _SMALL:
                # Nothing is made before the whole is known to be there: a list of four billion is five bytes.
                unpacker = self._msgpack.Unpacker(max_buffer_size=len(data))
                unpacker.feed(data)
                unpacker.skip()
                hooks = {"object_hook": self._counted, "list_hook": self._counted}
            try:
                value = self._unpack(data, **hooks)
            except TypeError:  # a list or an object as the key of a dict
                self._copied -= len(data)
                value = self._unpack(data, object_pairs_hook=self._keyed, list_hook=self._counted)
        except FormatError:
            raise
        except (ValueError, TypeError, OverflowError, RecursionError, self._msgpack.UnpackException) as error:
            raise FormatError(f"damaged langgraph: {type(error).__name__}: {str(error)[:200]}") from error
        self._depth -= 1
        return value

    def _unpack(self, data: bytes, **hooks: Any) -> Any:
        return self._msgpack.unpackb(data, ext_hook=self._extension, strict_map_key=False, timestamp=3, **hooks)

    def _counted(self, value: Any) -> Any:
        self._memory -= getsizeof(value)
        if self._memory < 0:
            raise FormatError("damaged langgraph: it would take far more memory than it has bytes")
        return value

    def _keyed(self, pairs: list[tuple[Any, Any]]) -> Any:
        # As text: tuples and numbers of one hash would take minutes to put into a dict.
        return self._counted({key if type(key) in _PLAIN else str(key): value for key, value in pairs})

    def _extension(self, code: int, data: bytes) -> Any:
        if code == _SNAPSHOT:
            return self.read(data)
        if code == _ARRAY:
            return _array(self.read(data))
        if code not in _OBJECTS:
            return {"$ext": code, "data": data}
        fields = self.read(data)
        if type(fields) is not list or len(fields) < 3 or type(fields[0]) is not str or type(fields[1]) is not str:
            raise FormatError("damaged langgraph: an object without the name of its class")
        name, value = f"{fields[0]}.{fields[1]}", fields[2]
        if (restore := _RESTORED.get((name, code))) is not None:
            with suppress(ValueError, TypeError, ArithmeticError, AttributeError):
                return restore(value)
        if code == _POSITIONAL:
            return {"$class": name, "args": value}
        return _object(name, value)


def _array(value: Any) -> Any:
    import numpy as np  # here, because few states hold arrays

    try:
        dtype_name, shape, order, data = value
        if not _DTYPE.fullmatch(dtype_name):  # an array of objects, of which there are only addresses
            return {"$class": "numpy.ndarray", "dtype": dtype_name, "shape": shape, "data": data}
        dtype = np.dtype(dtype_name)
        if len(shape) > 64 or not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError("no shape")
        if prod(shape) * dtype.itemsize != len(data) or not dtype.itemsize:
            raise ValueError(f"{len(data):,} bytes for the shape {shape}")
        return np.frombuffer(data, dtype).reshape(shape, order=order).copy(order="A")
    except (ValueError, TypeError) as error:
        raise FormatError(f"damaged langgraph: an array that cannot be: {str(error)[:200]}") from error


def _plain(items: Any) -> Any:
    if not all(type(item) in _PLAIN for item in items):  # the rest cannot be in a set, or may share one hash
        raise TypeError
    return items


# What Python itself has a word for. Any: the argument is whatever the payload holds, and may be of the wrong type.
_RESTORED: Final[dict[tuple[str, int], Callable[[Any], Any]]] = {
    ("datetime.datetime", _METHOD): datetime.fromisoformat,
    ("datetime.date", _POSITIONAL): lambda parts: date(*parts),
    ("datetime.time", _KEYWORDS): lambda parts: time(**parts),
    ("datetime.timedelta", _POSITIONAL): lambda parts: timedelta(*parts),
    ("datetime.timezone", _POSITIONAL): lambda parts: timezone(*parts),
    ("uuid.UUID", 0): UUID,
    ("decimal.Decimal", 0): Decimal,
    ("builtins.set", 0): lambda items: set(_plain(items)),
    ("builtins.frozenset", 0): lambda items: frozenset(_plain(items)),
    ("pathlib.PosixPath", _POSITIONAL): lambda parts: Path(*parts),
    ("pathlib._local.PosixPath", _POSITIONAL): lambda parts: Path(*parts),
}
