"""Writing: from a Python value to bytes that ``decode`` turns back into an equal value."""

from __future__ import annotations

import json
from datetime import date
from math import isfinite
from os import PathLike
from typing import Any, Final, Never

from persistkit.arguments import BytesLike
from persistkit.errors import FormatError
from persistkit.formats.reading import format_of

__all__ = ["check_json", "encode"]


# Far below what Python's parser takes on any stack, so that what was written can be read.
MAX_DEPTH: Final = 300


def encode(value: object) -> BytesLike:
    """Return ``value`` as bytes that ``decode`` turns back into an equal value.

    JSON for dict, list, tuple, str, int, float, bool and None; ``.npy`` for NumPy arrays; Parquet for DataFrames and
    Series (extra ``arrow``); bytes as they are when they would come back as bytes.

    Raises:
        FormatError: the value would not come back equal; the message gives the path, such as ``$.runs[3].loss``.

    Example:
        >>> encode({"loss": 0.25, "tags": ["a"]})
        b'{"loss":0.25,"tags":["a"]}'
        >>> encode({"runs": [{"loss": float("nan")}]})
        Traceback (most recent call last):
        persistkit.errors.FormatError: $.runs[0].loss: JSON has no nan; store None, or a NumPy array
    """
    home = type(value).__module__.partition(".")[0]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _encode_bytes(value)
    if home == "pandas" or _is_pandas(value):
        from persistkit.formats.tables import encode_table

        return encode_table(value)
    if _is_array(value):
        from persistkit.formats.arrays import encode_array

        return encode_array(value)
    return _encode_json(value)


def check_json(value: object, path: str = "$", depth: int = 0) -> Any:
    """Return ``value`` as plain Python that JSON keeps, NumPy scalars as their Python value.

    Raises:
        FormatError: a part of it would come back changed.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is float:
        return value if isfinite(value) else _refuse(path, f"JSON has no {value}; store None, or a NumPy array")  # type: ignore[arg-type]
    if kind is int:
        return _checked_int(value, path)  # type: ignore[arg-type]
    if depth > MAX_DEPTH:
        _refuse(path[:60], f"nested more than {MAX_DEPTH} deep, or containing itself")
    if kind is dict:
        return _checked_dict(value, path, depth)  # type: ignore[arg-type]
    if kind is list or kind is tuple:
        return [check_json(item, f"{path}[{n}]", depth + 1) for n, item in enumerate(value)]  # type: ignore[arg-type,var-annotated]
    return check_json(_scalar(value, path), path, depth)


def _checked_dict(value: dict[object, object], path: str, depth: int) -> dict[str, Any]:
    checked = {}
    for key, item in value.items():
        if type(key) is not str:
            _refuse(path, f"the key {_shown(key)} is {_kind(key)}; JSON keys are text, write str(key)")
        checked[key] = check_json(item, f"{path}{_step(key)}", depth + 1)
    return checked


def _checked_int(value: int, path: str) -> int:
    try:
        str(value)
    except ValueError:  # Python's limit on digits, which guards the way back
        _refuse(path, f"an integer of {value.bit_length():,} bits has more digits than Python reads back")
    return value


def _scalar(value: object, path: str) -> object:
    """Return the Python value of a NumPy scalar, and refuse whatever else JSON does not keep."""
    if type(value).__module__ == "numpy":
        import numpy as np

        if isinstance(value, (np.bool_, np.integer, np.floating, np.str_)):
            plain: object = value.item()
            if type(plain) in (bool, int, float, str):
                return plain
    return _refuse(path, f"{_kind(value)} does not come back as it went in; {_advice(value)}")


def _encode_json(value: object) -> bytes:
    plain = check_json(value)
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        _refuse(_path_to_surrogate(plain, "$") or "$", "text with a lone surrogate is not Unicode; clean it first")


def _path_to_surrogate(value: object, path: str) -> str | None:
    if isinstance(value, str):
        return path if any("\ud800" <= character <= "\udfff" for character in value) else None
    if isinstance(value, dict):
        for key, item in value.items():
            if found := _path_to_surrogate(key, path) or _path_to_surrogate(item, f"{path}{_step(key)}"):
                return found
    if isinstance(value, list):
        for n, item in enumerate(value):
            if found := _path_to_surrogate(item, f"{path}[{n}]"):
                return found
    return None


def _encode_bytes(value: BytesLike) -> bytes:
    if type(value) not in (bytes, bytearray, memoryview):
        _refuse("$", f"{_kind(value)} comes back as plain bytes; write bytes(value)")
    if isinstance(value, memoryview) and (value.format != "B" or value.ndim != 1):
        _refuse("$", "a memoryview of items loses their type; write bytes(value)")
    data = bytes(value)
    kind = format_of(data)
    if kind in ("json", "jsonl", "npy", "parquet", "text"):
        _refuse("$", f"these bytes would load as {kind}, not as bytes; store them with put_bytes")
    return data


def _is_pandas(value: object) -> bool:
    return any(
        kind.__module__.startswith("pandas.") and kind.__name__ in ("DataFrame", "Series")
        for kind in type(value).__mro__
    )


def _is_array(value: object) -> bool:
    return any(kind.__module__ == "numpy" and kind.__name__ == "ndarray" for kind in type(value).__mro__)


def _step(key: str) -> str:
    return f".{key}" if key.isidentifier() else f"[{json.dumps(key)}]"


def _shown(key: object) -> str:
    try:
        return repr(key)[:60]
    except ValueError:  # an integer of more digits than Python prints
        return f"<{_kind(key)}>"


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _advice(value: object) -> str:
    if isinstance(value, (set, frozenset)):
        return "write sorted(value)"
    if isinstance(value, dict):
        return "write dict(value)"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "store bytes under a key of their own"
    for plain in (str, int, float, list):
        if isinstance(value, plain):
            return f"write {plain.__name__}(value)"
    if isinstance(value, tuple):
        return "write value._asdict() or list(value)"
    if _is_array(value) or _is_pandas(value):
        return "store it under a key of its own"
    if isinstance(value, (date, PathLike)):
        return "write str(value)"
    return "turn it into text, numbers, lists and dicts first"


def _refuse(path: str, reason: str) -> Never:
    raise FormatError(f"{path}: {reason}")
