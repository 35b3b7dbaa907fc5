"""The interface of every backend, with its whole contract, and the entry of a listing."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from datetime import datetime
from errno import EHOSTUNREACH, ETIMEDOUT
from os import PathLike
from types import TracebackType
from typing import ClassVar, Final, NamedTuple, Protocol, Self

from persistkit.errors import BatchError, ListingNotSupportedError, StorageError
from persistkit.filenames import filename_for
from persistkit.operations import BytesLike, Items, drop_bypasses, guard
from persistkit.streams import BufferedReader, spooled_writer

__all__ = ["BlockingCore", "Entry", "PersistenceBackend", "Reader", "Writer"]


def __dir__() -> list[str]:
    return __all__


# With these a StorageError tells that the server did not answer: asking it for the next key would wait as long.
UNANSWERED: Final = frozenset({EHOSTUNREACH, ETIMEDOUT})


class Entry(NamedTuple):
    """One stored value, as a listing shows it.

    Attributes:
        key: the true key, or None when it cannot be known.
        size: of the value, in bytes.
        modified: when the value was last saved, aware and in UTC; None where the engine keeps no time.
        stored_as: the filename it is stored under; None for the one the rule gives.
        ambiguous: several keys share this filename and nothing on disk tells which; ``key`` is the smallest.

    Example:
        >>> Entry("session:1", 5, None).filename
        'session_1-0377d88a24519c74.bin'
    """

    key: str | None
    size: int
    modified: datetime | None
    stored_as: str | None = None
    ambiguous: bool = False

    @property
    def filename(self) -> str:
        """The hashed filename of the key, the same rule on every backend; an empty text when nothing tells it."""
        if self.stored_as is not None or self.key is None:
            return self.stored_as or ""
        return filename_for(self.key)


class Reader(Protocol):
    """The chunks of one stored value, in order."""

    @property
    def size(self) -> int:
        """The size of the whole value, in bytes."""

    async def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, the whole rest when negative, ``b""`` at the end."""


class Writer(Protocol):
    """Takes the chunks of one value, in order; nothing is visible before the ``async with`` block ends well."""

    async def write(self, chunk: BytesLike, /) -> object:
        """Append ``chunk`` to the value."""


