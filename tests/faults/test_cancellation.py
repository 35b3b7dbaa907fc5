"""Cancelled at any moment: what has begun ends before the caller goes on, and nothing changes behind its back."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

import pytest

from persistkit.backend import FilePersistenceBackend
from persistkit.engines.files import FileEngine
from persistkit.keys import filename_for

from .operations import BYSTANDER, KEY, NEW, OLD, OTHER, OWNED
from .report import Report, Trials

MILLISECONDS = (0, 1, 5, 50)
KEYS = (KEY, OTHER, OWNED)
WHOLE = (None, OLD, NEW)

# What a slow disk takes for the calls that each operation makes at least one of.
SLOW_SECONDS = 0.01
SLOW_CALLS = ("fsync", "unlink", "scandir", "fstat", "lstat", "stat")


async def write_stream(backend: FilePersistenceBackend) -> None:
    """Write a value in chunks."""
    async with backend.open_writer(KEY) as writer:
        for start in range(0, len(NEW), 6_000):
            await writer.write(NEW[start : start + 6_000])


async def read_stream(backend: FilePersistenceBackend) -> None:
    """Read a value in chunks."""
    async with backend.open_reader(OWNED) as reader:
        assert reader is not None
        while await reader.read(100):
            pass


async def list_entries(backend: FilePersistenceBackend) -> None:
    """Read the whole listing."""
    async for _ in backend.entries():
        pass


OPERATIONS: dict[str, Callable[[FilePersistenceBackend], Awaitable[object]]] = {
    "save": lambda backend: backend.save(KEY, NEW),
    "save of an owned key": lambda backend: backend.save(OWNED, NEW),
    "delete": lambda backend: backend.delete(KEY),
    "batch_save": lambda backend: backend.batch_save(dict.fromkeys(KEYS, NEW)),
    "batch_delete": lambda backend: backend.batch_delete(KEYS),
    "open_writer": write_stream,
    "load": lambda backend: backend.load(KEY),
    "load_filename": lambda backend: backend.load_filename(filename_for(KEY)),
    "batch_load": lambda backend: backend.batch_load(KEYS),
    "open_reader": read_stream,
    "list_keys": lambda backend: backend.list_keys(),
    "entries": list_entries,
    "exists": lambda backend: backend.exists(KEY),
    "key_count": lambda backend: backend.key_count(),
    "change_token": lambda backend: backend.change_token(),
    "check": lambda backend: backend.check(repair=True),
}
READING = tuple(OPERATIONS)[6:]


def content_of(base: Path) -> dict[str, bytes]:
    """Return every file of the directory with its bytes."""
    return {path.name: path.read_bytes() for path in sorted(base.iterdir())}


async def going_on(work: Awaitable[object]) -> object:
    """The control: let the work go on behind a caller that was cancelled, as most programs do."""
    return await asyncio.shield(work)


def cancel_at(milliseconds: int, operation: str, base: Path, how: Callable[..., Awaitable[object]]) -> list[str]:
    """Cancel the operation after so long; return what that broke."""
    FileEngine(base, create=True).batch_save({KEY: OLD, OWNED: OLD, BYSTANDER: b"kept"})
    backend = FilePersistenceBackend(base)
    busy: set[str] = set()

    def slowed(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def slow(*arguments: object, **options: object) -> object:
            # Only the threads of the operation are on the slow disk, not the one that looks.
            if threading.current_thread() is threading.main_thread():
                return call(*arguments, **options)
            busy.add(name)
            try:
                threading.Event().wait(SLOW_SECONDS)
                return call(*arguments, **options)
            finally:
                busy.discard(name)

        return slow

    async def cancelled() -> tuple[dict[str, bytes], set[str], bool]:
        task = asyncio.ensure_future(how(OPERATIONS[operation](backend)))
        await asyncio.sleep(milliseconds / 1000)
        told = task.done()
        while not task.done():  # again and again, as anyio's scopes do
            task.cancel()
            await asyncio.wait([task], timeout=SLOW_SECONDS / 5)
        return content_of(base), set(busy), told or task.cancelled()

    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    with pytest.MonkeyPatch.context() as patch:
        for name in SLOW_CALLS:
            patch.setattr(os, name, slowed(name, getattr(os, name)))
        # The end of the loop waits for every thread: what still changes then has changed behind the caller's back.
        seen, working, told = asyncio.run(cancelled())
    after = len(os.listdir("/proc/self/fd")) if before else 0
    left = content_of(base)
    values = [left.get(filename_for(key)) for key in KEYS]
    return [
        text
        for text, broken in {
            "the directory changed after the cancellation": left != seen,
            f"{working} went on after the cancellation": bool(working),
            "the cancellation was swallowed": not told,
            f"a value is torn: {values}": any(value not in WHOLE for value in values),
            f"a temp file is left: {list(left)}": any(name.endswith(".tmp") for name in left),
            "another value changed": left.get(filename_for(BYSTANDER)) != b"kept",
            "a descriptor is left open": after != before,
            "reading changed something": operation in READING and values != [OLD, None, OLD],
        }.items()
        if broken
    ]


def cancel_everything(folder: Path, how: Callable[..., Awaitable[object]]) -> Trials:
    """Cancel every operation at every moment."""
    trials, bases = Trials(), (folder / str(number) for number in count())
    for operation in OPERATIONS:
        for milliseconds in MILLISECONDS:
            violations = cancel_at(milliseconds, operation, next(bases), how)
            trials.add(*(f"{operation} at {milliseconds} ms: {violation}" for violation in violations))
    return trials


def test_cancelling_at_any_moment(tmp_path: Path, report: Report) -> None:
    """Each operation, cancelled early or late: whole values, nothing left open or half, nothing afterwards."""
    kept = cancel_everything(tmp_path / "kept", asyncio.ensure_future)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        control = cancel_everything(tmp_path / "control", going_on)
        gc.collect()
    report.record("cancelled at 0, 1, 5, 50 ms, every operation: whole, and nothing changes afterwards", kept, control)
