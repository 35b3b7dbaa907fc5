"""Writing: from a Python value to bytes that ``decode`` turns back into an equal value of the same type."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from math import isfinite
from typing import Any, Final

from persistkit.arguments import BytesLike
from persistkit.errors import FormatError
from persistkit.formats.reading import LINES_KEYS, decode_text, format_of
from persistkit.formats.tags import MARK, has_many_hashes, tag_of

__all__ = ["encode", "encode_json"]

# Far below what Python's parser takes on any stack, so that what was written can be read.
_MAX_DEPTH: Final = 300
_MAX_BYTES: Final = 1024 * 1024
_TEXT: Final = frozenset([str])
_PLAIN: Final = frozenset([str, int, float, bool, type(None)])
# Where pandas 3, and where pandas 2, says that its classes are.
_PANDAS: Final = frozenset(["pandas", "pandas.core.frame", "pandas.core.series"])
_JOINED: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")

_dumps: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
_dumps_ascii: Final = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


def encode(value: object, key: str | None = None) -> BytesLike:
    """Return ``value`` as bytes that ``decode`` turns back into an equal value of the same type.

    JSON for dict, list, int, float, bool and None, and tagged (``persistkit.formats.tags``) for what JSON has no word
    for; text as it is, or as JSON where it would be read as something else; ``.npy`` for NumPy arrays; Parquet for
    DataFrames and Series; bytes as they are, or tagged.

    Args:
        value: what to store.
        key: where it will be stored; below ``.jsonl`` and ``.ndjson`` a list of dicts and lists is JSON Lines.

    Raises:
        FormatError: the value would not come back equal; the message gives the path, such as ``$.runs[3].loss``, and
            what to store instead.

    Example:
        >>> encode({"loss": 0.25, "tags": ["a"]})
        b'{"loss":0.25,"tags":["a"]}'
        >>> encode({"shape": (3, 4)})
        b'{"shape":{"$py":"tuple","value":[3,4]}}'
        >>> encode({"runs": [{"model": object()}]})
        Traceback (most recent call last):
        persistkit.errors.FormatError: $.runs[0].model: object is not kept; store text, numbers, lists and dicts instead
    """
    kind = type(value)
    if kind is str:
        return _encode_text(value, key)  # type: ignore[arg-type]
    if kind is bytes:
        return _encode_bytes(value, key)  # type: ignore[arg-type]
    if kind.__module__ in _PANDAS and kind.__name__ in ("DataFrame", "Series"):
        from persistkit.formats.tables import encode_table

        return encode_table(value)  # type: ignore[arg-type]
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        from persistkit.formats.arrays import encode_array

        return encode_array(value)  # type: ignore[arg-type]
    if kind is float and not isfinite(value):  # type: ignore[arg-type]
        return _fit_key(_dumps({MARK: "float", "value": value}).encode(), value, key)
    return _fit_key(encode_json(value), value, key)


def encode_json(value: object, path: str = "$") -> bytes:
    """Return a value as JSON, tagged where JSON has no word for it.

    Raises:
        FormatError: the value would not come back equal; ``path`` is where it stands.
    """
    try:
        if _is_plain(value):
            return _dumps(value).encode()
    except (ValueError, RecursionError):  # integers and text that need care, or a value that contains itself
        pass
    steps: list[object] = []
    try:
        tagged = _tagged(value, 0, steps)
    except FormatError as error:
        path += "".join(map(_shown, steps[:20]))[:200]
        raise FormatError(f"{path}: {str(error).removeprefix('$: ')}") from None
    except RecursionError as error:
        raise FormatError(f"{path}: nested too deeply for what is left of the stack; store its parts") from error
    try:
        return _dumps(tagged).encode()
    except UnicodeEncodeError:
        return _dumps_ascii(tagged).encode()


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Tell whether a value goes through JSON as it is: this is every save of most programs."""
    kind = type(value)
    items: Any
    if kind is dict:
        if not _TEXT.issuperset(map(type, value)) or MARK in value:
            return False
        items = value.values()
    elif kind is list:
        items = value
    else:
        return kind in _PLAIN
    if _PLAIN.issuperset(map(type, items)):
        return True
    return depth < _MAX_DEPTH and all(_is_plain(item, depth + 1) for item in items if type(item) not in _PLAIN)


def _tagged(value: Any, depth: int, steps: list[object]) -> Any:
    """Return a value as JSON has words for it; where it is refused, ``steps`` are the keys and places on the way."""
    kind = type(value)
    if kind in _PLAIN:
        _check_plain(value)
        return value
    if depth > _MAX_DEPTH:
        raise FormatError(
            f"nested more than {_MAX_DEPTH} deep, or containing itself; store its parts under keys of their own"
        )
    if kind is list:
        return _tagged_items(value, depth, steps)
    if kind is dict:
        return _tagged_dict(value, depth, steps)
    if kind is tuple:
        return {MARK: "tuple", "value": _tagged_items(value, depth + 1, steps)}
    if kind is set or kind is frozenset:
        if not has_many_hashes(value):
            raise FormatError("almost all of its items have the same hash; store a list")
        # In the order of their text, equal sets are equal bytes.
        items = _distinct(_tagged_items(value, depth + 1, steps), "a list")
        return {MARK: kind.__name__, "value": [items[text] for text in sorted(items)]}
    if kind is range:
        _tagged_items([value.start, value.stop, value.step], depth, steps)
    tag = tag_of(value)
    if tag is None:
        raise FormatError(f"{_kind(value)} is not kept; {_advice(value)}")
    return {MARK: tag[0], "value": tag[1]}


