"""Store: what a person types in a notebook; typed values under text keys, tables of them, a browser."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sized
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain, islice
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Never, Self

from persistkit.backend import PersistenceBackend, check_backend
from persistkit.backends import open_backend, shown_address
from persistkit.backends.readonly import ReadOnlyBackend, refusal
from persistkit.blocking import BlockingBackend
from persistkit.errors import FormatError, MissingKeyError, PersistenceError
from persistkit.formats import decode, encode, format_of
from persistkit.operations import BytesLike, as_pair, check_keys
from persistkit.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

    from persistkit.browser import KeyBrowser
    from persistkit.transfer import CopyReport, Overwrite

__all__ = ["Store", "open"]


def __dir__() -> list[str]:
    return __all__


_BATCH: Final = 500
_BATCH_BYTES: Final = 32 * 1024 * 1024
_CARD_ROWS: Final = 8
_SUGGEST_AMONG: Final = 10_000


def open(  # noqa: A001 - persistkit.open is its name; nobody imports it bare
    address: str | PathLike[str], *, create: bool = False, read_only: bool = False, **options: Any
) -> Store:
    """Open the store at a path, or at an address of another engine (see ``persistkit.backends.open_backend``).

    Args:
        address: where the values are.
        create: make it if it does not exist; otherwise a mistyped path is an error, not a new empty store.
        read_only: refuse every write; nothing can be made either, so not together with ``create``.
        options: handed to the backend, such as ``fsync=False``.

    Raises:
        StorageError: nothing is there, it cannot be opened, or the address is of no known kind.
        ValueError: ``create`` and ``read_only`` are both asked for.

    Example:
        >>> with open("memory:") as store:
        ...     store["run/1"] = {"loss": 0.25}
        ...     store["run/1"]
        {'loss': 0.25}
    """
    if create and read_only:
        raise ValueError(f"open {shown_address(address)!r}: what is opened read only is not made; drop create=True")
    return Store(open_backend(address, create=create, **options), read_only=read_only, address=shown_address(address))


class Store(MutableMapping[str, Any]):
    """Typed values under text keys, synchronous: a mapping over any backend.

    What goes in comes back equal or is refused with a ``FormatError`` (see ``persistkit.formats``). Iteration and
    ``len`` are over the known keys, sorted; ``to_frame`` shows everything stored. Works inside a running event loop
    and from any thread.

    Args:
        backend: where the bytes are.
        read_only: refuse every write with ``ReadOnlyError`` before any I/O, on every path this store hands out.
        address: how to name the place in reprs; the backend's own name by default.

    Example:
        >>> from persistkit import MemoryPersistenceBackend
        >>> store = Store(MemoryPersistenceBackend())
        >>> store["run/1"] = [1, 2, 3]
        >>> list(store), store["run/1"]
        (['run/1'], [1, 2, 3])
    """

    def __init__(self, backend: PersistenceBackend, *, read_only: bool = False, address: str | None = None) -> None:
        check_backend(backend, type(self).__name__)
        already = isinstance(backend, ReadOnlyBackend)
        self.backend: PersistenceBackend = ReadOnlyBackend(backend) if read_only and not already else backend
        self.read_only = read_only or already
        self.address = repr(backend) if address is None else address
        self._blocking = BlockingBackend(self.backend)

    def __repr__(self) -> str:
        return f"Store({self.address!r}{', read_only=True' if self.read_only else ''})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Never:
            # The notebooks show both interfaces, and whoever comes from the other one is led back to it.
            what = f"{type(self).__name__!r} object has no attribute {name!r}; it is used like a dict: store[key]"
            if hasattr(PersistenceBackend, name):
                what += f"; bytes go through await store.backend.{name}(...)"
            raise AttributeError(what, name=name, obj=self)

    def __reduce__(self) -> tuple[object, ...]:
        # A worker opens the place anew; what the backend does not pickle (credentials) comes from its environment.
        return partial(type(self), read_only=self.read_only, address=self.address), (self.backend,)

    def _repr_html_(self) -> str:
        from persistkit.card import card, card_of_error

        try:
            return card(self.address, self._blocking.entries(), _CARD_ROWS)
        except PersistenceError as error:  # a notebook would print its whole traceback
            return card_of_error(self.address, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what the backend holds; using the store again opens it anew."""
        self._blocking.close()

    # The mapping

    def __getitem__(self, key: str) -> Any:
        data = self._blocking.load_buffer(key)
        if data is None:
            raise self._missing(key)
        return _decoded(key, data)

    def __setitem__(self, key: str, value: object) -> None:
        self._check_writable(f"save {key!r}")
        self._blocking.save(key, _encoded(key, value))

    def __delitem__(self, key: str) -> None:
        self._check_writable(f"delete {key!r}")
        if not self._blocking.exists(key):
            raise self._missing(key)
        self._blocking.delete(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._blocking.exists(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocking.list_keys())

    def __len__(self) -> int:
        return len(self._blocking.list_keys())

    def keys(self, prefix: str = "") -> list[str]:  # type: ignore[override]  # a list is what people index
        """Return the known keys that start with ``prefix`` (literal text), sorted."""
        return self._blocking.list_keys(prefix)

    def _ipython_key_completions_(self) -> list[str]:
        """Offer the keys when a person presses Tab after ``store["`` in IPython or a notebook."""
        try:
            return self.keys()
        except PersistenceError:  # IPython would print its whole traceback at every Tab
            return []

    def glob(self, pattern: str) -> list[str]:
        """Return the known keys that match ``pattern`` (``*``, ``?``, ``[...]``; ``*`` crosses ``/`` and ``:``).

        Raises:
            TypeError: ``pattern`` is not text.
        """
        if not isinstance(pattern, str):
            raise TypeError(f"a pattern is one text, such as 'run/*', not {type(pattern).__name__}: {pattern!r}")
        return [key for key in self._blocking.list_keys(_literal_start(pattern)) if fnmatchcase(key, pattern)]

    def pop(self, key: str, *default: Any) -> Any:
        """Remove ``key`` and return its value, or ``default`` when there is none."""
        self._check_writable(f"pop {key!r}")
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """Remove the first known key and return it with its value."""
        self._check_writable("popitem")
        return super().popitem()

    def clear(self) -> None:
        """Remove every known key, in batches."""
        self._check_writable("clear")
        self._blocking.batch_delete(self.keys())

    def get_bytes(self, key: str) -> bytes:
        """Return the stored bytes of ``key`` exactly.

        Raises:
            KeyError: nothing is stored under ``key``.
        """
        data = self._blocking.load(key)
        if data is None:
            raise self._missing(key)
        return data

    def put_bytes(self, key: str, data: BytesLike) -> None:
        """Store the bytes ``data`` under ``key`` exactly, whatever they would load as."""
        self._blocking.save(key, data)

    def format_of(self, key: str) -> str:
        """Return the name of the format of one value, such as ``json``, ``parquet``, ``text`` or ``png``.

        Raises:
            KeyError: nothing is stored under ``key``.
        """
        return format_of(self.get_bytes(key))

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
                if len(batch) >= progress.batch or size_bytes >= _BATCH_BYTES:
                    self._blocking.batch_save(batch)
                    progress.done(len(batch))
                    batch, size_bytes = {}, 0
            self._blocking.batch_save(batch)
            progress.done(len(batch))

    def load_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of ``keys`` by key, in batches, with a progress bar when it takes longer than a second.

        Raises:
            KeyError: nothing is stored under one of them.
            FormatError: one of them is damaged.
        """
        wanted = list(dict.fromkeys(check_keys(keys)))
        loaded: dict[str, Any] = {}
        with Progress(len(wanted), "loading") as progress:
            while batch := wanted[len(loaded) : len(loaded) + progress.batch]:
                for key, data in zip(batch, self._blocking.batch_load(batch), strict=True):
                    if data is None:
                        raise self._missing(key)
                    loaded[key] = _decoded(key, bytes(data))
                progress.done(len(batch))
        return loaded

    # Tables and the browser

    def to_frame(self, *, prefix: str = "", glob: str | None = None, formats: bool = False) -> pd.DataFrame:
        """Return one row for everything stored, as ``persistkit.to_frame``.

        Args:
            prefix: literal text the keys start with.
            glob: a pattern the keys match.
            formats: add a column ``format``; every value is read for it.
        """
        from persistkit.frames import entries_frame, text_column

        entries = self._blocking.entries(prefix)
        if glob is not None:
            entries = (entry for entry in entries if entry.key is not None and fnmatchcase(entry.key, glob))
        frame = entries_frame(entries)
        if formats:
            keys = [None if key is None or key != key else key for key in frame["key"].tolist()]
            named = dict(self._formats([key for key in keys if key is not None]))
            frame["format"] = text_column([None if key is None else named.get(key) for key in keys])
        return frame

    def values_frame(self, glob: str = "*") -> pd.DataFrame:
        """Return the JSON objects of the keys that match ``glob`` as rows, nested ones as dotted columns.

        The index is the key. Values that are no JSON object, or damaged, are left out and named in
        ``.attrs["skipped"]`` (key -> reason).
        """
        from persistkit.frames import values_frame

        return values_frame(self._blocking, self.glob(glob))

    def usage(self, depth: int = 1, separators: str = ":/") -> pd.DataFrame:
        """Return how many keys and bytes stand under each key prefix of ``depth`` parts, the largest first.

        A part ends with one of ``separators``.
        """
        from persistkit.frames import usage_frame

        return usage_frame(self._blocking.entries(), depth=depth, separators=separators)

    def copy_to(
        self,
        other: Store,
        *,
        prefix: str = "",
        overwrite: Overwrite = "error",
        verify: bool = True,
        progress: bool = True,
    ) -> CopyReport:
        """Copy every value whose key starts with ``prefix`` to another store; see ``persistkit.transfer.copy``.

        Args:
            other: the store to copy to.
            prefix: literal text the keys start with.
            overwrite: what is there already fails (``"error"``), is left (``"skip"``) or replaced (``"replace"``).
            verify: read each value back and compare it.
            progress: show a bar while it runs.

        Raises:
            TypeError: ``other`` is not a ``Store``.
            ReadOnlyError: ``other`` was opened read only.
            ValueError: both are one store, or ``overwrite`` is something else.
        """
        from persistkit.transfer import copy_with_bar, progress_bar

        check_store(other, "copy_to")
        other._check_writable("copy_to")
        # The bar is made in the caller's thread: a notebook shows it under the cell that asked.
        with progress_bar(shown=progress) as bar:
            report: CopyReport = self._blocking.call(
                copy_with_bar, self.backend, other.backend, prefix, overwrite, verify, bar
            )
        return report

    def compare(self, other: Store, *, prefix: str = "") -> pd.DataFrame:
        """Return a row for each difference from ``other`` under ``prefix``; see ``persistkit.transfer.compare``.

        Raises:
            TypeError: ``other`` is not a ``Store``.
        """
        from persistkit.transfer import compare

        check_store(other, "compare")
        return self._blocking.call(partial(compare, prefix=prefix), self.backend, other.backend)

    def browse(self, *, read_only: bool = True) -> KeyBrowser:
        """Return a browser of all keys, for display in a notebook; ``read_only=False`` lets it delete."""
        from persistkit.browser import browse

        return browse(self.backend, read_only=read_only or self.read_only, load_line="store[{key}]")

    def _formats(self, keys: list[str]) -> Iterator[tuple[str, str | None]]:
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            for key, data in zip(batch, self._blocking.batch_load(batch), strict=True):
                yield key, None if data is None else format_of(data)

    def _check_writable(self, tried: str) -> None:
        if self.read_only:
            raise refusal(tried, self.address)

    def _missing(self, key: str) -> MissingKeyError:
        return MissingKeyError(key, partial(self._near, key))

    def _near(self, key: str) -> str | None:
        some = list(islice(self._blocking.entries(), _SUGGEST_AMONG + 1))
        keys = [entry.key for entry in some if entry.key is not None]
        near = difflib.get_close_matches(key, keys, n=1) if len(some) <= _SUGGEST_AMONG else []
        return near[0] if near else None


def check_store(given: object, taker: str) -> None:
    """Refuse what is no store, and say how to come by one.

    Raises:
        TypeError: ``given`` is not a ``Store``.
    """
    if not isinstance(given, Store):
        what = repr(str(given)) if isinstance(given, (str, PathLike)) else "address"
        raise TypeError(f"{taker} takes a Store, not {type(given).__name__}; write persistkit.open({what})")


def _encoded(key: str, value: object) -> BytesLike:
    try:
        return encode(value)
    except FormatError as error:
        raise FormatError(f"store {key!r}: {error}") from error


def _decoded(key: str, data: BytesLike) -> Any:
    try:
        return decode(data)
    except FormatError as error:
        raise FormatError(f"load {key!r}: {error}; get_bytes({key!r}) gives the bytes") from error


def _literal_start(pattern: str) -> str:
    return pattern[: min((n for n, character in enumerate(pattern) if character in "*?["), default=len(pattern))]


def _pairs(other: Any) -> Iterable[tuple[str, Any]]:  # Any: whatever dict.update takes
    if isinstance(other, Mapping):
        return other.items()
    return ((key, other[key]) for key in other.keys()) if hasattr(other, "keys") else map(as_pair, other)  # noqa: SIM118
