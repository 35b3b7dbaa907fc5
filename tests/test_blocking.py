"""BlockingBackend: any backend without await, from everywhere."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from persistkit import BlockingBackend, FilePersistenceBackend, MemoryPersistenceBackend, PersistenceBackend
from persistkit.backend import Entry
from persistkit.errors import BatchError, InvalidKeyError, ListingNotSupportedError, StorageError
from persistkit.operations import BytesLike


class ThreeMethods(PersistenceBackend):
    """The least a backend can be: no listing, no core, and one key that fails."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.threads: set[str] = set()

    async def save(self, key: str, value: BytesLike) -> None:
        """Keep the value."""
        self.threads.add(threading.current_thread().name)
        if key == "bad":
            raise StorageError("refused")
        await asyncio.sleep(0)
        self.values[key] = bytes(value)

    async def load(self, key: str) -> bytes | None:
        """Give the value."""
        await asyncio.sleep(0)
        return self.values.get(key)

    async def delete(self, key: str) -> None:
        """Drop the value."""
        self.values.pop(key, None)


class Listing(ThreeMethods):
    """The same, with a listing."""

    async def entries(self, prefix: str = "") -> object:  # type: ignore[override]  # an async generator, untyped here
        """List what is kept."""
        for key, value in self.values.items():
            if key.startswith(prefix):
                yield Entry(key, len(value), None, key)


@pytest.fixture(params=["memory", "file", "other"])
def wrapped(request: pytest.FixtureRequest, tmp_path: Path) -> PersistenceBackend:
    """A backend with a blocking core in memory, one on disk, and one that needs an event loop."""
    if request.param == "file":
        return FilePersistenceBackend(tmp_path)
    return MemoryPersistenceBackend() if request.param == "memory" else Listing()


def use_everything(backend: BlockingBackend) -> None:
    """Call every operation once and look at what comes back."""
    backend.save("a", b"1")
    backend.batch_save({"b": b"2", "c/d": b"3"})
    assert backend.load("a") == b"1"
    assert backend.load("missing") is None
    assert backend.batch_load(["c/d", "missing"]) == [b"3", None]
    assert sorted(entry.size for entry in backend.entries()) == [1, 1, 1]
    assert backend.list_keys("c") == ["c/d"]
    assert backend.key_count() == 3
    with backend.open_writer("stream") as writer:
        writer.write(b"one ")
        writer.write(b"two")
    with backend.open_reader("stream") as reader:
        assert reader is not None
        assert (reader.size, reader.read(4), reader.read()) == (7, b"one ", b"two")
    with backend.open_reader("missing") as nothing:
        assert nothing is None
    backend.delete("a")
    backend.batch_delete(["b", "c/d", "stream"])
    assert not backend.exists("a")
    assert backend.list_keys() == []
    with pytest.raises(InvalidKeyError):
        backend.load("\0")
    with pytest.raises(TypeError, match="encode"):
        backend.save("a", "text")  # type: ignore[arg-type]


def test_all_operations_without_await(wrapped: PersistenceBackend) -> None:
    """Every operation works in a plain script."""
    with BlockingBackend(wrapped) as backend:
        use_everything(backend)


async def test_inside_a_running_loop(wrapped: PersistenceBackend) -> None:
    """Every operation works where an event loop is running, as in a notebook."""
    with BlockingBackend(wrapped) as backend:
        use_everything(backend)


