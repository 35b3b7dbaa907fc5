"""Backends: engines awaited, and backends of three methods."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import pytest

from persistkit import (
    EngineBackend,
    Entry,
    FilePersistenceBackend,
    MemoryPersistenceBackend,
    PersistenceBackend,
    open_backend,
)
from persistkit.arguments import BytesLike
from persistkit.engine import Engine
from persistkit.errors import BatchError, InvalidKeyError, ReadOnlyError, StorageError, ValueTooLargeError
from persistkit.testing import BackendContract


class ThreeMethods(PersistenceBackend):
    """The least a backend can be: no listing, and nothing checked."""

    max_value_bytes = 64 * 1024 * 1024

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def save(self, key: str, value: BytesLike) -> None:
        """Keep a copy of the value; some keys fail."""
        if key.startswith("silent"):
            raise StorageError("no answer", errno=errno.ETIMEDOUT)
        if key.startswith("cancelled"):
            raise asyncio.CancelledError
        self.values[key] = bytes(value)

    async def load(self, key: str) -> bytes | None:
        """Return the value or None."""
        return self.values.get(key)

    async def delete(self, key: str) -> None:
        """Forget the value."""
        self.values.pop(key, None)


class TestMemoryBackend(BackendContract):
    """An engine that does not block is called in the event loop itself."""

    def make_backend(self) -> PersistenceBackend:
        """Return an empty backend."""
        return MemoryPersistenceBackend()


class TestFileBackend(BackendContract):
    """An engine that blocks is called in worker threads."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "state"

    def make_backend(self) -> PersistenceBackend:
        """Make an empty directory."""
        return FilePersistenceBackend(self.folder, create=True, fsync=False)

    async def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | None:
        """Read the file."""
        assert isinstance(backend, FilePersistenceBackend)
        path = backend.path_for(key)
        owner = path.with_suffix(".key")
        if not path.exists() or (owner.exists() and owner.read_text() != key):
            return None
        return path.read_bytes()


class TestThreeMethods(BackendContract):
    """A backend of save, load and delete, which cannot list, and checks nothing."""

    tries_the_limit = True

    async def make_backend(self) -> PersistenceBackend:
        """Return an empty backend."""
        return ThreeMethods()

    def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | None:
        """Look into the dict."""
        assert isinstance(backend, ThreeMethods)
        return backend.values.get(key)


class GatedEngine(Engine):
    """Values in memory; every operation on a key that starts with "slow" waits at a gate."""

    def __init__(self, concurrency: int = 8) -> None:
        self.concurrency = concurrency
        self.values: dict[str, bytes] = {}
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
        self.values[key] = bytes(value)

    def _load(self, key: str) -> bytes | None:
        self._pass(key)
        return self.values.get(key)

    def _delete(self, key: str) -> None:
        self._pass(key)
        self.values.pop(key, None)

    def _entries(self, prefix: str) -> Iterator[Entry]:
        self._pass(prefix)
        return iter([Entry(key, len(value), None) for key, value in self.values.items() if key.startswith(prefix)])


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
}


async def cancelled_while_it_works(operation: str, again: int) -> bool:
    """Cancel an operation that has begun; tell whether it was waited for, and ended as a cancellation."""
    engine = GatedEngine()
    engine.values["slow"] = b"old"
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
    assert len(engine.values) == 203


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


class BrokenEngine(GatedEngine):
    """Keys that start with "silent" get no answer, those that start with "bad" are refused."""

    def _save(self, key: str, value: BytesLike) -> None:
        super()._save(key, value)
        if key.startswith("silent"):
            raise StorageError("no answer", errno=errno.ETIMEDOUT)
        if key.startswith("bad"):
            raise StorageError("refused")


async def test_a_batch_attempts_every_item_in_chunks() -> None:
    """Failures of all chunks come as one error; nothing is stored when one argument is wrong."""
    engine = BrokenEngine()
    backend = EngineBackend(engine)
    items = {f"{'bad' if number % 600 == 0 else 'good'}:{number}": b"" for number in range(1_300)}
    with pytest.raises(BatchError, match="batch_save: 3 of 1,300 keys failed") as caught:
        await backend.batch_save(items)
    assert list(caught.value.failures) == ["bad:0", "bad:600", "bad:1200"]
    assert engine.saved == list(items)
    engine.saved.clear()
    with pytest.raises(InvalidKeyError):
        await backend.batch_save({**items, "\0": b""})
    engine.max_value_bytes = 5
    with pytest.raises(ValueTooLargeError):
        await backend.batch_save({**items, "large": b"123456"})
    assert engine.saved == []


