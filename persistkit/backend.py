"""PersistenceBackend: the asynchronous interface of the Rust reference; EngineBackend: any engine behind it."""

# ruff: noqa: D102 - an override that promises nothing more has the docstring of the interface

from __future__ import annotations

import asyncio
import io
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial, wraps
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from persistkit.arguments import BytesLike, Items, check_keys, collect_items
from persistkit.batches import Batch, chunked, paged
from persistkit.engine import Engine
from persistkit.entry import Entry
from persistkit.errors import BatchError, ListingNotSupportedError, StorageError
from persistkit.workers import Workers, file_in_thread

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncBufferedReader

    from persistkit.engines.files import FileEngine, Finding

__all__ = [
    "EngineBackend",
    "FilePersistenceBackend",
    "MemoryPersistenceBackend",
    "PersistenceBackend",
    "open_backend",
    "overrides_operations",
]

T = TypeVar("T")
Chunk = TypeVar("Chunk", bound=Collection[str])
Method = TypeVar("Method", bound=Callable[..., Any])

# Running in a thread costs about 100 microseconds, one item 10 to 30: a chunk hides that and can be cancelled soon.
_CHUNK: Final = 500
_CHUNK_BYTES: Final = 32 * 1024 * 1024
_PAGE: Final = 2000


class PersistenceBackend(ABC):
    """Bytes under text keys, awaited: the interface of the Rust crate llm-agent-runtime 1.74.0, and more.

    ``save``, ``load`` and ``delete`` make a backend; everything else has a default, but for ``entries``, which a
    backend that can list adds. The contract on keys, values and errors is that of ``persistkit.engine.Engine``; what a
    ``Store`` hands over has been checked. A backend may be shared by tasks, by threads, and by event loops.

    Attributes:
        max_concurrency: how many single operations a default batch method keeps in flight.
        max_value_bytes: the largest value the backend takes, or None when memory or disk is the only limit.

    Example:
        >>> import asyncio
        >>> async def main() -> bytes | None:
        ...     async with MemoryPersistenceBackend() as backend:
        ...         await backend.save("run:1", b"done")
        ...         return await backend.load("run:1")
        >>> asyncio.run(main())
        b'done'
    """

    max_concurrency: int = 64
    max_value_bytes: int | None = None

    @abstractmethod
    async def save(self, key: str, value: BytesLike) -> None:
        """Store ``value`` under ``key``, replacing what was there.

        Cancelling waits until work that has begun has ended, so nothing changes afterwards; work that has not begun is
        dropped. Raises as ``Engine.save``.
        """

    @abstractmethod
    async def load(self, key: str) -> bytes | None:
        """Return the value stored under ``key``, or None when there is none; raises as ``Engine.load``."""

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove the value stored under ``key``, no error when there is none; raises as ``Engine.delete``."""

    async def batch_save(self, items: Items) -> None:
        """Store every value of a mapping, or of an iterable of pairs; the last of a repeated key wins.

        Every item is attempted, unless the storage stops answering: what is left then fails without being tried.

        Raises:
            BatchError: some items failed (``failures``); the others are carried out.
        """
        collected = dict(items)
        await self._attempt("batch_save", list(collected), lambda key: self.save(key, collected[key]))

    async def batch_load(self, keys: Iterable[str]) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, None where there is none; raises as ``batch_save``."""
        ordered = list(keys)
        loaded: dict[str, bytes | None] = {}

        async def load(key: str) -> None:
            loaded[key] = await self.load(key)

        await self._attempt("batch_load", list(dict.fromkeys(ordered)), load)
        return [loaded[key] for key in ordered]

    async def batch_delete(self, keys: Iterable[str]) -> None:
        """Remove the values of ``keys``, no error for those that have none; raises as ``batch_save``."""
        await self._attempt("batch_delete", list(dict.fromkeys(keys)), self.delete)

    def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Iterate over everything stored whose key starts with ``prefix``, in the backend's order.

        Raises:
            ListingNotSupportedError: this backend cannot list.
            StorageError: the storage refused, is gone or did not answer.
        """
        raise ListingNotSupportedError(
            f"list keys starting with {prefix!r}: {type(self).__name__} cannot list its keys; override entries()"
        )

    async def list_keys(self, prefix: str = "") -> list[str]:
        """Return the known keys that start with ``prefix``, sorted by their UTF-8 bytes; raises as ``entries``."""
        return sorted([entry.key async for entry in self.entries(prefix) if entry.key is not None])

    async def exists(self, key: str) -> bool:
        """Tell whether a value is stored under ``key``; raises as ``load``."""
        return await self.load(key) is not None

    async def key_count(self) -> int:
        """Return how many values are stored, those of unknown keys included; raises as ``entries``."""
        return len([entry async for entry in self.entries()])

    def open_reader(self, key: str) -> AbstractAsyncContextManager[AsyncBufferedReader | None]:
        """Open the value of ``key`` as a file: ``async with backend.open_reader(key) as file``; None if there is none.

        ``file`` is a file object of aiofiles (``await file.read(size)``, ``seek``, ``tell``). Raises as ``load``.
        """
        return self._loading_reader(key)

    def open_writer(self, key: str) -> AbstractAsyncContextManager[AsyncBufferedReader]:
        """Open the value of ``key`` for writing: ``async with backend.open_writer(key) as file``.

        The value appears, whole, when the block ends; an exception in the block discards it and leaves what was
        stored. ``file`` is a file object of aiofiles (``await file.write(chunk)``). Raises as ``save``.
        """
        return self._saving_writer(key)

    async def change_token(self) -> object | None:
        """Return a cheap token of the present content: equal tokens mean no change; None means it cannot be told."""
        return None

    async def aclose(self) -> None:
        """Give back what the backend holds (connections, threads); using it again opens them anew."""
        return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    @asynccontextmanager
    async def _loading_reader(self, key: str) -> AsyncIterator[AsyncBufferedReader | None]:
        value = await self.load(key)
        async with file_in_thread(lambda: io.BytesIO(value or b"")) as file:
            yield None if value is None else file

    @asynccontextmanager
    async def _saving_writer(self, key: str) -> AsyncIterator[AsyncBufferedReader]:
        from persistkit.streams import SpooledWriter  # here, because few write streams, and tempfile imports much

        spool = SpooledWriter(key, self.max_value_bytes)
        async with file_in_thread(lambda: spool) as file:
            yield file
            await self.save(key, await asyncio.to_thread(spool.content))

    async def _attempt(self, operation: str, keys: list[str], work: Callable[[str], Awaitable[None]]) -> None:
        """Run ``work`` on every key, at most ``max_concurrency`` at once, and raise one error for all failures."""
        batch = Batch(operation)
        waiting = iter(keys)

        async def attempt() -> None:
            for key in waiting:
                if not batch.begins([key]):
                    continue
                try:
                    await work(key)
                except asyncio.CancelledError as error:
                    task = asyncio.current_task()
                    if task is None or task.cancelling():
                        raise
                    failure = StorageError(f"{operation} {key!r}: the backend cancelled its own work")
                    failure.__cause__ = error
                    batch.failed({key: failure})
                except Exception as error:
                    batch.failed({key: error})

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(self.max_concurrency, len(keys))):
                tasks.create_task(attempt())
        batch.end()


def _unless_overridden(method: Method) -> Method:
    """Leave the work of a method to the interface's default where a subclass overrides what the default uses."""
    default = getattr(PersistenceBackend, method.__name__)

    @wraps(method)
    def chosen(self: EngineBackend, *given: Any, **named: Any) -> Any:  # Any: those of the method
        return (default if overrides_operations(type(self)) else method)(self, *given, **named)

    return cast("Method", chosen)


