"""Workers: an engine's calls in threads, cancelled, slow, gathered and forked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import pytest
from dict_engine import DictEngine

from persistkit import EngineBackend, Entry, FilePersistenceBackend, Store
from persistkit.arguments import BytesLike


class GatedEngine(DictEngine):
    """Values in memory; every operation on a key that starts with "slow" waits at a gate."""

    def __init__(self, concurrency: int = 8) -> None:
        super().__init__()
        self.concurrency = concurrency
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.working = 0
        self.saved: list[str] = []

    def _pass(self, key: str) -> None:
        if key.startswith("slow"):
            self.working += 1
            self.begun.set()
            assert self.gate.wait(30)
            self.working -= 1

    def _save(self, key: str, value: BytesLike) -> None:
        self._pass(key)
        self.saved.append(key)
        super()._save(key, value)

    def _load(self, key: str) -> bytes | None:
        self._pass(key)
        return super()._load(key)

    def _delete(self, key: str) -> None:
        self._pass(key)
        super()._delete(key)

    def _entries(self, prefix: str) -> Iterator[Entry]:
        self._pass(prefix)
        return super()._entries(prefix)


async def write_stream(backend: EngineBackend) -> None:
    """Write a value as a stream: it is saved when the block ends."""
    async with backend.open_writer("slow") as writer:
        await writer.write(b"new")


async def read_stream(backend: EngineBackend) -> None:
    """Read a value as a stream."""
    async with backend.open_reader("slow") as reader:
        assert reader is not None
        await reader.read()


async def list_entries(backend: EngineBackend) -> None:
    """Read a whole listing."""
    async for _ in backend.entries("slow"):
        pass


OPERATIONS: dict[str, Callable[[EngineBackend], Awaitable[object]]] = {
    "save": lambda backend: backend.save("slow", b"new"),
    "load": lambda backend: backend.load("slow"),
    "delete": lambda backend: backend.delete("slow"),
    "batch_save": lambda backend: backend.batch_save({"slow": b"new"}),
    "batch_load": lambda backend: backend.batch_load(["slow"]),
    "batch_delete": lambda backend: backend.batch_delete(["slow"]),
    "exists": lambda backend: backend.exists("slow"),
    "list_keys": lambda backend: backend.list_keys("slow"),
    "entries": list_entries,
    "open_writer": write_stream,
    "open_reader": read_stream,
    "a store's set": lambda backend: Store(backend.engine).aio.set("slow", "new"),
}


async def cancelled_while_it_works(operation: str, again: int) -> bool:
    """Cancel an operation that has begun; tell whether it was waited for, and ended as a cancellation."""
    engine = GatedEngine()
    engine.stored["slow"] = b"old"
    task = asyncio.ensure_future(OPERATIONS[operation](EngineBackend(engine)))
    while not engine.begun.is_set():
        await asyncio.sleep(0)
    for _ in range(again):
        task.cancel()
        await asyncio.wait([task], timeout=0.001)
    waited = not task.done()
    engine.gate.set()
    await asyncio.wait([task])
    return waited and engine.working == 0 and task.cancelled()


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_cancelled_caller_waits_for_work_that_has_begun(operation: str) -> None:
    """However often it is cancelled, it goes on when the work has ended, so nothing changes behind its back."""
    assert await cancelled_while_it_works(operation, again=1)
    assert await cancelled_while_it_works(operation, again=5)


async def test_a_caller_that_does_not_wait_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: how most programs leave the event loop, the cancelled caller goes on at once, and the thread too."""
    monkeypatch.setattr("persistkit.workers.Workers.run", lambda _, *call: asyncio.to_thread(*call))
    assert not await cancelled_while_it_works("save", again=1)


async def test_work_that_has_not_begun_is_dropped() -> None:
    """A cancelled save that still waits for a thread ends at once, and never happens."""
    engine = GatedEngine(concurrency=1)
    backend = EngineBackend(engine)
    first = asyncio.ensure_future(backend.save("slow", b"1"))
    while not engine.begun.is_set():
        await asyncio.sleep(0)
    second = asyncio.ensure_future(backend.save("dropped", b"2"))
    third = asyncio.ensure_future(backend.save("kept", b"3"))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    assert second.cancelled()
    assert not first.done()
    engine.gate.set()
    await asyncio.gather(first, third)
    assert engine.saved == ["slow", "kept"]