async def test_a_batch_stops_when_the_storage_stops_answering() -> None:
    """What is left fails without being tried, in later chunks too, on engines and on three methods alike."""
    engine = BrokenEngine()
    items = {f"{'silent' if number == 5 else 'good'}:{number}": b"" for number in range(1_300)}
    with pytest.raises(BatchError) as caught:
        await EngineBackend(engine).batch_save(items)
    assert engine.saved == list(items)[:6]
    assert list(caught.value.failures) == list(items)[5:]
    assert "not tried, because of: no answer" in str(caught.value.failures["good:1299"])
    backend = ThreeMethods()
    with pytest.raises(BatchError) as caught:
        await backend.batch_save(items)
    assert set(backend.values) | set(caught.value.failures) == set(items)
    assert "not tried" in str(caught.value.failures["good:1299"])


async def test_work_a_backend_cancels_itself_is_a_failure() -> None:
    """A key whose work the backend cancelled is reported, and every other one is carried out."""
    backend = ThreeMethods()
    items = dict.fromkeys([f"cancelled {n}" for n in range(64)] + [f"good {n}" for n in range(100)], b"")
    with pytest.raises(BatchError, match="64 of 164"):
        await backend.batch_save(items)
    assert len(backend.values) == 100


async def test_each_awaited_operation_is_traced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG the log tells operations, keys and sizes, of loads without a thread too, and no value."""
    backend = FilePersistenceBackend(tmp_path, fsync=False)
    with caplog.at_level(logging.DEBUG, "persistkit"):
        await backend.save("key", b"value")
        await backend.load("key")
        await backend.batch_load(["key"])
    told = [(record.__dict__["operation"], record.__dict__["size_bytes"]) for record in caplog.records]
    assert told[0] == ("save", 5)
    assert ("load", 5) in told or ("load_cached", 5) in told
    assert told[-1] == ("batch_load", 5)
    assert all("value" not in record.getMessage() for record in caplog.records)


async def test_a_directory_is_known_by_its_backend(tmp_path: Path) -> None:
    """``base_dir``, ``fsync``, ``path_for``, ``check`` and ``load_filename`` are those of the directory's engine."""
    backend = FilePersistenceBackend(tmp_path, fsync=False)
    assert (backend.base_dir, backend.fsync) == (tmp_path, False)
    await backend.save("key", b"value")
    path = backend.path_for("key")
    assert path.read_bytes() == b"value"
    assert await backend.load_filename(path.name) == b"value"
    (tmp_path / "stranger").write_bytes(b"")
    assert [finding.filename for finding in await backend.check()] == ["stranger"]
    assert repr(backend) == f"FilePersistenceBackend({str(tmp_path)!r}, fsync=False)"


async def test_a_pickled_backend_is_opened_anew(tmp_path: Path) -> None:
    """A copy for another process works on the same directory with threads of its own; memory is refused."""
    backend = FilePersistenceBackend(tmp_path, fsync=False)
    await backend.save("key", b"value")
    copy = pickle.loads(pickle.dumps(backend))  # noqa: S301 - our own
    assert (type(copy), copy.fsync) == (FilePersistenceBackend, False)
    assert await copy.load("key") == b"value"
    with pytest.raises(TypeError, match="create=True"):
        pickle.dumps(MemoryPersistenceBackend())


async def test_an_address_is_opened_for_await(tmp_path: Path) -> None:
    """``open_backend`` takes what ``open_engine`` takes."""
    async with open_backend(tmp_path / "new", create=True, fsync=False) as backend:
        await backend.save("key", b"value")
    async with open_backend(tmp_path / "new", read_only=True) as reading:
        assert await reading.load("key") == b"value"
        with pytest.raises(ReadOnlyError):
            await reading.save("key", b"other")
    with pytest.raises(StorageError, match="create=True"):
        open_backend(tmp_path / "nowhere")


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


SPOOLED = """
import asyncio, resource, sys
sys.path.insert(0, sys.argv[1])
from test_backend import ThreeMethods
from persistkit.errors import StorageError

async def main():
    backend = ThreeMethods()
    try:
        async with backend.open_writer("key") as writer:
            for _ in range(20):
                await writer.write(bytes(1 << 20))
    except StorageError as error:
        print(error.errno, error)
    assert backend.values == {}

resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
asyncio.run(main())
"""


def test_a_stream_that_cannot_be_kept_is_a_storage_error() -> None:
    """When the temporary file of a stream cannot grow, the error says which value it was for."""
    command = [sys.executable, "-c", SPOOLED, os.path.dirname(__file__)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{errno.EFBIG} save 'key': what was written could not be kept")
