"""Arguments: what can be a key, a value, a batch or a timeout, checked before any I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import takewhile
from math import inf
from typing import Any, Final, TypeAlias

from persistkit.errors import InvalidKeyError, ValueTooLargeError

__all__ = [
    "MAX_KEY_BYTES",
    "BytesLike",
    "Items",
    "as_pair",
    "check_key",
    "check_keys",
    "check_prefix",
    "check_size",
    "check_timeout",
    "check_value",
    "collect_items",
    "key_of",
    "shared_start",
]

BytesLike: TypeAlias = bytes | bytearray | memoryview
Items: TypeAlias = Mapping[str, BytesLike] | Iterable[tuple[str, BytesLike]]

MAX_KEY_BYTES: Final = 1024


def check_key(key: object) -> None:
    """Refuse, with ``InvalidKeyError``, what cannot be a key on every engine."""
    if not isinstance(key, str):
        advice = "key.decode()" if isinstance(key, bytes) else "str(key)"
        raise InvalidKeyError(f"a key must be text, not {type(key).__name__}: {_shortened(key)}; write {advice}")
    if "\0" in key:
        raise InvalidKeyError(f"a key must not contain NUL: {_shortened(key)}")
    if key.isascii():
        size_bytes = len(key)
    else:
        try:
            size_bytes = len(key.encode())
        except UnicodeEncodeError as error:
            raise InvalidKeyError(f"a key must be valid Unicode, without lone surrogates: {_shortened(key)}") from error
    if size_bytes > MAX_KEY_BYTES:
        raise InvalidKeyError(
            f"a key must fit {MAX_KEY_BYTES:,} UTF-8 bytes, not {size_bytes:,}: {_shortened(key)}; shorten it"
        )


def key_of(name: bytes) -> str | None:
    r"""Return the key whose UTF-8 ``name`` is, or None when that cannot be a key: other programs store what they like.

    Example:
        >>> key_of(b"run/1"), key_of(b"\xff")
        ('run/1', None)
    """
    if len(name) > MAX_KEY_BYTES or b"\0" in name:
        return None
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None


def check_keys(keys: Iterable[str]) -> list[str]:
    """Return the keys of a batch as a list, all checked; one text is no batch."""
    if isinstance(keys, str):
        raise TypeError(f"a batch takes several keys, not one text: write [{_shortened(keys)}]")
    checked = list(keys)
    for key in checked:
        check_key(key)
    return checked


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that is not text."""
    if not isinstance(prefix, str):
        raise TypeError(f"a prefix must be text (str), not {type(prefix).__name__}: {_shortened(prefix)}")


def check_value(key: str, value: BytesLike) -> BytesLike:
    """Return ``value`` as bytes that can be written in one piece; ``TypeError`` for what is not bytes-like."""
    if isinstance(value, (bytes, bytearray)):
        return value
    if isinstance(value, memoryview):
        return value.cast("B") if value.c_contiguous and value.nbytes else bytes(value)
    raise TypeError(
        f"save {_shortened(key)}: a value must be bytes, bytearray or memoryview, not {type(value).__name__}; "
        f"{_encoding_advice(value)}"
    )


def check_size(key: str, size_bytes: int, limit_bytes: int | None) -> None:
    """Refuse, with ``ValueTooLargeError``, a value that is larger than the engine takes, before it is sent."""
    if limit_bytes is not None and size_bytes > limit_bytes:
        raise ValueTooLargeError(
            f"save {_shortened(key)}: a value of {size_bytes:,} bytes is above the {limit_bytes:,} this engine takes; "
            "split it over several keys, or keep it in files or an object store"
        )


def check_timeout(timeout_seconds: float) -> None:
    """Refuse a time to wait that is no number, not above zero, or without an end."""
    if not isinstance(timeout_seconds, (int, float)):
        raise TypeError(f"timeout_seconds is a number of seconds, such as 30, not {timeout_seconds!r}")
    if not 0 < timeout_seconds < inf:
        raise ValueError(
            f"timeout_seconds is above zero and has an end, not {timeout_seconds:g}; write 3600 for an hour"
        )


def as_pair(item: Any) -> tuple[str, Any]:
    """Return an item of a batch, whatever was given for one, as key and value; refuse what is no pair."""
    try:
        key, value = item
    except (TypeError, ValueError):
        kind = ValueError if isinstance(item, (tuple, list)) else TypeError
        raise kind(f"a batch is a dict, or pairs of key and value, not {_shortened(item)}") from None
    return key, value


def collect_items(items: Items, limit_bytes: int | None) -> dict[str, BytesLike]:
    """Return the items of a batch by key, all checked; the last of a repeated key wins."""
    collected: dict[str, BytesLike] = {}
    for key, value in items.items() if isinstance(items, Mapping) else map(as_pair, items):
        check_key(key)
        collected[key] = check_value(key, value)
    for key, value in collected.items():
        check_size(key, len(value), limit_bytes)
    return collected


def shared_start(keys: Collection[str]) -> str:
    """Return the text every one of ``keys`` starts with."""
    pairs = zip(min(keys, default=""), max(keys, default=""), strict=False)
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _shortened(given: object, limit: int = 80) -> str:
    text = repr(given)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _encoding_advice(value: object) -> str:
    if isinstance(value, str):
        return "encode text with value.encode()"
    if isinstance(value, (dict, list, tuple, int, float)) or value is None:
        return "encode it with json.dumps(value).encode()"
    return "encode it to bytes first"
