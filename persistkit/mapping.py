"""Mapping: the values of a store one key at a time, and what every dict can do."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from persistkit import views
from persistkit.arguments import BytesLike, check_key
from persistkit.engine import Engine
from persistkit.engines.prefix import PrefixEngine
from persistkit.engines.read_only import ReadOnlyEngine, refusal
from persistkit.errors import FormatError, MissingKeyError
from persistkit.formats import decode, encode, format_of
from persistkit.selection import Selection
from persistkit.suggestions import Suggestions
from persistkit.views import Errors, T

if TYPE_CHECKING:
    from persistkit.transfer import Place

__all__ = ["StoreMapping"]

_NOTHING: Final[Any] = object()  # Any: stands where a value may stand


class StoreMapping(MutableMapping[str, T]):
    """The part of a store that is a dict: typed values under text keys."""

    def __init__(
        self,
        engine: Place,
        *,
        read_only: bool = False,
        address: str | None = None,
        type: Any = None,  # noqa: A002
    ) -> None:
        if not isinstance(engine, Engine):
            from persistkit.background import engine_of  # here, because few bring a backend

            engine = engine_of(engine, self.__class__.__name__)
        self._inner = engine.engine if isinstance(engine, ReadOnlyEngine) else engine
        self.read_only = read_only or self._inner is not engine
        self.engine: Engine = ReadOnlyEngine(self._inner) if self.read_only else engine
        self.address = address or repr(self._inner)
        self._prefix = self._inner.prefix if isinstance(self._inner, PrefixEngine) else ""
        self._type = type
        self._encode: Callable[[Any, str], BytesLike] = encode
        self._decode: Callable[..., Any] = decode
        if type is not None:
            from persistkit.shapes import Shape  # here, because few have types of their own

            shape = Shape(type)
            self._encode, self._decode = shape.encode, shape.decode
        self._suggestions = Suggestions(self.engine)

    def __getitem__(self, key: str) -> T:
        value: T = self.load(key)
        return value

    def __setitem__(self, key: str, value: T) -> None:
        self._check_writable("save", key)
        self.engine.save(key, self._encoded(key, value))

    def __delitem__(self, key: str) -> None:
        self._check_writable("delete", key)
        if not self.engine.exists(key):
            raise self._missing(key)
        self.engine.delete(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.engine.exists(key)

    def load(self, key: str, format: str | None = None, *, max_bytes: int | None = None) -> Any:  # noqa: A002
        """Return the value of ``key``, read as ``format``: ``"json"``, ``"jsonl"``, ``"csv"``, ``"text"``, ``"bytes"``.

        A table may take ``max_bytes`` of memory; None for 256 MiB, or 256 times its size where that is more.

        Raises:
            KeyError: nothing is stored under ``key``.
            FormatError: the value is damaged, or not of that format; without a format the content tells it.
            ValueError: ``format`` is unknown.
        """
        data = self.engine.load_buffer(key)
        if data is None:
            raise self._missing(key)
        return self._value(key, data, format, max_bytes)

    def get(self, key: str, default: Any = None) -> T | Any:
        """Return the value of ``key``, its bytes where it is damaged, or ``default`` where there is none."""
        data = self.engine.load_buffer(key)
        return default if data is None else self._value_or_bytes(key, data)

    def add(self, key: str, value: T) -> bool:
        """Store ``value`` if nothing is stored under ``key``, in one atomic step; tell whether it was stored."""
        self._check_writable("add", key)
        return self.engine.add(key, self._encoded(key, value))

    def setdefault(self, key: str, default: T = None) -> T:  # type: ignore[assignment]  # as dict has it
        """Return the value of ``key``; where there is none, ``default``, stored first. Of several only one stores."""
        while (data := self.engine.load_buffer(key)) is None:
            if self.add(key, default):
                return default
        return self._value(key, data)

    def modify(self, key: str, function: Callable[[T], T], default: T = _NOTHING) -> T:
        """Store what ``function`` makes of the value of ``key``, in one atomic step, and return it.

        The value is loaded, changed, and stored if nobody has stored another one meanwhile; or else all of it is done
        again, so ``function`` may be called several times. Exact between threads, processes and, on servers, machines,
        among all who use ``modify``, ``add`` or ``setdefault``.

        Args:
            key: what to change.
            function: takes the value, or a copy of ``default``; returns the new one.
            default: what it is given where nothing is stored.

        Raises:
            KeyError: nothing is stored under ``key``, and there is no ``default``.
        """
        self._check_writable("modify", key)
        tries = 0
        while True:
            data = self.engine.load(key)
            if data is None and default is _NOTHING:
                raise self._missing(key)
            value = function(deepcopy(default) if data is None else self._value(key, data))
            encoded = self._encoded(key, value)
            if self.engine.add(key, encoded) if data is None else self.engine.replace(key, encoded, data):
                return value
            tries += 1
            time.sleep(random.random() * min(0.05, 0.0005 * 2 ** min(tries, 10)))  # noqa: S311 - so that not all meet again

    def pop(self, key: str, default: Any = _NOTHING) -> T | Any:
        """Remove ``key`` and return its value, its bytes where it is damaged, or ``default`` where there is none."""
        self._check_writable("pop", key)
        data = self.engine.load_buffer(key)
        if data is None:
            if default is _NOTHING:
                raise self._missing(key)
            return default
        value = self._value_or_bytes(key, data)
        self.engine.delete(key)
        return value

    def popitem(self) -> tuple[str, T]:
        """Remove the first known key and return it with its value, as ``pop``."""
        self._check_writable("popitem")
        key = next(iter(self), None)
        if key is None:
            raise KeyError("popitem: the store is empty")
        return key, self.pop(key)

    def get_bytes(self, key: str) -> bytes:
        """Return the stored bytes of ``key`` exactly; raises ``KeyError`` where there are none."""
        data = self.engine.load(key)
        if data is None:
            raise self._missing(key)
        return data

    def put_bytes(self, key: str, data: BytesLike) -> None:
        """Store the bytes ``data`` under ``key`` exactly, whatever they would load as."""
        self._check_writable("save", key)
        self.engine.save(key, data)

    def format_of(self, key: str) -> str:
        """Return the name of the format of one value, such as ``json``, ``parquet``, ``text`` or ``png``."""
        return format_of(self.get_bytes(key), key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.engine.list_keys())

    def __len__(self) -> int:
        return len(self.engine.list_keys())

    def items(
        self, errors: Errors = "raise", *, keys: Iterable[str] | None = None, prefix: str = "", glob: str | None = None
    ) -> ItemsView[str, T]:
        """Return a view of the keys with their values, sorted; iterating reads in batches.

        Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.
        What is not there, or was deleted since the keys were listed, is left out. ``errors`` says what a damaged value
        does: ``"raise"`` its ``FormatError``, be left out (``"skip"``), or come as its bytes (``"bytes"``).

        Raises:
            ValueError: ``errors`` is another word.
        """
        return views.StoreItems(self, errors, Selection(keys, prefix, glob))

    def values(
        self, errors: Errors = "raise", *, keys: Iterable[str] | None = None, prefix: str = "", glob: str | None = None
    ) -> ValuesView[T]:
        """Return a view of the values in the order of their keys; everything else as ``items``."""
        return views.StoreValues(self, self.items(errors, keys=keys, prefix=prefix, glob=glob))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        mine = dict(self.items("bytes"))
        theirs = dict(other.items("bytes") if isinstance(other, StoreMapping) else other.items())
        return mine.keys() == theirs.keys() and all(
            views.equal_values(value, theirs[key]) for key, value in mine.items()
        )

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**self, **other} if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**other, **self} if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]  # changes the store, where | makes a dict
        self.update(other)
        return self

    def _check_writable(self, tried: str, key: str | None = None) -> None:
        if self.read_only:
            raise refusal(tried if key is None else f"{tried} {key!r}", self.address)

    def _missing(self, key: str) -> MissingKeyError:
        return MissingKeyError(key, partial(self._suggestions.near, key))

    def _encoded(self, key: str, value: Any) -> BytesLike:
        if type(key) is not str:
            check_key(key)  # formats look at how a key ends; an engine checks the rest
        try:
            return self._encode(value, key)
        except FormatError as error:
            raise FormatError(f"store {key!r}: {error}") from None

    def _value(self, key: str, data: BytesLike, format: str | None = None, max_bytes: int | None = None) -> T:  # noqa: A002
        try:
            value: T = self._decode(data, format, key, max_bytes=max_bytes)
            return value
        except FormatError as error:
            raise views.damaged(key, error) from None

    def _value_or_bytes(self, key: str, data: BytesLike) -> Any:
        return views.value_or_bytes(key, data) if self._type is None else self._value(key, data)