def test_from_any_thread(wrapped: PersistenceBackend) -> None:
    """One object serves several threads at once."""
    backend = BlockingBackend(wrapped)

    def work(name: str) -> None:
        for number in range(50):
            backend.save(f"{name}:{number}", name.encode())

    threads = [threading.Thread(target=work, args=(f"thread {index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert backend.key_count() == 200


def test_files_and_memory_need_no_thread(tmp_path: Path) -> None:
    """A backend with a blocking core is called in the caller's own thread; any other on one background loop."""
    for backend in (MemoryPersistenceBackend(), FilePersistenceBackend(tmp_path)):
        seen: set[str] = set()
        core = backend.blocking_core
        save = core.save

        def watched(key: str, value: BytesLike, save: Callable[[str, BytesLike], None] = save) -> None:
            seen.add(threading.current_thread().name)  # noqa: B023 - called within this very round
            save(key, value)

        core.save = watched  # type: ignore[method-assign]
        with BlockingBackend(backend) as blocking:
            blocking.save("key", b"value")
        assert seen == {threading.current_thread().name}
    first, second = ThreeMethods(), ThreeMethods()
    BlockingBackend(first).save("key", b"value")
    BlockingBackend(second).save("key", b"value")
    assert first.threads == second.threads == {"persistkit"}


class Cancelling(ThreeMethods):
    """A backend whose client cancels its own work for some keys."""

    async def save(self, key: str, value: BytesLike) -> None:
        """Refuse half of the keys by a cancellation."""
        if key.startswith("cancelled"):
            raise asyncio.CancelledError
        self.values[key] = bytes(value)


async def test_work_a_backend_cancels_itself_is_a_failure() -> None:
    """A key whose work the backend cancelled is reported, and every other one is carried out."""
    backend = Cancelling()
    items = dict.fromkeys([f"cancelled {n}" for n in range(64)] + [f"good {n}" for n in range(100)], b"")
    with pytest.raises(BatchError, match="64 of 164"):
        await backend.batch_save(items)
    assert len(backend.values) == 100


async def test_three_methods_make_a_backend() -> None:
    """Save, load and delete give batches, streams and exists; only listing says that it is missing."""
    backend = ThreeMethods()
    await backend.batch_save({f"key {number}": b"value" for number in range(200)})
    assert await backend.exists("key 199")
    assert await backend.batch_load(["key 3", "missing"]) == [b"value", None]
    with pytest.raises(BatchError, match=r"1 of 3 keys failed.*'bad'") as caught:
        await backend.batch_save([("x", b""), ("bad", b""), ("y", b"")])
    assert list(caught.value.failures) == ["bad"]
    assert {"x", "y"} <= set(backend.values)
    async with backend.open_writer("stream") as writer:
        await writer.write(b"chunk" * 4)
    async with backend.open_reader("stream") as reader:
        assert reader is not None
        assert await reader.read() == b"chunk" * 4
    await backend.batch_delete(["x", "y", "never there"])
    for listing in (backend.list_keys, backend.key_count):
        with pytest.raises(ListingNotSupportedError, match="ThreeMethods cannot list"):
            await listing()
    assert await backend.change_token() is None
    with pytest.raises(InvalidKeyError):
        await backend.save("\0", b"")


PLAIN = """
import threading
from persistkit import BlockingBackend, FilePersistenceBackend, MemoryPersistenceBackend
for backend in (MemoryPersistenceBackend(), FilePersistenceBackend(".")):
    with BlockingBackend(backend) as blocking:
        blocking.load("key")
assert threading.active_count() == 1, threading.enumerate()
"""


def test_files_and_memory_start_no_thread() -> None:
    """Opening, using and closing them leaves the process with its one thread."""
    subprocess.run([sys.executable, "-c", PLAIN], check=True)


SCRIPT = """
import asyncio, os, sys, threading
sys.path.insert(0, sys.argv[1])
from test_blocking import Listing
from persistkit import BlockingBackend
backend = BlockingBackend(Listing())
backend.save("key", b"value")
child = os.fork()
if child == 0:
    backend.save("child", b"value")
    assert backend.list_keys() == ["child", "key"]
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert backend.list_keys() == ["key"]
"""


def test_no_thread_is_left_at_exit_and_a_fork_goes_on() -> None:
    """A script ends by itself after using the background loop, and a forked child opens a loop of its own."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=30,
        env=dict(os.environ),
    )
    assert (run.returncode, run.stderr) == (0, "")


LATE = """
import atexit, sys
sys.path.insert(0, sys.argv[1])
from test_blocking import Listing
from persistkit import BlockingBackend
from persistkit.errors import StorageError

backend = BlockingBackend(Listing())

def save(name):
    try:
        backend.save(name, b"value")
        print(name, backend.load(name))
    except StorageError as error:
        print(name, str(error).split(";")[0])

class Last:
    def __del__(self):
        save("last")

last = Last()
atexit.register(save, "after the loop")
save("first")
atexit.register(save, "before the loop ends")
"""


def test_a_use_after_the_loop_has_ended_at_exit_is_an_error() -> None:
    """A handler registered after the first use still saves; a later one gets an error, and nothing hangs."""
    command = [sys.executable, "-c", LATE, str(Path(__file__).parent)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    ended = "use a backend at the interpreter's exit: the background event loop has ended"
    assert run.stdout.splitlines() == [
        "first b'value'",
        "before the loop ends b'value'",
        f"after the loop {ended}",
        f"last {ended}",
    ]
    assert (run.returncode, run.stderr) == (0, "")


def test_only_a_backend_can_be_wrapped() -> None:
    """Wrapping anything else says what is expected."""
    with pytest.raises(TypeError, match="PersistenceBackend, not dict"):
        BlockingBackend({})  # type: ignore[arg-type]
