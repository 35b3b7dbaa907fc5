"""CallThreads: threads for calls that do not answer Ctrl-C, so that whoever waits for them does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

__all__ = ["CallThreads"]

T = TypeVar("T")

_IDLE_SECONDS: Final = 10.0
_GRACE_SECONDS: Final = 1.0

_here: Final = threading.local()


class CallThreads:
    """A pool of daemon threads, started when needed and ended after ten seconds without work.

    Args:
        most: how many threads there are at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0

    def run(self, work: Callable[[], T], limit_seconds: float) -> T:
        """Return what ``work`` returns in a thread; in one of these threads, call it there.

        Interrupted, it gives the call another second to end, so that in good times nothing happens afterwards.

        Raises:
            TimeoutError: the limit is over; ``work`` may still end.
        """
        if getattr(_here, "is_worker", False):
            return work()
        future: Future[T] = Future()
        try:
            self._submit(future, work)
            return future.result(limit_seconds)
        except Exception:
            future.cancel()
            raise
        except BaseException:
            if not future.cancel():
                wait([future], _GRACE_SECONDS)
            raise

    def run_together(self, work: Callable[[], None], most: int) -> None:
        """Run ``work`` in at most that many threads at once, and return when all have ended."""
        futures: list[Future[None]] = [Future() for _ in range(min(most, self._most))]
        for future in futures:
            self._submit(future, work)
        for future in futures:
            future.result()

    def _submit(self, future: Future[T], work: Callable[[], T]) -> None:
        self._tasks.put((future, work))
        with self._lock:
            if self._idle:
                self._idle -= 1
                return
            starting = self._threads < self._most
            self._threads += starting
        if starting:
            threading.Thread(target=self._work, name="persistkit-objects", daemon=True).start()

    def _work(self) -> None:
        _here.is_worker = True
        while (task := self._next_task()) is not None:
            future, work = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
            del task, future, work  # an idle thread keeps no value

    def _next_task(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """Return the next task; None when none came for a while, and the thread is to end."""
        while True:
            try:
                return self._tasks.get_nowait()
            except Empty:
                with self._lock:
                    self._idle += 1
            try:
                return self._tasks.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if self._idle:  # or else a task was given to this thread just now
                        self._idle -= 1
                        self._threads -= 1
                        return None
