"""Workers: the threads that run an engine's blocking calls for callers that await them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, TypeVar

from persistkit.errors import StorageError

__all__ = ["Workers", "file_in_thread", "shield_until_done"]

T = TypeVar("T")

# How long a result or a waiting call may be held up by a call that takes long.
_TICK_SECONDS: Final = 0.001
# A call that takes longer waits for a disk or a server: several threads gain. With shorter ones they would only
# fight over the interpreter's lock.
_LONG_SECONDS: Final = 0.0003


class Workers:
    """Runs blocking calls in at most ``limit`` threads, several calls for each wake-up of a thread or a loop.

    A cancelled caller waits for its call if that has begun, and drops it otherwise. Calls may come from several event
    loops, at once or one after the other, and in a forked child, which starts threads of its own.

    One thread takes calls from the queue as long as there are any, and the event loop is told once that the queue is
    empty. Further threads join in when calls of this name usually take long, or when a tick of the loop sees that
    nothing moves: one slow call does not hold up the others.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._forget()

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._limit,)

    def _forget(self) -> None:
        self._process = os.getpid()
        self._threads = ThreadPoolExecutor(self._limit, "persistkit")
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._working = 0
        self._ended = 0
        self._usual_seconds: dict[str, float] = {}
        self._loops: dict[asyncio.AbstractEventLoop, _LoopResults] = {}

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Return what ``function`` returns, from a thread."""
        if self._process != os.getpid():
            self._forget()
        loop = asyncio.get_running_loop()
        results = self._loops.get(loop) or self._results_of(loop)
        call = _Call(function, arguments, getattr(function, "__name__", ""), results, loop.create_future())
        long = self._usual_seconds.get(call.name, 0.0) > _LONG_SECONDS
        with self._lock:
            self._waiting.append(call)
            starts = self._working <= 0 or (long and self._working < self._limit)
            self._working += starts
        if starts:
            self._start()
        elif not results.ticking:
            results.ticking = True
            loop.call_later(_TICK_SECONDS, self._tick, results, self._ended)
        try:
            value: T = await call.future
        except asyncio.CancelledError:
            if not call.delivered:
                await self._drop_or_wait(call)
            raise
        return value

    def close(self) -> None:
        """Let the threads end when they have nothing more to do; later calls start new ones."""
        if self._process == os.getpid():
            threads, self._threads = self._threads, ThreadPoolExecutor(self._limit, "persistkit")
            threads.shutdown(wait=False)

    def _results_of(self, loop: asyncio.AbstractEventLoop) -> _LoopResults:
        with self._lock:
            for other in [other for other in self._loops if other.is_closed()]:
                del self._loops[other]
            return self._loops.setdefault(loop, _LoopResults(loop))

    def _start(self) -> None:
        try:
            self._threads.submit(self._work)
        except RuntimeError:  # no thread starts while the interpreter ends, or where there are too many
            self._work()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._working -= 1
                    return
                call = self._waiting.popleft()
                if call.dropped:
                    continue
                call.begun = True
            began = perf_counter()
            try:
                call.value = call.function(*call.arguments)
            except StopIteration as error:  # no future takes it, and its caller would wait for ever
                call.error = RuntimeError(f"{call.name} raised StopIteration")
                call.error.__cause__ = error
            except BaseException as error:
                call.error = error
            seconds = perf_counter() - began
            usual = self._usual_seconds.get(call.name, seconds)
            # Down faster than up: beside other threads a short call takes longer too.
            self._usual_seconds[call.name] = usual + (seconds - usual) / (4 if seconds < usual else 8)
            results = call.results
            with self._lock:
                self._ended += 1
                results.calls.append(call)
                tells = not results.told and not (results.ticking and self._waiting)
                results.told = results.told or tells
            if tells:
                with suppress(RuntimeError):  # the loop was closed without waiting for its tasks
                    results.loop.call_soon_threadsafe(self._deliver, results)

    def _deliver(self, results: _LoopResults) -> None:
        with self._lock:
            calls, results.calls = results.calls, []
            results.told = False
        for call in calls:
            call.deliver()

    def _tick(self, results: _LoopResults, ended: int) -> None:
        self._deliver(results)
        with self._lock:
            results.ticking = bool(self._waiting)
            helpers = 0
            if (self._ended - ended) * _LONG_SECONDS < self._working * _TICK_SECONDS:
                helpers = max(0, min(self._working, self._limit - self._working, len(self._waiting)))
                self._working += helpers
        if results.ticking:
            results.loop.call_later(_TICK_SECONDS, self._tick, results, self._ended)
        for _ in range(helpers):
            self._start()

    async def _drop_or_wait(self, call: _Call) -> None:
        with self._lock:
            call.dropped = not call.begun
        if call.dropped:
            return
        call.future = asyncio.get_running_loop().create_future()  # the first one is cancelled and tells nothing more
        await _wait_for(call.future)


async def shield_until_done(work: Awaitable[T]) -> T:
    """Await ``work``; when cancelled, wait until it has ended, so that nothing changes afterwards."""
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await _wait_for(future)
        raise


@asynccontextmanager
async def file_in_thread(opened: Callable[[], AbstractContextManager[Any]]) -> AsyncIterator[Any]:
    """Enter a context manager of a file object, use and leave it in a thread of its own, one call after the other.

    Any: a file object of aiofiles, or None. What has been entered is left, however often the caller is cancelled.
    """
    from aiofiles.threadpool.binary import AsyncBufferedReader  # here, because few open a stream

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "persistkit-stream") as thread:
        stack = ExitStack()
        try:
            try:
                opening = loop.run_in_executor(thread, lambda: stack.enter_context(opened()))
            except RuntimeError as error:
                raise StorageError(f"open a stream: it needs a thread: {error}; load and save need none") from error
            file = await shield_until_done(opening)
            yield None if file is None else AsyncBufferedReader(file, loop, thread)
        except BaseException as error:
            leaving = loop.run_in_executor(thread, stack.__exit__, type(error), error, error.__traceback__)
            await shield_until_done(leaving)
            raise
        await shield_until_done(loop.run_in_executor(thread, stack.close))


async def _wait_for(future: asyncio.Future[T]) -> None:
    from anyio import CancelScope  # here, because it takes a while to import and few are cancelled

    # Shielded, because anyio's scopes cancel again and again, and waiting would keep a processor busy.
    with CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
    # Looked at, so that a failure nobody can receive any more is not reported as never retrieved.
    if not future.cancelled():
        future.exception()


@dataclass(slots=True, eq=False)
class _Call:
    """One call: what is to be done, and who waits for it."""

    function: Callable[..., Any]
    arguments: tuple[object, ...]
    name: str
    results: _LoopResults
    future: asyncio.Future[Any]
    begun: bool = False
    dropped: bool = False
    delivered: bool = False
    value: Any = None
    error: BaseException | None = None

    def deliver(self) -> None:
        self.delivered = True
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)


@dataclass(slots=True, eq=False)
class _LoopResults:
    """The calls that have ended and that an event loop has not seen yet."""

    loop: asyncio.AbstractEventLoop
    calls: list[_Call] = field(default_factory=list)
    told: bool = False
    ticking: bool = False