async def test_a_cancelled_scope_does_not_keep_a_processor_busy() -> None:
    """Anyio's scopes cancel again and again: waiting for the work takes no time of the processor."""
    engine = GatedEngine()
    used = time.process_time()
    threading.Timer(0.3, engine.gate.set).start()
    with anyio.move_on_after(0.01) as scope:
        await EngineBackend(engine).save("slow", b"value")
    assert scope.cancelled_caught
    assert engine.saved == ["slow"]
    assert time.process_time() - used < 0.2


async def test_a_failure_after_a_cancellation_is_not_reported_as_lost(caplog: pytest.LogCaptureFixture) -> None:
    """The error of work that nobody receives any more is dropped without a word from the event loop."""
    engine = GatedEngine()
    task = asyncio.ensure_future(EngineBackend(engine).save("slow", b"value"))
    while not engine.begun.is_set():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    engine.saved = None  # type: ignore[assignment]  # so the work fails
    engine.gate.set()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    assert not caplog.records


async def test_one_slow_call_does_not_hold_up_the_others() -> None:
    """Of many saves begun together, all that are quick end while the slow ones still wait."""
    engine = GatedEngine(concurrency=4)
    backend = EngineBackend(engine)
    slow = [asyncio.ensure_future(backend.save(f"slow:{number}", b"")) for number in range(3)]
    async with asyncio.timeout(30):
        await asyncio.gather(*(backend.save(f"quick:{number}", b"") for number in range(200)))
    assert not any(task.done() for task in slow)
    engine.gate.set()
    await asyncio.gather(*slow)
    assert len(engine.stored) == 203


async def test_closing_lets_waiting_calls_end() -> None:
    """Calls that wait for a thread while the backend is closed are carried out all the same."""
    engine = GatedEngine(concurrency=2)
    backend = EngineBackend(engine)
    closing = asyncio.ensure_future(backend.aclose())
    calls = [asyncio.ensure_future(backend.save(key, b"")) for key in ("slow:1", "slow:2", "a", "b")]
    async with asyncio.timeout(30):
        await closing
        engine.gate.set()
        await asyncio.gather(*calls)
        await backend.save("after", b"")
    assert sorted(engine.saved) == ["a", "after", "b", "slow:1", "slow:2"]


async def test_an_engine_that_raises_stop_iteration_is_an_error() -> None:
    """A future cannot hold that error; its caller gets another one instead of waiting for ever."""

    class Careless(GatedEngine):
        def _load(self, key: str) -> bytes | None:
            return next(value for stored, value in self.stored.items() if stored == key)

    backend = EngineBackend(Careless())
    async with asyncio.timeout(30):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await backend.load("key")
        await backend.save("key", b"")


async def test_gathered_saves_are_worked_off_by_few_threads(tmp_path: Path) -> None:
    """Quick calls that come together need one thread, not one each."""
    before = threading.active_count()
    backend = EngineBackend(GatedEngine(concurrency=64))
    for _ in range(5):
        await asyncio.gather(*(backend.save(f"key:{number}", b"") for number in range(64)))
    assert threading.active_count() < before + 32
    if (engine := FilePersistenceBackend(tmp_path)).engine.load_cached("missing") is None:
        await engine.save("key", b"value")
    before = threading.active_count()
    fresh = FilePersistenceBackend(tmp_path)
    if fresh.engine.load_cached("key") is not None:
        assert await fresh.load("key") == b"value"
        assert threading.active_count() == before, "a small cached value was loaded in a thread"


FORKED = """
import asyncio, os, sys
from persistkit import FilePersistenceBackend
backend = FilePersistenceBackend(sys.argv[1])

async def gather(name):
    await asyncio.gather(*(backend.save(f"{name}:{number}", b"value") for number in range(20)))

asyncio.run(gather("parent"))
child = os.fork()
asyncio.run(gather("child" if child == 0 else "parent again"))
if child == 0:
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


def test_a_forked_child_starts_threads_of_its_own(tmp_path: Path) -> None:
    """Parent and child go on with one object, and a program that closes nothing ends by itself."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert len(list(tmp_path.glob("*.bin"))) == 60
