"""BlockingBackend: any backend without await."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from persistkit.backend import (
    BlockingCore,
    BlockingReader,
    BlockingWriter,
    Entry,
    PersistenceBackend,
    Reader,
    Writer,
    check_backend,
)
from persistkit.errors import StorageError
from persistkit.operations import (
    BytesLike,
    Items,
    check_key,
    check_keys,
    check_prefix,
    check_value,
    collect_items,
    traced,
)

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

__all__ = ["BlockingBackend"]


def __dir__() -> list[str]:
    return __all__


T = TypeVar("T")
_PAGE = 1000


class BlockingBackend:
    """The operations of a backend without await: in a script, in a running notebook, from any thread.

    A backend with a blocking core (files, memory) is called directly, with no event loop and no thread; any other
    one runs on one background event loop, shared by the whole process. Each method keeps the promise of its
    namesake in ``PersistenceBackend`` and raises the same errors.

    Closing closes the wrapped backend. No thread is left at exit. After a fork the child opens a loop of its own.

    Example:
        >>> from persistkit import MemoryPersistenceBackend
        >>> with BlockingBackend(MemoryPersistenceBackend()) as backend:
        ...     backend.save("run:1", b"done")
        ...     backend.list_keys()
        ['run:1']
    """

    def __init__(self, backend: PersistenceBackend) -> None:
        check_backend(backend, type(self).__name__)
        self.backend = backend
        self._core = backend.blocking_core

    def __repr__(self) -> str:
        return f"BlockingBackend({self.backend!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.backend,)

    def save(self, key: str, value: BytesLike) -> None:
        """Store ``value`` under ``key``, replacing what was there."""
        if self._core is None:
            _run(self.backend.save, key, value)
            return
        check_key(key)
        value = check_value(key, value)
        with traced("save", key, len(value)):
            self._core.save(key, value)

    def load(self, key: str) -> bytes | None:
        """Return the value stored under ``key``, or None when there is none."""
        if self._core is None:
            return _run(self.backend.load, key)
        check_key(key)
        with traced("load", key) as trace:
            if (value := self._core.load(key)) is not None and trace is not None:
                trace.size_bytes = len(value)
            return value

    def load_buffer(self, key: str) -> BytesLike | None:
        """Return the value as ``load`` does; a large one perhaps in a writable buffer, the caller's own."""
        if self._core is None:
            kept = _run(self.backend.load, key)
            return None if kept is None else bytes(kept)  # of what it keeps, no more than a copy is given away
        check_key(key)
        with traced("load", key) as trace:
            if (value := self._core.load_buffer(key)) is not None and trace is not None:
                trace.size_bytes = len(value)
            return value

    def delete(self, key: str) -> None:
        """Remove the value stored under ``key``; no error when there is none."""
        if self._core is None:
            _run(self.backend.delete, key)
            return
        check_key(key)
        with traced("delete", key):
            self._core.delete(key)

    def batch_save(self, items: Items) -> None:
        """Store every value of a mapping, or of an iterable of pairs; the last of a repeated key wins."""
        if self._core is None:
            _run(self.backend.batch_save, items)
            return
        collected = collect_items(items)
        with traced("batch_save", size_bytes=sum(map(len, collected.values()))):
            self._core.batch_save(collected)

    def batch_load(self, keys: Iterable[str]) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, None where there is none."""
        if self._core is None:
            return _run(self.backend.batch_load, keys)
        checked = check_keys(keys)
        with traced("batch_load"):
            return self._core.batch_load(checked)

    def batch_delete(self, keys: Iterable[str]) -> None:
        """Remove the values of ``keys``; no error for those that have none."""
        if self._core is None:
            _run(self.backend.batch_delete, keys)
            return
        checked = check_keys(keys)
        with traced("batch_delete"):
            self._core.batch_delete(checked)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Iterate over everything stored whose key starts with ``prefix``, in the engine's order."""
        check_prefix(prefix)
        return self._paged_entries(prefix) if self._core is None else self._core_entries(self._core, prefix)

    def list_keys(self, prefix: str = "") -> list[str]:
        """Return the known keys that start with ``prefix``, sorted by their UTF-8 bytes."""
        if self._core is None:
            return _run(self.backend.list_keys, prefix)
        check_prefix(prefix)
        with traced("list_keys", prefix):
            return self._core.list_keys(prefix)

    def exists(self, key: str) -> bool:
        """Tell whether a value is stored under ``key``."""
        if self._core is None:
            return _run(self.backend.exists, key)
        check_key(key)
        with traced("exists", key):
            return self._core.exists(key)

    def key_count(self) -> int:
        """Return how many values are stored, those of unknown keys included."""
        if self._core is None:
            return _run(self.backend.key_count)
        with traced("key_count"):
            return self._core.key_count()

    @contextmanager
    def open_reader(self, key: str) -> Iterator[BlockingReader | None]:
        """Open the value of ``key`` for reading in chunks; the reader is None when there is none."""
        check_key(key)
        if self._core is not None:
            with traced("open_reader", key), self._core.open_reader(key) as core_reader:
                yield core_reader
            return
        with _entered(lambda: self.backend.open_reader(key)) as reader:
            yield None if reader is None else _PortalReader(reader)

    @contextmanager
    def open_writer(self, key: str) -> Iterator[BlockingWriter]:
        """Open the value of ``key`` for writing in chunks; it appears, whole, when the block ends well."""
        check_key(key)
        if self._core is not None:
            with traced("open_writer", key), self._core.open_writer(key) as core_writer:
                yield core_writer
            return
        with _entered(lambda: self.backend.open_writer(key)) as writer:
            yield _PortalWriter(writer)

    def change_token(self) -> object | None:
        """Return a cheap token of the present content: equal tokens, nothing changed; None: it cannot be told."""
        if self._core is None:
            return _run(self.backend.change_token)
        with traced("change_token"):
            return self._core.change_token()

    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run an asynchronous ``function`` with ``arguments``, such as the backend's ``check``; return its result."""
        return _run(function, *arguments)

    def close(self) -> None:
        """Close the wrapped backend; using it again opens it anew."""
        if self._core is None or type(self.backend).aclose is not PersistenceBackend.aclose:
            _run(self.backend.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _core_entries(core: BlockingCore, prefix: str) -> Iterator[Entry]:
        with traced("entries", prefix):
            yield from core.entries(prefix)

    def _paged_entries(self, prefix: str) -> Iterator[Entry]:
        # A page a hop: one hop an entry would cost more than the listing itself.
        listing = _run(_started, self.backend, prefix)
        try:
            while page := _run(_next_page, listing):
                yield from page
        finally:
            # Garbage may be collected anywhere, also when the loop has ended; the loop itself closes what it drops.
            if _background.can_be_asked():
                _run(_closed, listing)


async def _started(backend: PersistenceBackend, prefix: str) -> Any:
    return aiter(backend.entries(prefix))


async def _next_page(listing: Any) -> list[Entry]:
    page: list[Entry] = []
    async for entry in listing:
        page.append(entry)
        if len(page) == _PAGE:
            break
    return page


async def _closed(listing: Any) -> None:
    # Any: an AsyncIterator need not be a generator, and only a generator must be closed.
    close = getattr(listing, "aclose", None)
    if close is not None:
        await close()


class _PortalReader:
    """A reader of the background loop, without await."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.size = reader.size

    def read(self, size: int = -1) -> bytes:
        return _run(self._reader.read, size)


class _PortalWriter:
    """A writer of the background loop, without await."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def write(self, chunk: BytesLike) -> None:
        _run(self._writer.write, chunk)


@contextmanager
def _entered(opened: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    with _background.portal().wrap_async_context_manager(opened()) as entered:
        yield entered


def _run(function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    portal = _background.portal()
    tasks: list[asyncio.Task[Any] | None] = []
    ended = threading.Event()

    async def work() -> T:
        tasks.append(asyncio.current_task())
        try:
            return await function(*arguments)
        finally:
            ended.set()

    def cancel() -> None:
        for task in tasks:
            if task is not None:
                task.cancel()
        if not tasks:  # interrupted before the work was handed over
            ended.set()

    try:
        return portal.call(work)
    except BaseException:
        # Interrupted while it waited: as for a cancelled task, nothing may change afterwards. Cancelled once, as
        # asyncio does; cancelling the portal's future would cancel the cleaning up as well.
        if not ended.is_set():
            portal.call(cancel)
            ended.wait()
        raise


class _BackgroundLoop:
    """The one background event loop of this process, started when first needed, stopped at exit."""

    def __init__(self) -> None:
        self._over = False
        self._forget()
        if hasattr(os, "register_at_fork"):
            # A child inherits the loop's memory but not its thread: waiting for it would hang for ever. And a fork
            # waits for a loop that is being started, because a half-done import stays locked in the child.
            os.register_at_fork(
                before=lambda: self._lock.acquire(),
                after_in_parent=lambda: self._lock.release(),
                after_in_child=self._forget,
            )
        # Here, not when the loop starts: what others register later runs earlier, and may still use their backends.
        atexit.register(self._stop)

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._portal: BlockingPortal | None = None
        self._thread: threading.Thread | None = None

    def portal(self) -> BlockingPortal:
        """Return the portal into the loop, from any thread but the loop's own.

        Raises:
            StorageError: the loop cannot be started, or the interpreter is exiting and it has ended; one started now
                could never be stopped.
        """
        portal = self._portal
        if portal is None or not self._is_alive():
            with self._lock:
                portal = self._portal
                if portal is None or not self._is_alive():
                    portal = self._portal = self._start()
        return portal

    def can_be_asked(self) -> bool:
        """Tell whether the loop runs, and not in this very thread."""
        return self._is_alive() and self._thread is not threading.current_thread()

    def _is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _start(self) -> BlockingPortal:
        if self._over:
            raise StorageError(
                "use a backend at the interpreter's exit: the background event loop has ended; finish before, "
                "in an atexit handler"
            )

        import anyio
        from anyio.from_thread import BlockingPortal

        started: Future[BlockingPortal] = Future()

        async def serve() -> None:
            async with BlockingPortal() as portal:
                started.set_result(portal)
                await portal.sleep_until_stopped()

        def run() -> None:
            try:
                anyio.run(serve)
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        # A daemon, stopped by atexit: start_blocking_portal's own thread is joined before atexit handlers run,
        # so a loop for the whole process could never be told to stop.
        self._thread = threading.Thread(target=run, name="persistkit", daemon=True)
        try:
            self._thread.start()
            return started.result()
        except (OSError, RuntimeError) as error:  # no descriptor left, no thread left
            self._thread = None
            raise StorageError(
                f"start the background loop: {error}", errno=error.errno if isinstance(error, OSError) else None
            ) from error

    def _stop(self) -> None:
        portal, thread, self._over = self._portal, self._thread, True
        if portal is not None and thread is not None and thread.is_alive():
            portal.call(portal.stop, True)
            thread.join()


_background = _BackgroundLoop()