class BlockingReader(Protocol):
    """The chunks of one stored value, in order, without await."""

    @property
    def size(self) -> int:
        """The size of the whole value, in bytes."""

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, the whole rest when negative, ``b""`` at the end."""


class BlockingWriter(Protocol):
    """Takes the chunks of one value, in order, without await."""

    def write(self, chunk: BytesLike, /) -> object:
        """Append ``chunk`` to the value."""


class BlockingCore(Protocol):
    """The operations of a backend without await, for engines that are system calls or memory.

    Arguments come checked (see ``persistkit.operations``). Each method keeps the promise of its namesake in
    ``PersistenceBackend`` and may be called from any thread.
    """

    def save(self, key: str, value: BytesLike) -> None: ...  # noqa: D102 - the namesake's docstring holds
    def load(self, key: str) -> bytes | None: ...  # noqa: D102
    def load_buffer(self, key: str) -> BytesLike | None: ...  # noqa: D102 - as load; a large one may be no bytes
    def delete(self, key: str) -> None: ...  # noqa: D102
    def batch_save(self, items: dict[str, BytesLike]) -> None: ...  # noqa: D102
    def batch_load(self, keys: list[str]) -> list[bytes | None]: ...  # noqa: D102
    def batch_delete(self, keys: list[str]) -> None: ...  # noqa: D102
    def entries(self, prefix: str) -> Iterator[Entry]: ...  # noqa: D102
    def list_keys(self, prefix: str) -> list[str]: ...  # noqa: D102
    def exists(self, key: str) -> bool: ...  # noqa: D102
    def key_count(self) -> int: ...  # noqa: D102
    def open_reader(self, key: str) -> AbstractContextManager[BlockingReader | None]: ...  # noqa: D102
    def open_writer(self, key: str) -> AbstractContextManager[BlockingWriter]: ...  # noqa: D102
    def change_token(self) -> object | None: ...  # noqa: D102


class PersistenceBackend(ABC):
    """Bytes under string keys, asynchronous: the interface of the Rust crate llm-agent-runtime 1.74.0, and more.

    ``save``, ``load`` and ``delete`` make a backend; everything else has a working default, except listing, which
    an engine must offer through ``entries``. The contract, for every backend:

    * A key is any text of at most 1,024 UTF-8 bytes without NUL or lone surrogates; anything else raises
      ``InvalidKeyError`` before any I/O. The empty key is a key. Two keys never share a value.
    * A value is ``bytes``, ``bytearray`` or ``memoryview``; anything else raises ``TypeError`` before any I/O.
      A value above ``max_value_bytes`` raises ``ValueTooLargeError`` before it is sent.
    * Missing is never an error, and an error is never "missing": when the storage refuses, is gone or does not
      answer, ``StorageError`` is raised.
    * After ``save`` returned, ``load`` gives that value or a later one. After it raised, was cancelled or the
      process died, ``load`` gives the old value or the new one, whole.
    * A ``prefix`` is literal text the key starts with, never a path segment, never a pattern. Listings have no cap.
    * A backend may be shared by tasks and threads, and used from several event loops, one after the other.

    A subclass that overrides ``save``, ``load``, ``delete`` or ``entries`` of a ready backend is never gone around: in
    place of the parent's short cuts (batches, streams, listings, the blocking core) it gets the defaults again.

    The checks, and a debug record of each operation on the logger ``persistkit`` (operation, key, bytes,
    milliseconds; never a value), are put around the methods of every subclass.

    Attributes:
        max_concurrency: how many single operations a default batch method keeps in flight.
        max_value_bytes: the largest value the engine takes, or None when memory or disk is the only limit.

    Example:
        >>> import asyncio
        >>> from persistkit import MemoryPersistenceBackend
        >>> async def main() -> bytes | None:
        ...     async with MemoryPersistenceBackend() as backend:
        ...         await backend.save("run:1", b"done")
        ...         return await backend.load("run:1")
        >>> asyncio.run(main())
        b'done'
    """

    max_concurrency: ClassVar[int] = 64
    max_value_bytes: int | None = None

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        guard(cls)
        drop_bypasses(cls, PersistenceBackend)

    @abstractmethod
    async def save(self, key: str, value: BytesLike) -> None:
        """Store ``value`` under ``key``, replacing what was there.

        Cancelling waits until work that has begun has ended, so nothing changes afterwards; work not begun is
        dropped.

        Raises:
            InvalidKeyError: the key cannot be a key.
            TypeError: the value is not bytes-like.
            ValueTooLargeError: the value is larger than the engine takes.
            KeyCollisionError: another key holds the place of this one (backends that hash their names).
            StorageError: the storage refused, is full, is gone or did not answer.
        """

    @abstractmethod
    async def load(self, key: str) -> bytes | None:
        """Return the value stored under ``key``, or None when there is none.

        Raises:
            InvalidKeyError: the key cannot be a key.
            StorageError: the storage refused, is gone or did not answer.
        """

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove the value stored under ``key``; no error when there is none.

        Raises:
            InvalidKeyError: the key cannot be a key.
            StorageError: the storage refused, is gone or did not answer.
        """

    async def batch_save(self, items: Items) -> None:
        """Store every value of ``items``, a mapping or an iterable of pairs; the last of a repeated key wins.

        All keys and values are checked before the first is stored. Then every item is attempted, unless the storage
        stops answering: what is left then fails alike, without being tried, and the batch does not wait for each.

        Raises:
            InvalidKeyError: one of the keys cannot be a key; nothing was stored.
            TypeError: one of the values is not bytes-like; nothing was stored.
            BatchError: some items failed (``failures``); the others are stored.
        """
        pending = dict(items)
        await self._attempt("batch_save", list(pending), lambda key: self.save(key, pending[key]))

    async def batch_load(self, keys: Iterable[str]) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, None where there is none.

        Raises:
            InvalidKeyError: one of the keys cannot be a key.
            BatchError: some keys could not be read (``failures``).
        """
        ordered = list(keys)
        loaded: dict[str, bytes | None] = {}

        async def load_one(key: str) -> None:
            loaded[key] = await self.load(key)

        await self._attempt("batch_load", list(dict.fromkeys(ordered)), load_one)
        return [loaded[key] for key in ordered]

    async def batch_delete(self, keys: Iterable[str]) -> None:
        """Remove the values of ``keys``; no error for those that have none.

        Raises:
            InvalidKeyError: one of the keys cannot be a key; nothing was removed.
            BatchError: some keys failed (``failures``); the others are gone.
        """
        await self._attempt("batch_delete", list(dict.fromkeys(keys)), self.delete)

    def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Iterate over everything stored whose key starts with ``prefix``, in the engine's order.

        An entry whose key cannot be known has key None and comes only when ``prefix`` is empty.

        Raises:
            ListingNotSupportedError: this backend cannot list.
            StorageError: the storage refused, is gone or did not answer.
        """
        raise ListingNotSupportedError(
            f"list keys starting with {prefix!r}: {type(self).__name__} cannot list its keys; override entries()"
        )

    async def list_keys(self, prefix: str = "") -> list[str]:
        """Return the known keys that start with ``prefix``, sorted by their UTF-8 bytes.

        Raises:
            ListingNotSupportedError: this backend cannot list.
            StorageError: the storage refused, is gone or did not answer.
        """
        # Text sorts by code point, and UTF-8 keeps that order in its bytes.
        return sorted([entry.key async for entry in self.entries(prefix) if entry.key is not None])

    async def exists(self, key: str) -> bool:
        """Tell whether a value is stored under ``key``.

        Raises:
            InvalidKeyError: the key cannot be a key.
            StorageError: the storage refused, is gone or did not answer.
        """
        return await self.load(key) is not None

    async def key_count(self) -> int:
        """Return how many values are stored, those of unknown keys included.

        Raises:
            ListingNotSupportedError: this backend cannot list.
            StorageError: the storage refused, is gone or did not answer.
        """
        count = 0
        async for _ in self.entries():
            count += 1
        return count

    def open_reader(self, key: str) -> AbstractAsyncContextManager[Reader | None]:
        """Open the value of ``key`` for reading in chunks: ``async with backend.open_reader(key) as reader``.

        ``reader`` is None when nothing is stored under ``key``. This default loads the whole value into memory.

        Raises:
            InvalidKeyError: the key cannot be a key.
            StorageError: the storage refused, is gone or did not answer.
        """
        return self._buffered_reader(key)

    def open_writer(self, key: str) -> AbstractAsyncContextManager[Writer]:
        """Open the value of ``key`` for writing in chunks: ``async with backend.open_writer(key) as writer``.

        The value appears, whole, when the block ends; an exception in the block discards it and leaves what was
        stored. This default spools the chunks, to disk above 8 MiB, and saves them as one value at the end.

        Raises:
            InvalidKeyError: the key cannot be a key.
            KeyCollisionError: another key holds the place of this one.
            ValueTooLargeError: the value grew larger than the engine takes.
            StorageError: the storage refused, is full, is gone or did not answer.
        """
        return spooled_writer(key, self.save, self.max_value_bytes)

    async def change_token(self) -> object | None:
        """Return a cheap token of the present content: equal tokens, nothing changed; None: it cannot be told."""
        return None

    @property
    def blocking_core(self) -> BlockingCore | None:
        """The same operations without await, when the engine needs no event loop; None otherwise."""
        return None

    async def aclose(self) -> None:
        """Give back what the backend holds (connections, threads); using it again opens anew."""
        return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _attempt(self, operation: str, keys: list[str], work: Callable[[str], Awaitable[None]]) -> None:
        """Run ``work`` on every key, at most ``max_concurrency`` at once, and raise one error for all failures."""
        failures: dict[str, Exception] = {}
        waiting = iter(keys)
        dead: StorageError | None = None

        async def drain() -> None:
            nonlocal dead
            for key in waiting:
                if dead is not None:
                    untried = f"{operation} {key!r}: not tried, because of: {dead}"
                    failures[key] = StorageError(untried, errno=dead.errno)
                    continue
                try:
                    await work(key)
                except asyncio.CancelledError as error:
                    task = asyncio.current_task()
                    if task is None or task.cancelling():
                        raise
                    failures[key] = StorageError(f"{operation} {key!r}: the backend cancelled its own work")
                    failures[key].__cause__ = error
                except Exception as error:
                    failures[key] = error
                    # Otherwise a batch to a dead server would wait for each of its keys.
                    if isinstance(error, StorageError) and error.errno in UNANSWERED:
                        dead = error

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(self.max_concurrency, len(keys))):
                tasks.create_task(drain())
        raise_failures(operation, len(keys), failures)

    @asynccontextmanager
    async def _buffered_reader(self, key: str) -> AsyncIterator[Reader | None]:
        value = await self.load(key)
        yield None if value is None else BufferedReader(value)


guard(PersistenceBackend)


def check_backend(given: object, taker: str) -> None:
    """Refuse what is no backend, and say how to come by one.

    Raises:
        TypeError: ``given`` is not a ``PersistenceBackend``.
    """
    if isinstance(given, PersistenceBackend):
        return
    advice = "persistkit.FilePersistenceBackend(path) is one"
    if isinstance(given, (str, PathLike)):
        advice = f"to open an address write persistkit.open({str(given)!r})"
    elif isinstance(getattr(given, "backend", None), PersistenceBackend):
        advice = f"give it the backend of this {type(given).__name__}: .backend"
    raise TypeError(f"{taker} takes a PersistenceBackend, not {type(given).__name__}; {advice}")


def raise_failures(operation: str, attempted: int, failures: dict[str, Exception]) -> None:
    """Raise the one error of a batch when some of its items failed.

    Raises:
        BatchError: ``failures`` is not empty.
    """
    if not failures:
        return
    key, error = next(iter(failures.items()))
    raise BatchError(
        f"{operation}: {len(failures):,} of {attempted:,} keys failed, the others were carried out; "
        f"the first: {key!r}: {error}",
        failures,
    ) from error
