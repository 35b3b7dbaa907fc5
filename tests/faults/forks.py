"""Forks: children of a process whose threads are in the middle of their work.

    python -m faults.forks WHAT FORKS FOLDER

WHAT is ``files`` (called directly), ``loop`` (a backend on the background event loop), or ``bare loop``: an event
loop in a thread that knows nothing of forks, the control. Prints the trials as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from persistkit import BlockingBackend, FilePersistenceBackend, PersistenceBackend
from persistkit.operations import BytesLike

from .trials import Trials

THREADS: Final = 3
# A loaded machine may take its time; a child that hangs takes for ever.
PATIENCE_SECONDS: Final = {"files": 60.0, "loop": 60.0, "bare loop": 2.0}

Save = Callable[[str, bytes], None]
Load = Callable[[str], bytes | None]


class OnALoop(PersistenceBackend):
    """The files of a directory without a blocking core, so that every call goes through the background loop."""

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
    backend = BlockingBackend(FilePersistenceBackend(base, fsync=False) if what == "files" else OnALoop(base))
    return backend.save, backend.load


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


def fork_again_and_again(what: str, forks: int, base: Path) -> Trials:
    """Fork so often while threads write."""
    save, load = calls_of(what, base)
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
    return trials


if __name__ == "__main__":
    # Python itself warns of forks beside threads: that they go well here is what is tried.
    warnings.simplefilter("ignore", DeprecationWarning)
    print(json.dumps(asdict(fork_again_and_again(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))))