class EngineBackend(PersistenceBackend):
    """Any engine, awaited: its calls run in worker threads, or at once where the engine does not block.

    Keys and values are checked, operations traced and errors raised by the engine. A small value in the system's
    cache is loaded without a thread. A subclass that overrides ``save``, ``load``, ``delete`` or ``entries`` is never
    gone around: its batches, streams and counts, and a ``Store`` over it, use what it overrides.

    Attributes:
        engine: what the calls go to.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.max_value_bytes = engine.max_value_bytes
        self._workers = Workers(engine.concurrency)

    def __repr__(self) -> str:
        return f"EngineBackend({self.engine!r})"

    async def save(self, key: str, value: BytesLike) -> None:
        await self._run(self.engine.save, key, value)

    async def load(self, key: str) -> bytes | None:
        value = self.engine.load_cached(key)
        return await self._run(self.engine.load, key) if value is None else value

    async def delete(self, key: str) -> None:
        await self._run(self.engine.delete, key)

    @_unless_overridden
    async def batch_save(self, items: Items) -> None:
        """Store every value, as ``Engine.batch_save``; in chunks where that is not a transaction."""
        collected = collect_items(items, self.engine.max_value_bytes)
        chunks = [collected] if self.engine.batch_is_transaction else chunked(collected, _CHUNK, _CHUNK_BYTES)
        await self._run_chunks("batch_save", self.engine.batch_save, chunks)

    @_unless_overridden
    async def batch_load(self, keys: Iterable[str]) -> list[bytes | None]:
        pages = await self._run_chunks("batch_load", self.engine.batch_load, paged(check_keys(keys), _CHUNK))
        return [value for page in pages for value in page]

    @_unless_overridden
    async def batch_delete(self, keys: Iterable[str]) -> None:
        """Remove the values of ``keys``, as ``Engine.batch_delete``; in chunks where that is not a transaction."""
        checked = check_keys(keys)
        chunks = [checked] if self.engine.batch_is_transaction else paged(checked, _CHUNK)
        await self._run_chunks("batch_delete", self.engine.batch_delete, chunks)

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        pages = paged(await self._run(self.engine.entries, prefix), _PAGE)
        while page := await self._run(next, pages, None):
            for entry in page:
                yield entry

    @_unless_overridden
    async def list_keys(self, prefix: str = "") -> list[str]:
        return await self._run(self.engine.list_keys, prefix)

    @_unless_overridden
    async def exists(self, key: str) -> bool:
        return await self._run(self.engine.exists, key)

    @_unless_overridden
    async def key_count(self) -> int:
        return await self._run(self.engine.key_count)

    @_unless_overridden
    def open_reader(self, key: str) -> AbstractAsyncContextManager[AsyncBufferedReader | None]:
        return file_in_thread(lambda: self.engine.open_reader(key) or nullcontext())

    @_unless_overridden
    def open_writer(self, key: str) -> AbstractAsyncContextManager[AsyncBufferedReader]:
        return file_in_thread(lambda: self.engine.open_writer(key))

    async def change_token(self) -> object | None:
        return await self._run(self.engine.change_token)

    async def aclose(self) -> None:
        await self._run(self.engine.close)
        self._workers.close()

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        if not self.engine.blocks:
            return function(*arguments)
        return await self._workers.run(function, *arguments)

    async def _run_chunks(self, operation: str, work: Callable[[Chunk], T], chunks: Iterable[Chunk]) -> list[T]:
        batch = Batch(operation)
        results: list[T] = []
        for chunk in chunks:
            if batch.begins(chunk):
                try:
                    results.append(await self._run(work, chunk))
                except BatchError as error:
                    batch.failed(error.failures)
        batch.end()
        return results


class FilePersistenceBackend(EngineBackend):
    """One file for each key in the directory ``base_dir``, awaited: ``FileEngine`` says what it promises.

    Byte for byte compatible on disk with ``FilePersistenceBackend`` of the Rust crate llm-agent-runtime 1.74.0.

    Args:
        base_dir: the directory; made absolute here, so a later change of the working directory does not matter.
        create: make the directory, and its parents, if it does not exist.
        fsync: make every save durable before it returns.

    Raises:
        StorageError: the directory does not exist or cannot be made.
    """

    engine: FileEngine

    def __init__(self, base_dir: str | PathLike[str], *, create: bool = False, fsync: bool = True) -> None:
        from persistkit.engines.files import FileEngine  # here, because a backend of one's own needs none of it

        super().__init__(FileEngine(base_dir, create=create, fsync=fsync))

    def __repr__(self) -> str:
        return f"FilePersistenceBackend({str(self.base_dir)!r}{'' if self.fsync else ', fsync=False'})"

    @property
    def base_dir(self) -> Path:
        """The directory, as an absolute path."""
        return self.engine.base_dir

    @property
    def fsync(self) -> bool:
        """Whether every save is made durable before it returns."""
        return self.engine.fsync

    def path_for(self, key: str) -> Path:
        """Return the path of the file that holds, or would hold, the value of ``key``."""
        return self.engine.path_for(key)

    async def load_filename(self, filename: str) -> bytes | None:
        """Return the value in the file ``filename``, for entries whose key is not known; None when there is none."""
        return await self._run(self.engine.load_filename, filename)

    async def check(self, *, repair: bool = False) -> list[Finding]:
        """Look for everything in the directory that is not a whole value under a known key, as ``FileEngine.check``."""
        return await self._run(partial(self.engine.check, repair=repair))


class MemoryPersistenceBackend(EngineBackend):
    """Values in memory, awaited, for tests and for results that need not outlive the process."""

    def __init__(self) -> None:
        from persistkit.engines.memory import MemoryEngine

        super().__init__(MemoryEngine())

    def __repr__(self) -> str:
        return "MemoryPersistenceBackend()"


def overrides_operations(kind: type[PersistenceBackend]) -> bool:
    """Tell whether a class does more than to hand the basic operations to an engine."""
    return any(
        getattr(kind, name) is not getattr(EngineBackend, name) for name in ("save", "load", "delete", "entries")
    )


def open_backend(
    address: str | PathLike[str], *, create: bool = False, read_only: bool = False, **options: Any
) -> EngineBackend:
    """Return the backend an address leads to: the engine of ``open_engine``, which tells more, awaited."""
    from persistkit.engines import open_engine

    return EngineBackend(open_engine(address, create=create, read_only=read_only, **options))
