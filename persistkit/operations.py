"""What every operation does before and after its work: check its arguments, and tell the log."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from functools import wraps
from math import inf
from typing import Any, Final, TypeAlias

from persistkit.errors import InvalidKeyError, ValueTooLargeError

__all__ = [
    "MAX_KEY_BYTES",
    "BytesLike",
    "Items",
    "Trace",
    "as_pair",
    "check_key",
    "check_keys",
    "check_prefix",
    "check_size",
    "check_timeout",
    "check_value",
    "collect_items",
    "drop_bypasses",
    "guard",
    "in_parts",
    "traced",
]

BytesLike: TypeAlias = bytes | bytearray | memoryview
Items: TypeAlias = Mapping[str, BytesLike] | Iterable[tuple[str, BytesLike]]

MAX_KEY_BYTES: Final = 1024

_logger = logging.getLogger("persistkit")


def check_key(key: str) -> None:
    """Refuse what cannot be a key on every backend.

    Raises:
        InvalidKeyError: ``key`` is not text, is longer than 1,024 UTF-8 bytes, or holds NUL or a lone surrogate.
    """
    if not isinstance(key, str):
        raise InvalidKeyError(f"a key must be text, not {type(key).__name__}: {_shortened(key)}; write {_as_text(key)}")
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


def check_keys(keys: Iterable[str]) -> list[str]:
    """Return the keys of a batch as a list, all checked.

    Raises:
        InvalidKeyError: one of them cannot be a key.
        TypeError: ``keys`` is one text, not several.
    """
    if isinstance(keys, str):
        raise TypeError(f"a batch takes several keys, not one text: write [{_shortened(keys)}]")
    checked = list(keys)
    for key in checked:
        check_key(key)
    return checked


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that is not text.

    Raises:
        TypeError: ``prefix`` is not text.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"a prefix must be text (str), not {type(prefix).__name__}: {_shortened(prefix)}")


def check_value(key: str, value: BytesLike) -> BytesLike:
    """Return ``value`` as bytes that can be written in one piece.

    Raises:
        TypeError: ``value`` is not bytes-like.
    """
    if isinstance(value, (bytes, bytearray)):
        return value
    if isinstance(value, memoryview):
        return value.cast("B") if value.c_contiguous and value.nbytes else bytes(value)
    raise TypeError(
        f"save {_shortened(key)}: a value must be bytes, bytearray or memoryview, not {type(value).__name__}; "
        f"{_encoding_advice(value)}"
    )


def check_size(key: str, size_bytes: int, limit_bytes: int | None) -> None:
    """Refuse a value that is larger than the engine takes, before it is sent.

    Raises:
        ValueTooLargeError: ``size_bytes`` is above ``limit_bytes``.
    """
    if limit_bytes is not None and size_bytes > limit_bytes:
        raise ValueTooLargeError(
            f"save {_shortened(key)}: a value of {size_bytes:,} bytes is above the {limit_bytes:,} this backend takes; "
            "split it over several keys, or keep it in files or an object store"
        )


def check_timeout(timeout_seconds: float) -> None:
    """Refuse a time to wait that is none.

    Raises:
        TypeError: ``timeout_seconds`` is not a number.
        ValueError: ``timeout_seconds`` is not above zero, or has no end.
    """
    if not isinstance(timeout_seconds, (int, float)):
        raise TypeError(f"timeout_seconds is a number of seconds, such as 30, not {timeout_seconds!r}")
    if not 0 < timeout_seconds < inf:
        raise ValueError(
            f"timeout_seconds is above zero and has an end, not {timeout_seconds:g}; write 3600 for an hour"
        )


def as_pair(item: Any) -> tuple[str, Any]:
    """Return an item of a batch, whatever was given for one, as key and value.

    Raises:
        TypeError: ``item`` is no pair.
    """
    try:
        key, value = item
    except (TypeError, ValueError):
        raise TypeError(f"a batch is a dict, or pairs of key and value, not {_shortened(item)}") from None
    return key, value


def collect_items(items: Items) -> dict[str, BytesLike]:
    """Return the items of a batch by key, all checked; the last of a repeated key wins.

    Raises:
        InvalidKeyError: one of the keys cannot be a key.
        TypeError: one of the values is not bytes-like, or an item is no pair.
    """
    collected: dict[str, BytesLike] = {}
    for key, value in items.items() if isinstance(items, Mapping) else map(as_pair, items):
        check_key(key)
        collected[key] = check_value(key, value)
    return collected


def in_parts(items: Mapping[str, BytesLike], most: int, most_bytes: int) -> Iterator[dict[str, BytesLike]]:
    """Cut a batch into parts of at most ``most`` items and ``most_bytes`` bytes; a larger value is a part by itself.

    Example:
        >>> list(in_parts({"a": b"12", "b": b"3", "c": b"4567"}, most=5, most_bytes=3))
        [{'a': b'12', 'b': b'3'}, {'c': b'4567'}]
    """
    part: dict[str, BytesLike] = {}
    size_bytes = 0
    for key, value in items.items():
        if part and (len(part) == most or size_bytes + len(value) > most_bytes):
            yield part
            part, size_bytes = {}, 0
        part[key] = value
        size_bytes += len(value)
    if part:
        yield part


class Trace:
    """Times one operation and writes one debug record when it ends; values never reach the log."""

    __slots__ = ("_key", "_operation", "_started", "size_bytes")

    def __init__(self, operation: str, key: str | None, size_bytes: int | None = None) -> None:
        self._operation = operation
        self._key = key
        self.size_bytes = size_bytes

    def __enter__(self) -> Trace:
        self._started = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        milliseconds = (time.perf_counter() - self._started) * 1000
        extra = {
            "operation": self._operation,
            "key": self._key,
            "size_bytes": self.size_bytes,
            "milliseconds": milliseconds,
        }
        outcome = "" if kind is None else f" failed: {kind.__name__}"
        _logger.debug(
            "%s key=%r bytes=%s ms=%.3f%s",
            self._operation,
            self._key,
            self.size_bytes,
            milliseconds,
            outcome,
            extra=extra,
        )


_SILENT: Final = nullcontext(None)


def traced(
    operation: str, key: str | None = None, size_bytes: int | None = None
) -> AbstractContextManager[Trace | None]:
    """Trace a ``with`` block as one operation when the logger ``persistkit`` is at DEBUG; free otherwise."""
    return Trace(operation, key, size_bytes) if _logger.isEnabledFor(logging.DEBUG) else _SILENT


def guard(backend_class: type) -> None:
    """Put the checks and the trace around each operation that ``backend_class`` itself defines.

    The interface calls this for every subclass, so a backend of three plain methods refuses the same keys
    and values, and is traced the same way, as the ones shipped here.
    """
    for name, around in _AROUND.items():
        method = vars(backend_class).get(name)
        if inspect.isfunction(method) and not getattr(method, "__isabstractmethod__", False):
            setattr(backend_class, name, around(method))


def drop_bypasses(backend_class: type, interface: type) -> None:
    """Give ``backend_class`` the defaults of ``interface`` for what it inherits and would go around its own methods.

    A backend with a fast ``batch_save`` does not call ``save`` for it. A subclass that overrides ``save`` alone, to
    encrypt or to count, means every value all the same, in batches, in streams and without await.
    """
    order = backend_class.__mro__
    depth = {name: _depth(order, name) for name in (*_AROUND, "blocking_core")}
    stale = {way for name, ways in _WAYS_TO.items() for way in ways if depth[name] < depth[way]}
    if any(depth[name] < depth["blocking_core"] for name in _AROUND):
        stale.add("blocking_core")
    for name in stale:
        if order[depth[name]] is not interface:
            setattr(backend_class, name, vars(interface)[name])


def _depth(order: tuple[type, ...], name: str) -> int:
    return next(depth for depth, home in enumerate(order) if name in vars(home))


def _around_save(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def save(self: Any, key: str, value: BytesLike) -> None:
        check_key(key)
        value = check_value(key, value)
        check_size(key, len(value), self.max_value_bytes)
        with traced("save", key, len(value)):
            await method(self, key, value)

    return save


def _around_load(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def load(self: Any, key: str) -> bytes | None:
        check_key(key)
        with traced("load", key) as trace:
            value: bytes | None = await method(self, key)
            if trace is not None and value is not None:
                trace.size_bytes = len(value)
            return value

    return load


def _around_key(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def on_key(self: Any, key: str) -> Any:
        check_key(key)
        with traced(method.__name__, key):
            return await method(self, key)

    return on_key


def _around_items(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def batch_save(self: Any, items: Items) -> None:
        collected = collect_items(items)
        with traced("batch_save", size_bytes=sum(map(len, collected.values()))):
            await method(self, collected)

    return batch_save


def _around_keys(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def on_keys(self: Any, keys: Iterable[str]) -> Any:
        checked = check_keys(keys)
        with traced(method.__name__) as trace:
            values = await method(self, checked)
            if trace is not None and values is not None:
                trace.size_bytes = sum(len(value) for value in values if value is not None)
            return values

    return on_keys


def _around_prefix(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def on_prefix(self: Any, prefix: str = "") -> Any:
        check_prefix(prefix)
        with traced(method.__name__, prefix):
            return await method(self, prefix)

    return on_prefix


def _around_entries(method: Callable[..., Any]) -> Callable[..., Any]:
    async def traced_entries(entries: AsyncIterator[Any], prefix: str) -> AsyncIterator[Any]:
        with traced("entries", prefix):
            try:
                async for entry in entries:
                    yield entry
            finally:
                if isinstance(entries, AsyncGenerator):
                    await entries.aclose()

    @wraps(method)
    def entries(self: Any, prefix: str = "") -> AsyncIterator[Any]:
        check_prefix(prefix)
        listing: AsyncIterator[Any] = method(self, prefix)
        return traced_entries(listing, prefix) if _logger.isEnabledFor(logging.DEBUG) else listing

    return entries


def _around_stream(method: Callable[..., Any]) -> Callable[..., Any]:
    @asynccontextmanager
    async def traced_stream(stream: Any, key: str) -> AsyncIterator[Any]:
        with traced(method.__name__, key):
            async with stream as opened:
                yield opened

    @wraps(method)
    def open_stream(self: Any, key: str) -> Any:
        check_key(key)
        stream = method(self, key)
        return traced_stream(stream, key) if _logger.isEnabledFor(logging.DEBUG) else stream

    return open_stream


def _around_nothing(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def on_all(self: Any) -> Any:
        with traced(method.__name__):
            return await method(self)

    return on_all


_AROUND: Final[dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]] = {
    "save": _around_save,
    "load": _around_load,
    "delete": _around_key,
    "exists": _around_key,
    "batch_save": _around_items,
    "batch_load": _around_keys,
    "batch_delete": _around_keys,
    "entries": _around_entries,
    "list_keys": _around_prefix,
    "key_count": _around_nothing,
    "change_token": _around_nothing,
    "open_reader": _around_stream,
    "open_writer": _around_stream,
}


# By which other operations a backend may do the same as by one of its basic four.
_WAYS_TO: Final = {
    "save": ("batch_save", "open_writer"),
    "load": ("batch_load", "exists", "open_reader"),
    "delete": ("batch_delete",),
    "entries": ("list_keys", "key_count"),
}


def _as_text(key: object) -> str:
    return "key.decode()" if isinstance(key, bytes) else "str(key)"


def _shortened(given: object, limit: int = 80) -> str:
    text = repr(given)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _encoding_advice(value: object) -> str:
    if isinstance(value, str):
        return "encode text with value.encode()"
    if isinstance(value, (dict, list, tuple, int, float)) or value is None:
        return "encode it with json.dumps(value).encode()"
    return "encode it to bytes first"
