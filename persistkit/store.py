"""Store: what a person types in a notebook; typed values under text keys, tables of them, a browser."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping, Sized, ValuesView
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, Never, Self

from persistkit.arguments import BytesLike, as_pair, check_keys
from persistkit.engine import Engine
from persistkit.engines import open_engine, shown_address
from persistkit.engines.read_only import ReadOnlyEngine, refusal
from persistkit.errors import FormatError, MissingKeyError, PersistenceError
from persistkit.formats import decode, encode, format_of
from persistkit.keys import alternatives
from persistkit.matching import Suggestions, matching_keys
from persistkit.progress import BATCH_BYTES, Progress, load_in_batches
from persistkit.views import (
    Errors,
    StoreItems,
    StoreValues,
    check_errors,
    damaged,
    equal_values,
    read_values,
    value_or_bytes,
)

if TYPE_CHECKING:
    import pandas as pd

    from persistkit.browser import KeyBrowser
    from persistkit.transfer import CopyReport, Overwrite, Place

__all__ = ["Store", "open"]

_CARD_ROWS: Final = 8


def open(  # noqa: A001 - persistkit.open is its name; nobody imports it bare
    address: str | PathLike[str], *, create: bool = False, read_only: bool = False, **options: Any
) -> Store:
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


class Store(MutableMapping[str, Any]):
    """Typed values under text keys: a mapping over an engine.

    What goes in comes back equal or is refused with a ``FormatError`` (see ``persistkit.formats``). Iteration and
    ``len`` are over the known keys, sorted; ``to_frame`` shows everything stored. Works inside a running event loop
    and from any thread.

    A damaged value, such as half an array, raises ``FormatError`` where it is asked for: ``store[key]``. What must go
    on takes its bytes instead: ``get`` and ``pop`` return them (never the default, or ``get`` and save would destroy
    what can still be repaired), ``==`` compares them, and bulk reads do as their ``errors`` says.

    Args:
        engine: where the bytes are; also another store, or a backend.
        read_only: refuse every write with ``ReadOnlyError`` before any I/O, on every path this store hands out.
        address: how to name the place in reprs; the engine's own name by default.

    Attributes:
        engine: the bytes, for whoever wants them: ``store.engine.load(key)``.
        read_only: whether every write is refused.
        address: the name of the place.
    """

    def __init__(self, engine: Place, *, read_only: bool = False, address: str | None = None) -> None:
        if not isinstance(engine, Engine):
            from persistkit.background import engine_of  # here, because few bring a backend

            engine = engine_of(engine, type(self).__name__)
        already = isinstance(engine, ReadOnlyEngine)
        self.read_only = read_only or already
        self.engine: Engine = ReadOnlyEngine(engine) if read_only and not already else engine
        self.address = address or repr(engine.engine if isinstance(engine, ReadOnlyEngine) else engine)
        self._suggestions = Suggestions(self.engine)

    def __repr__(self) -> str:
        return f"Store({self.address!r}{', read_only=True' if self.read_only else ''})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Never:
            # Whoever comes from an engine or a backend is led back to it.
            what = f"{type(self).__name__!r} object has no attribute {name!r}; it is used like a dict: store[key]"
            if hasattr(Engine, name):
                what += f"; bytes go through store.engine.{name}(...)"
            raise AttributeError(what, name=name, obj=self)

    def __reduce__(self) -> tuple[object, ...]:
        # A worker opens the place anew; what the engine does not pickle (credentials) comes from its environment.
        return partial(type(self), address=self.address), (self.engine,)

    def _repr_html_(self) -> str:
        from persistkit.card import card, card_of_error

        try:
            return card(self.address, self.engine.entries(), _CARD_ROWS)
        except PersistenceError as error:  # a notebook would print its whole traceback
            return card_of_error(self.address, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what the engine holds; using the store again opens it anew."""
        self.engine.close()

    def __getitem__(self, key: str) -> Any:
        return self.load(key)

    def __setitem__(self, key: str, value: object) -> None:
        self._check_writable("save", key)
        self.engine.save(key, _encoded(key, value))

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
            return decode(data, format, key, max_bytes=max_bytes)
        except FormatError as error:
            raise damaged(key, error) from error

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of ``key``, its bytes where it is damaged, or ``default`` where there is none."""
        data = self.engine.load_buffer(key)
        return default if data is None else value_or_bytes(key, data)

    def pop(self, key: str, *default: Any) -> Any:
        """Remove ``key`` and return its value, its bytes where it is damaged, or ``default`` where there is none."""
        self._check_writable("pop", key)
        data = self.engine.load_buffer(key)
        if data is None:
            if default:
                return default[0]
            raise self._missing(key)
        value = value_or_bytes(key, data)
        self.engine.delete(key)
        return value

    def popitem(self) -> tuple[str, Any]:
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

    def glob(self, pattern: str) -> list[str]:
        """Return the known keys that match ``pattern`` (``*``, ``?``, ``[...]``; ``*`` crosses ``/`` and ``:``).

        Raises:
            TypeError: ``pattern`` is not text.
        """
        return matching_keys(self.engine, pattern)

    def alternatives(self, key: str) -> list[str]:
        """Return the other keys with the filename of ``key``: to one of them an ``ambiguous`` value may belong instead.

        Example:
            >>> open("memory:").alternatives("a>_")
            ['a?>']
        """
        return list(alternatives(key))

    def _ipython_key_completions_(self) -> list[str]:
        """Offer the keys when a person presses Tab after ``store["`` in IPython or a notebook."""
        try:
            return self.keys()
        except PersistenceError:  # IPython would print its whole traceback at every Tab
            return []

    # Many values

    def items(self, errors: Errors = "raise") -> ItemsView[str, Any]:
        """Return a view of all keys with their values, sorted; iterating reads in batches.

        What was deleted since the keys were listed is left out.

        Args:
            errors: what a damaged value does: ``"raise"`` its ``FormatError``, be left out (``"skip"``), or come as
                its bytes (``"bytes"``).

        Raises:
            ValueError: ``errors`` is another word.
        """
        return StoreItems(self, self.engine, errors)

    def values(self, errors: Errors = "raise") -> ValuesView[Any]:
        """Return a view of all values in the order of their keys; everything else as ``items``."""
        return StoreValues(self, self.engine, errors)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        mine = dict(self.items("bytes"))
        theirs = dict(other.items("bytes") if isinstance(other, Store) else other.items())
        return mine.keys() == theirs.keys() and all(equal_values(value, theirs[key]) for key, value in mine.items())

    def load_many(self, keys: Iterable[str], errors: Errors = "raise") -> dict[str, Any]:
        """Return the values of ``keys`` by key, in batches, with a progress bar when it takes longer than a second.

        Args:
            keys: what to load.
            errors: as in ``items``.

        Raises:
            KeyError: nothing is stored under one of them.
            FormatError: one of them is damaged (``errors="raise"``).
        """
        check_errors(errors)
        wanted = list(dict.fromkeys(check_keys(keys)))
        with Progress(len(wanted), "loading") as progress:
            return dict(read_values(self.engine, wanted, errors, progress=progress, missing=self._missing))

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Store the values of ``other`` and ``more`` in batches, with a progress bar when it takes over a second.

        Takes what ``dict.update`` takes; of a generator no more than a batch is in memory. Each value is checked when
        its batch begins; earlier batches are then stored already.
        """
        self._check_writable("update")
        batch: dict[str, BytesLike] = {}
        size_bytes = 0
        with Progress(len(other) + len(more) if isinstance(other, Sized) else None, "storing") as progress:
            for key, value in chain(_pairs(other), more.items()):
                batch[key] = _encoded(key, value)
                size_bytes += len(batch[key])
                if len(batch) >= progress.batch or size_bytes >= BATCH_BYTES:
                    self.engine.batch_save(batch)
                    progress.done(len(batch))
                    batch, size_bytes = {}, 0
            self.engine.batch_save(batch)
            progress.done(len(batch))

    def clear(self) -> None:
        """Remove every known key, in batches."""
        self._check_writable("clear")
        self.engine.batch_delete(self.keys())

    # Tables and the browser

    def to_frame(self, *, prefix: str = "", glob: str | None = None, formats: bool = False) -> pd.DataFrame:
        """Return one row for everything stored, as ``persistkit.to_frame``.

        Args:
            prefix: literal text the keys start with.
            glob: a pattern the keys match.
            formats: add a column ``format``; every value is read for it.
        """
        from persistkit.frames import entries_frame, text_column

        entries = self.engine.entries(prefix)
        if glob is not None:
            entries = (entry for entry in entries if entry.key is not None and fnmatchcase(entry.key, glob))
        frame = entries_frame(entries)
        if formats:
            keys = frame["key"].dropna().tolist()  # those of unknown key come last
            named = [None if data is None else format_of(data, key) for key, data in load_in_batches(self.engine, keys)]
            frame["format"] = text_column(named + [None] * (len(frame) - len(keys)))
        return frame

    def values_frame(self, glob: str = "*", errors: Errors = "skip") -> pd.DataFrame:
        """Return the JSON objects of the keys that match ``glob`` as rows, nested ones as dotted columns.

        The index is the key. A column starts where the first object that has it does; where an object lacks it, or
        holds null, is a gap. Whole numbers stay whole beside gaps (Int64), truth values too (boolean), and numbers
        beyond 2**53 are never rounded (object).

        Args:
            glob: which keys.
            errors: what a value that is no JSON object does: be left out and named in ``.attrs["skipped"]``, key ->
                reason (``"skip"``), ``"raise"`` a ``FormatError``, or be a row with its bytes in the column ``bytes``
                (``"bytes"``). An object that would make more than 10,000 columns, or a table almost empty, is left
                out and named like that unless errors are raised.
        """
        from persistkit.frames import values_frame

        check_errors(errors)
        return values_frame(self.engine, self.glob(glob), errors)

    def usage(self, depth: int = 1, separators: str = ":/") -> pd.DataFrame:
        """Return keys and bytes under each prefix of ``depth`` parts, ended by ``separators``, the largest first."""
        from persistkit.frames import usage_frame

        return usage_frame(self.engine.entries(), depth=depth, separators=separators)

    def copy_to(
        self,
        other: Place,
        *,
        prefix: str = "",
        overwrite: Overwrite = "error",
        verify: bool = True,
        progress: bool = True,
    ) -> CopyReport:
        """Copy every value whose key starts with ``prefix`` to another store; see ``persistkit.transfer.copy``."""
        from persistkit.transfer import copy

        return copy(self.engine, other, prefix=prefix, overwrite=overwrite, verify=verify, progress=progress)

    def compare(self, other: Place, *, prefix: str = "") -> pd.DataFrame:
        """Return a row for each difference from ``other`` under ``prefix``; see ``persistkit.transfer.compare``."""
        from persistkit.transfer import compare

        return compare(self.engine, other, prefix=prefix)

    def browse(self, *, read_only: bool = True) -> KeyBrowser:
        """Return a browser of all keys, for display in a notebook; ``read_only=False`` lets it delete."""
        from persistkit.browser import browse

        return browse(self, read_only=read_only or self.read_only, load_line="store[{key}]")

    def _check_writable(self, tried: str, key: str | None = None) -> None:
        if self.read_only:
            raise refusal(tried if key is None else f"{tried} {key!r}", self.address)

    def _missing(self, key: str) -> MissingKeyError:
        return MissingKeyError(key, partial(self._suggestions.near, key))


def _encoded(key: str, value: object) -> BytesLike:
    try:
        return encode(value, key)
    except FormatError as error:
        raise FormatError(f"store {key!r}: {error}") from error


def _pairs(other: Any) -> Iterable[tuple[str, Any]]:  # Any: whatever dict.update takes
    if isinstance(other, Mapping):
        return other.items()
    return ((key, other[key]) for key in other.keys()) if hasattr(other, "keys") else map(as_pair, other)  # noqa: SIM118
