"""Threads: obstore's blocking calls do not answer Ctrl-C, so the main thread lets others make them and waits."""

from __future__ import annotations

import atexit
import os
import time
from _thread import start_new_thread
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from threading import get_ident, main_thread
from typing import Any, Final, TypeAlias

from persistkit.errors import StorageError

__all__ = ["GRACE_SECONDS", "run_in_thread"]

GRACE_SECONDS: Final = 1.0
_EXIT_SECONDS: Final = 0.02

_Tasks: TypeAlias = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
_idle: Final[list[_Tasks]] = []  # one for each thread without work
_running: Final[set[Future[Any]]] = set()

# obstore's runtime is one for the process, and its threads do not follow a fork.
_runtime_process: int | None = None


def run_in_thread(work: Callable[[], Any], limit_seconds: float) -> Any:
    """Return what ``work`` returns; interrupted, give it a second to end, so that mostly nothing happens afterwards.

    Only the main thread is interrupted: in any other the work is done at once.

    Raises:
        StorageError: no thread can be started, or the process is a fork of one that has used obstore.
        TimeoutError: it took longer than ``limit_seconds``.
    """
    _check_process()
    future: Future[Any] = Future()
    _running.add(future)
    future.add_done_callback(_running.discard)
    if get_ident() != main_thread().ident:
        _finish(future, work)
        return future.result()
    try:
        tasks = _idle.pop()
    except IndexError:
        tasks = SimpleQueue()
        try:
            start_new_thread(_work, (tasks,))  # no process waits for it when it ends, as for those of an executor
        except RuntimeError as error:
            _running.discard(future)
            raise StorageError(f"it needs a thread: {error}; files and SQLite need none") from error
    tasks.put((future, work))
    try:
        return future.result(limit_seconds)
    except BaseException as error:
        if not isinstance(error, Exception):
            wait([future], GRACE_SECONDS)
        raise
    finally:
        if future.done():
            _idle.append(tasks)
        else:
            tasks.put(None)  # the thread that hangs ends when it can


def _work(tasks: _Tasks) -> None:
    while (task := tasks.get()) is not None:
        _finish(*task)
        del task  # an idle thread keeps no value


def _finish(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


def _check_process() -> None:
    global _runtime_process
    if _runtime_process is None:
        _runtime_process = os.getpid()
        atexit.register(_end, _runtime_process)
    elif _runtime_process != os.getpid():
        raise StorageError("a forked child cannot use object stores; start processes with 'spawn'")


def _end(process: int) -> None:
    """Wait for the last requests, and until obstore's threads have dropped what was handed to them.

    A thread of obstore that asks for the interpreter while it ends aborts the process: one exit in ten without this.
    """
    if process == os.getpid():
        wait(list(_running), GRACE_SECONDS)
        time.sleep(_EXIT_SECONDS)
