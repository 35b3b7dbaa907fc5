"""BackendEngine: an asynchronous backend as an engine, on the one background event loop of the process."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from os import PathLike
from typing import Any, Final, TypeVar

from persistkit.arguments import BytesLike
from persistkit.backend import PersistenceBackend, overrides_operations
from persistkit.engine import Engine
from persistkit.entry import Entry
from persistkit.errors import StorageError

__all__ = ["BackendEngine", "engine_of"]

T = TypeVar("T")

_PAGE: Final = 1000


class BackendEngine(Engine):
    """A backend of your own, without await: in a script, in a running notebook, from any thread.

    Its methods run on one background event loop, which all such engines of the process share; it starts at the first
    use, ends with the process, and is started anew in a forked child. Arguments are checked before they reach the
    backend. An interrupted call (Ctrl-C) cancels its work and waits for its end. ``add`` and ``replace`` are atomic
    among the threads of this process. Listings raise ``ListingNotSupportedError`` where the backend has no
    ``entries``.

    Attributes:
        backend: what the calls go to.
    """

    def __init__(self, backend: PersistenceBackend) -> None:
        self.backend = backend
        self.max_value_bytes = backend.max_value_bytes

    def __repr__(self) -> str:
        return f"BackendEngine({self.backend!r})"

    def _save(self, key: str, value: BytesLike) -> None:
        _run(self.backend.save, key, value)

    def _load(self, key: str) -> bytes | None:
        return _as_bytes(_run(self.backend.load, key))

    def _delete(self, key: str) -> None:
        _run(self.backend.delete, key)

    def _batch_save(self, items: dict[str, BytesLike]) -> None:
        _run(self.backend.batch_save, items)

    def _batch_load(self, keys: list[str]) -> list[bytes | None]:
        return [_as_bytes(value) for value in _run(self.backend.batch_load, keys)]

    def _batch_delete(self, keys: list[str]) -> None:
        _run(self.backend.batch_delete, keys)

    def _entries(self, prefix: str) -> Iterator[Entry]:
        # A page at a time: entering the loop for each entry would cost more than the listing itself.
        listing = _run(_started, self.backend, prefix)
        while page := _run(_next_page, listing):
            yield from page

    def _list_keys(self, prefix: str) -> list[str]:
        return _run(self.backend.list_keys, prefix)

    def _exists(self, key: str) -> bool:
        return _run(self.backend.exists, key)

    def _existing(self, keys: list[str]) -> set[str]:
        return _run(_existing, self.backend, keys)

    def _key_count(self) -> int:
        return _run(self.backend.key_count)

    def _change_token(self) -> object | None:
        return _run(self.backend.change_token)

    def close(self) -> None:
        """Close the backend; using it again opens it anew."""
        _run(self.backend.aclose)


def engine_of(given: object, taker: str) -> Engine:
    """Return the engine of what was given: an engine, a store, or a backend.

    A backend that changes what an engine's backend does (it overrides ``save``, say) is used by its own methods.

    Raises:
        TypeError: ``given`` is none of them; the message says what ``taker`` takes, and nothing of the content.
    """
    engine = given if isinstance(given, Engine) else getattr(given, "engine", None)
    if isinstance(given, PersistenceBackend) and overrides_operations(type(given)):
        return BackendEngine(given)
    if isinstance(engine, Engine):
        return engine
    advice = "persistkit.open(address) returns a store"
    if isinstance(given, (str, PathLike)):
        advice = f"to use what an address leads to, write {taker}(persistkit.open(address))"
    raise TypeError(f"{taker} takes a store, an engine or a backend, not {type(given).__name__}; {advice}")


def _as_bytes(value: BytesLike | None) -> bytes | None:
    return value if value is None or type(value) is bytes else bytes(value)


async def _started(backend: PersistenceBackend, prefix: str) -> AsyncIterator[Entry]:
    return aiter(backend.entries(prefix))


async def _existing(backend: PersistenceBackend, keys: list[str]) -> set[str]:
    found: set[str] = set()

    async def look(key: str) -> None:
        found.update([key] * await backend.exists(key))

    await backend._attempt("existing", keys, look)
    return found


async def _next_page(listing: AsyncIterator[Entry]) -> list[Entry]:
    page: list[Entry] = []
    async for entry in listing:
        page.append(entry)
        if len(page) == _PAGE:
            break
    return page


def _run(function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Return the result of an asynchronous function, run on the background loop."""
    loop = _background.loop()
    tasks: list[asyncio.Task[Any] | None] = []
    ended = threading.Event()

    async def work() -> T:
        tasks.append(asyncio.current_task())
        try:
            return await function(*arguments)
        finally:
            ended.set()

    async def cancel() -> None:
        for task in tasks:
            if task is not None:
                task.cancel()
        if not tasks:  # interrupted before the work was handed over
            ended.set()

    try:
        return asyncio.run_coroutine_threadsafe(work(), loop).result()
    except BaseException:
        # Interrupted while it waited: as for a cancelled task, nothing may change afterwards. Cancelled once, as
        # asyncio does; cancelling the future would cancel the cleaning up as well.
        if not ended.is_set():
            asyncio.run_coroutine_threadsafe(cancel(), loop)
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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, for any thread but its own.

        Raises:
            RuntimeError: the calling thread is the loop's own, which would wait for itself.
            StorageError: the loop cannot be started, or the interpreter is exiting and it has ended; one started now
                could never be stopped.
        """
        if self._thread is threading.current_thread():
            raise RuntimeError("a backend is used without await in its own event loop; await its methods there")
        with self._lock:
            if self._loop is None:
                self._loop = self._start()
            return self._loop

    def _start(self) -> asyncio.AbstractEventLoop:
        if self._over:
            raise StorageError(
                "use a backend at the interpreter's exit: the background event loop has ended; finish before, "
                "in an atexit handler"
            )
        try:
            loop = asyncio.new_event_loop()
        except OSError as error:  # no descriptor left
            raise StorageError(f"start the background loop: {error}", errno=error.errno) from error

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop):  # which ends all tasks at last
                while True:
                    # What a backend raises to end the program reaches its caller; the loop is there for all.
                    with suppress(KeyboardInterrupt, SystemExit):
                        loop.run_forever()
                    if self._over:
                        break

        # A daemon, stopped by atexit: any other thread is joined before atexit handlers run, so a loop for the whole
        # process could never be told to stop.
        thread = threading.Thread(target=run, name="persistkit", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread left
            loop.close()
            raise StorageError(
                f"start the background loop: it needs a thread: {error}; engines that are not asynchronous need none"
            ) from error
        self._thread = thread
        return loop

    def _stop(self) -> None:
        self._over = True
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()


_background = _BackgroundLoop()
