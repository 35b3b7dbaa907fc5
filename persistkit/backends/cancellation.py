"""Cancellation: a caller that is cancelled or interrupted waits for what it has begun, and never leaves it behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["hop", "settled", "undisturbed"]

T = TypeVar("T")


async def hop(function: Callable[..., T], *arguments: object) -> T:
    """Run blocking work in one hop to a worker thread; a cancelled caller waits for it, unless it has not begun.

    aiofiles' own wrapper gives the caller back at once when cancelled, and the work would go on behind its back.
    """
    work = _Work(function, arguments)
    try:
        # Without asyncio.shield, which costs another turn of the loop: a tenth of the hop.
        return await asyncio.get_running_loop().run_in_executor(None, work)
    except asyncio.CancelledError:
        await work.dropped_or_ended()
        raise


async def settled(work: Awaitable[T]) -> T:
    """Await ``work``; when cancelled, wait until it has ended, so that nothing changes afterwards."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _ended(task)
        # Looked at, so that a failure nobody can receive any more is not reported as never retrieved.
        if not task.cancelled():
            task.exception()
        raise


def undisturbed(work: Callable[[], None], stop: threading.Event) -> None:
    """Carry ``work`` out in a thread, where no interrupt reaches it; one sets ``stop``, and is raised at the end."""
    # Bare locks: an interrupt while a Future or an Event is waited for may become a RuntimeError.
    begun, ended = threading.Lock(), threading.Lock()
    outcome: list[BaseException | None] = []

    def run() -> None:
        if begun.acquire(blocking=False):
            try:
                work()
                outcome.append(None)
            except BaseException as error:
                outcome.append(error)
            ended.release()

    ended.acquire()
    try:
        threading.Thread(target=run, name="persistkit-batch").start()
        ended.acquire()
    except BaseException as error:
        if begun.acquire(blocking=False):  # it never begins
            if not isinstance(error, RuntimeError):
                raise
            work()  # no thread starts while the interpreter ends, or where there are too many
            return
        stop.set()
        while not outcome:  # however often the user interrupts: what it still writes would be left behind
            with suppress(KeyboardInterrupt):
                ended.acquire()
        if isinstance(error, RuntimeError):  # Thread.start waits for an Event
            raise KeyboardInterrupt from error
        raise
    if outcome[0] is not None:
        raise outcome[0]


class _Work(Generic[T]):
    """What a worker thread is to do. Each lock is taken once, by whoever comes first: the worker or the caller."""

    __slots__ = ("_arguments", "_begun", "_ended", "_function", "_tell")

    _tell: Callable[[], object]

    def __init__(self, function: Callable[..., T], arguments: tuple[object, ...]) -> None:
        self._function = function
        self._arguments = arguments
        self._begun = threading.Lock()
        self._ended = threading.Lock()

    def __call__(self) -> T:
        if not self._begun.acquire(blocking=False):
            raise asyncio.CancelledError
        try:
            return self._function(*self._arguments)
        finally:
            if not self._ended.acquire(blocking=False):
                self._tell()

    async def dropped_or_ended(self) -> None:
        """Drop the work if it has not begun, else wait until it has ended."""
        if self._begun.acquire(blocking=False):
            return
        loop = asyncio.get_running_loop()
        told = loop.create_future()
        self._tell = lambda: loop.call_soon_threadsafe(told.set_result, None)
        if self._ended.acquire(blocking=False):
            await _ended(told)


async def _ended(future: asyncio.Future[T]) -> None:
    from anyio import CancelScope  # here, because it takes a while to import and few are cancelled

    # Shielded, because anyio's scopes cancel again and again, and waiting would keep a processor busy.
    with CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
