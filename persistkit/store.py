"""Store: what a person types in a notebook; typed values under text keys, tables of them, a browser."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from copy import deepcopy
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, Never, Self, Unpack, overload

from persistkit import views
from persistkit.arguments import BytesLike, check_keys
from persistkit.engine import Engine
from persistkit.engines import open_engine, shown_address
from persistkit.engines.addresses import Options
from persistkit.engines.prefix import PrefixEngine
from persistkit.engines.read_only import ReadOnlyEngine, refusal
from persistkit.errors import FormatError, MissingKeyError
from persistkit.formats import decode, encode, format_of
from persistkit.matching import Suggestions, spelling_of
from persistkit.progress import Progress
from persistkit.reports import Reports
from persistkit.staging import store_all
from persistkit.views import Errors, T, V

if TYPE_CHECKING:
    from persistkit.transfer import Place

__all__ = ["Store", "open"]

_NOTHING: Final[Any] = object()  # Any: stands where a value may stand


def open(  # noqa: A001 - persistkit.open is its name; nobody imports it bare
    address: str | PathLike[str], *, create: bool = False, read_only: bool = False, **options: Unpack[Options]
) -> Store[Any]:
    """Open the store at a path, or at an address of another engine (see ``persistkit.open_engine``).

    A mistyped path is an error, not a new empty store, unless ``create`` is given; with ``read_only`` every write is
    refused. The arguments, the ``options`` of each engine and the errors are those of ``open_engine``.

    Example:
        >>> with open("memory:") as store:
        ...     store["run/1"] = {"loss": 0.25}
        ...     store["run/1"]
        {'loss': 0.25}
    """
    engine = open_engine(address, create=create, read_only=read_only, **options)
    return Store(engine, address=shown_address(address))


class Store(Reports, MutableMapping[str, T]):
    """Typed values under text keys: a mapping over an engine.

    What goes in comes back equal or is refused with a ``FormatError`` (see ``persistkit.formats``). Iteration and
    ``len`` are over the known keys, sorted; ``to_frame`` shows everything stored. Works inside a running event loop
    and from any thread.

    A damaged value, such as half an array, raises ``FormatError`` where it is asked for: ``store[key]``. What must go
    on takes its bytes instead: ``get`` and ``pop`` return them (never the default, or ``get`` and save would destroy
    what can still be repaired), ``==`` compares them, and bulk reads do as their ``errors`` says.

    ``store[key] += 1`` is two steps, and ``store[key]["a"] = 2`` changes nothing stored; ``add``, ``setdefault`` and
    ``modify`` are one step, between threads, processes and, on servers, machines.

    Args:
        engine: where the bytes are; also another store, or a backend.
        read_only: refuse every write with ``ReadOnlyError`` before any I/O, on every path this store hands out.
        address: how to name the place in reprs; the engine's own name by default.
        type: of all values, as for ``view``.

    Attributes:
        engine: the bytes, for whoever wants them: ``store.engine.load(key)``.
        read_only: whether every write is refused.
        address: the name of the place.
    """

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
        already = isinstance(engine, ReadOnlyEngine)
        self.read_only = read_only or already
        self.engine: Engine = ReadOnlyEngine(engine) if read_only and not already else engine
        inner = engine.engine if isinstance(engine, ReadOnlyEngine) else engine
        self.address = address or repr(inner)
        self._prefix = inner.prefix if isinstance(inner, PrefixEngine) else ""
        self._type = type
        self._encode: Callable[[Any, str], BytesLike] = encode
        self._decode: Callable[..., Any] = decode
        if type is not None:
            from persistkit.shapes import Shape  # here, because few have types of their own

            shape = Shape(type)
            self._encode, self._decode = shape.encode, shape.decode
        self._suggestions = Suggestions(self.engine)

    def __repr__(self) -> str:
        return f"Store({self.address!r}{', read_only=True' if self.read_only else ''})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Never:
            # Whoever comes from an engine or a backend is led back to it.
            what = f"{type(self).__name__!r} object has no attribute {name!r}; {spelling_of(name)}"
            raise AttributeError(what, name=name, obj=self)

    def __reduce__(self) -> tuple[object, ...]:
        # A worker opens the place anew; what the engine does not pickle (credentials) comes from its environment.
        return partial(type(self), address=self.address, type=self._type), (self.engine,)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what the engine holds; using the store again opens it anew."""
        self.engine.close()

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
        try:
            return self._decode(data, format, key, max_bytes=max_bytes)
        except FormatError as error:
            raise views.damaged(key, error) from error

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

        Example:
            >>> open("memory:").modify("count", lambda count: count + 1, default=0)
            1
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

    # Keys

    def __iter__(self) -> Iterator[str]:
        return iter(self.engine.list_keys())

    def __len__(self) -> int:
        return len(self.engine.list_keys())

    def keys(self, prefix: str = "") -> list[str]:  # type: ignore[override]  # a list is what people index
        """Return the known keys that start with ``prefix`` (literal text), sorted."""
        return self.engine.list_keys(prefix)

    @overload
    def view(self, prefix: str) -> Store[T]: ...

    @overload
    def view(self, prefix: str, type: type[V]) -> Store[V]: ...

    def view(self, prefix: str, type: Any = None) -> Store[Any]:  # noqa: A002
        """Return the keys that start with ``prefix``, without it, as a store of its own with everything a store has.

        Args:
            prefix: literal text.
            type: of the values: a dataclass, a pydantic model, a TypedDict (of ``typing_extensions`` before Python
                3.12) or an enum, written and validated by pydantic; without it, values as in this store. A bad value
                is a ``FormatError`` that names key and field, of ``get`` and ``pop`` too.

        Raises:
            ImportError: pydantic is not installed, and there is a ``type``.
            TypeError: ``prefix`` is not text, or pydantic does not know what to do with ``type``.

        Example:
            >>> store = open("memory:")
            >>> store["run/1"] = {"loss": 0.25}
            >>> dict(store.view("run/"))
            {'1': {'loss': 0.25}}
        """
        inner = self.engine.engine if isinstance(self.engine, ReadOnlyEngine) else self.engine
        engine = PrefixEngine(inner, prefix)
        address = f"{self.address}, below {prefix!r}"
        return Store(engine, read_only=self.read_only, address=address, type=type or self._type)

    # Many values

    def items(self, errors: Errors = "raise") -> ItemsView[str, T]:
        """Return a view of all keys with their values, sorted; iterating reads in batches.

        What was deleted since the keys were listed is left out.

        Args:
            errors: what a damaged value does: ``"raise"`` its ``FormatError``, be left out (``"skip"``), or come as
                its bytes (``"bytes"``).

        Raises:
            ValueError: ``errors`` is another word.
        """
        return views.StoreItems(self, self.engine, errors, self._decode)

    def values(self, errors: Errors = "raise") -> ValuesView[T]:
        """Return a view of all values in the order of their keys; everything else as ``items``."""
        return views.StoreValues(self, self.engine, errors, self._decode)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        mine = dict(self.items("bytes"))
        theirs = dict(other.items("bytes") if isinstance(other, Store) else other.items())
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

    def load_many(self, keys: Iterable[str], errors: Errors = "raise", *, progress: bool = True) -> dict[str, T]:
        """Return the values of ``keys`` by key, in batches.

        Args:
            keys: what to load.
            errors: as in ``items``.
            progress: show a bar when it takes longer than a second.

        Raises:
            KeyError: nothing is stored under one of them.
            FormatError: one of them is damaged (``errors="raise"``).
        """
        views.check_errors(errors)
        wanted = list(dict.fromkeys(check_keys(keys)))
        with Progress(len(wanted), "loading", shown=progress) as bar:
            return dict(
                views.read_values(self.engine, wanted, errors, self._decode, progress=bar, missing=self._missing)
            )

    def update(  # type: ignore[override]  # progress is no key
        self, other: Any = (), /, *, progress: bool = True, **more: T
    ) -> None:
        """Store the values of ``other`` and ``more``, with a bar when it takes over a second and ``progress`` is True.

        Takes what ``dict.update`` takes. Every value is checked before the first one is stored, and on SQL it is one
        transaction; beyond 256 MiB they wait in a temporary file. An iterator, such as a generator, is checked and
        stored batch by batch, and no more than a batch is in memory.

        Raises:
            FormatError: a value cannot be stored; but for an iterator's earlier batches, nothing was.
            ValueError: an item is no pair of key and value.
            BatchError: the storage refused some of them.
        """
        if not isinstance(progress, bool):  # a key given by name
            raise TypeError(f"progress is True or False; to store a value under that key: {{'progress': {progress!r}}}")
        self._check_writable("update")
        store_all(self.engine, other, more, self._encoded, prefix=self._prefix, progress=progress)

    def clear(self) -> None:
        """Remove every known key, in batches."""
        self._check_writable("clear")
        self.engine.batch_delete(self.keys())

    def _check_writable(self, tried: str, key: str | None = None) -> None:
        if self.read_only:
            raise refusal(tried if key is None else f"{tried} {key!r}", self.address)

    def _missing(self, key: str) -> MissingKeyError:
        return MissingKeyError(key, partial(self._suggestions.near, key))

    def _encoded(self, key: str, value: Any) -> BytesLike:
        try:
            return self._encode(value, key)
        except FormatError as error:
            raise FormatError(f"store {key!r}: {error}") from error

    def _value(self, key: str, data: BytesLike) -> T:
        try:
            value: T = self._decode(data, None, key)
            return value
        except FormatError as error:
            raise views.damaged(key, error) from error

    def _value_or_bytes(self, key: str, data: BytesLike) -> Any:
        return views.value_or_bytes(key, data) if self._type is None else self._value(key, data)
