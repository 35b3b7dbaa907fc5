"""Forks: children of a process whose threads are in the middle of their work.

A task of a fork server, with ``files`` (the engine), ``loop`` (an asynchronous backend on the background event loop),
or ``bare loop``, the control: an event loop in a thread that knows nothing of forks.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from persistkit.arguments import BytesLike
from persistkit.backend import FilePersistenceBackend, PersistenceBackend
from persistkit.background import BackendEngine
from persistkit.engine import Engine
from persistkit.engines.files import FileEngine

from .report import Trials

THREADS: Final = 3
# A loaded machine may take its time; a child that hangs takes for ever.
PATIENCE_SECONDS: Final = {"files": 60.0, "loop": 60.0, "bare loop": 2.0}

Save = Callable[[str, bytes], None]
Load = Callable[[str], bytes | None]


class OnALoop(PersistenceBackend):
    """The files of a directory as somebody's own asynchronous backend, which needs the background loop."""

    def __init__(self, base: Path) -> None:
        self._files = FilePersistenceBackend(base, fsync=False)

    async def save(self, key: str, value: BytesLike) -> None:
        """Hand on."""
        await self._files.save(key, value)

    async def load(self, key: str) -> bytes | None:
        """Hand on."""
        return await self._files.load(key)

    async def delete(self, key: str) -> None:
        """Hand on."""
        await self._files.delete(key)


def calls_of(what: str, base: Path) -> tuple[Save, Load]:
    """Return how to save and load."""
    if what == "bare loop":
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        bare = FilePersistenceBackend(base, fsync=False)
        return (
            lambda key, value: asyncio.run_coroutine_threadsafe(bare.save(key, value), loop).result(),
            lambda key: asyncio.run_coroutine_threadsafe(bare.load(key), loop).result(),
        )
    engine: Engine = FileEngine(base, fsync=False) if what == "files" else BackendEngine(OnALoop(base))
    return engine.save, engine.load


def fork_once(what: str, save: Save, load: Load, key: str) -> list[str]:
    """Fork a child that saves and loads; return what went wrong."""
    child = os.fork()
    if child == 0:
        signal.alarm(2 * int(PATIENCE_SECONDS[what]))  # also when nobody is left to end it
        answered = 1
        try:
            save(key, key.encode())
            answered = 0 if load(key) == key.encode() else 2
        finally:
            os._exit(answered)
    deadline = time.monotonic() + PATIENCE_SECONDS[what]
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return [f"{key} ended with {status}"] if status else [] if load(key) == key.encode() else [f"{key} is lost"]
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return [f"{key} hangs"]


def fork_again_and_again(what: str, forks: int, base: str) -> dict[str, Any]:
    """Fork so often while threads write; trials as JSON."""
    # Python itself warns of forks beside threads: that they go well here is what is tried.
    warnings.simplefilter("ignore", DeprecationWarning)
    Path(base).mkdir()
    save, load = calls_of(what, Path(base))
    stop = threading.Event()

    def write(worker: int) -> None:
        while not stop.is_set():
            save(f"thread {worker}", os.urandom(1000))

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(THREADS)]
    for thread in threads:
        thread.start()
    trials = Trials()
    for number in range(forks):
        trials.add(*fork_once(what, save, load, f"child {number}"))
    stop.set()
    for thread in threads:
        thread.join()
    return asdict(trials)