def _tagged_items(items: Iterable[Any], depth: int, steps: list[object]) -> list[Any]:
    tagged = []
    for place, item in enumerate(items):
        steps.append(place)
        tagged.append(_tagged(item, depth + 1, steps))
        steps.pop()
    return tagged


def _tagged_dict(value: dict[Any, Any], depth: int, steps: list[object]) -> dict[str, Any]:
    is_plain = _TEXT.issuperset(map(type, value)) and MARK not in value
    depth += 1 if is_plain else 3
    tagged = []
    for key, item in value.items():
        steps.append(key)
        tagged.append([_tagged(key, depth, steps), _tagged(item, depth, steps)])
        steps.pop()
    if is_plain:
        return dict(tagged)
    if not has_many_hashes(value):
        raise FormatError("almost all of its keys have the same hash; store a list of pairs")
    _distinct([key for key, _ in tagged], "a list of pairs")
    return {MARK: "dict", "value": tagged}


def _distinct(items: list[Any], way: str) -> dict[str, Any]:
    """Return items, as they are stored, by their text."""
    found = {_dumps_ascii(item): item for item in items}
    if len(found) < len(items):
        raise FormatError(f"NaN is in it twice, and would come back once; store {way}")
    return found


def _check_plain(value: Any) -> None:
    if type(value) is str and not value.isascii() and _JOINED.search(value):
        raise FormatError(
            "text with two surrogates that JSON would join; store "
            "value.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        )
    if type(value) is int and value.bit_length() > 14_000:
        try:
            str(value)
        except ValueError:  # Python's limit on digits, which guards the way back
            raise FormatError(
                f"an integer of {value.bit_length():,} bits has more digits than Python reads back; store hex(value)"
            ) from None


def _encode_text(value: str, key: str | None) -> bytes:
    try:
        data = value.encode()
    except UnicodeEncodeError:
        return encode_json(value)
    found = decode_text(data, key)
    return data if type(found) is str and found == value else encode_json(value)


def _encode_bytes(value: bytes, key: str | None) -> bytes:
    if format_of(value, key) not in ("json", "jsonl", "langgraph", "npy", "parquet", "text"):
        return value
    if len(value) > _MAX_BYTES:
        raise FormatError(
            f"$: these {len(value):,} bytes would load as {format_of(value, key)}, not as bytes; store them with "
            f"put_bytes(key, data), and load(key, format='bytes') reads them back"
        )
    return _fit_key(encode_json(value), value, key)


def _fit_key(data: bytes, value: object, key: str | None) -> bytes:
    """Return JSON that stays one value below a key whose single lines are read as lists."""
    if key is None or not key.endswith(LINES_KEYS) or data[:1] not in (b"{", b"["):
        return data
    if type(value) is list and value:
        lines = [encode_json(item) for item in value]
        if all(line[:1] in (b"{", b"[") for line in lines):
            return b"\n".join(lines) + b"\n"
    return data[:1] + b"\n" + data[1:]


def _shown(step: object) -> str:
    if type(step) is str:
        return f".{step}" if step.isidentifier() else f"[{json.dumps(step)}]"
    try:
        return f"[{step!r:.60}]"
    except ValueError:  # an integer of more digits than Python prints
        return f"[<{_kind(step)}>]"


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# What to store instead: by an attribute, or by the name of the type or of one it inherits; the first that fits.
_WAYS: Final = {
    ".__dataclass_fields__": "dataclasses.asdict(value)",
    ".model_dump": "value.model_dump()",
    "._asdict": "value._asdict()",
    ".to_pandas": "value.to_pandas() under a key of its own",
    ".savefig": "what value.savefig(buffer) writes, with put_bytes",
    ".cpu": "value.detach().cpu().numpy()",
    "._repr_png_": "what value.save(buffer, 'PNG') writes, with put_bytes",
    "Enum": "value.value",
    "DataFrame": "it under a key of its own, as a plain pandas.DataFrame",
    "Series": "it under a key of its own, as a plain pandas.Series",
    "Index": "value.to_series() under a key of its own, or list(value)",
    "NAType": "None",
    "MaskedArray": "value.data and value.mask",
    "ndarray": "numpy.asarray(value)",
    "longdouble": "float(value)",
    "clongdouble": "complex(value)",
    "generic": "value.item()",
    **dict.fromkeys(
        ["Period", "Interval", "date", "PurePath", "tzinfo", "Fraction", "_IPAddressBase", "BaseException"],
        "str(value)",
    ),
    **dict.fromkeys(["bytearray", "memoryview"], "bytes(value)"),
    **{
        name: f"{name}(value)"
        for name in ("dict", "str", "bytes", "bool", "int", "float", "tuple", "list", "set", "frozenset")
    },
    ".keys": "dict(value)",
    ".__iter__": "list(value)",
}


def _advice(value: object) -> str:
    kinds = type(value).__mro__
    names = {kind.__name__ for kind in kinds} | {f".{name}" for kind in kinds for name in vars(kind)}
    return "store " + next(
        (way for name, way in _WAYS.items() if name in names), "text, numbers, lists and dicts instead"
    )
