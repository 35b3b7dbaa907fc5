"""BlockingBackend: any backend without await, from everywhere."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from persistkit import (
    BlockingBackend,
    FilePersistenceBackend,
    MemoryPersistenceBackend,
    PersistenceBackend,
    to_frame,
)
from persistkit.backend import Entry
from persistkit.errors import BatchError, InvalidKeyError, ListingNotSupportedError, StorageError, ValueTooLargeError
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


async def test_chunks_are_what_values_are(wrapped: PersistenceBackend) -> None:
    """A stream takes every chunk that a save takes as a value, and refuses any other with the same advice."""
    chunks: list[BytesLike] = [
        b"one",
        bytearray(b"two"),
        memoryview(b"-s-p-r-e-a-d")[1::2],
        memoryview(b"wide").cast("H"),
    ]
    async with wrapped.open_writer("awaited") as writer:
        for chunk in chunks:
            await writer.write(chunk)
    with BlockingBackend(wrapped).open_writer("plain") as plain:
        for chunk in chunks:
            plain.write(chunk)
    assert await wrapped.batch_load(["awaited", "plain"]) == [b"onetwospreadwide"] * 2
    for wrong in ("text", None, 7):
        with pytest.raises(TypeError, match=f"'key'.*{type(wrong).__name__}; encode"):
            async with wrapped.open_writer("key") as writer:
                await writer.write(wrong)  # type: ignore[arg-type]
        with (
            pytest.raises(TypeError, match=f"'key'.*{type(wrong).__name__}; encode"),
            BlockingBackend(wrapped).open_writer("key") as plain,
        ):
            plain.write(wrong)  # type: ignore[arg-type]
    assert not await wrapped.exists("key")


def test_each_operation_without_await_is_traced_once(
    wrapped: PersistenceBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG one operation leaves one record, streams and listings too, whether there is a blocking core or not."""
    backend = BlockingBackend(wrapped)
    with caplog.at_level(logging.DEBUG, "persistkit"):
        backend.save("key", b"value")
        list(backend.entries())
        with backend.open_reader("key") as reader:
            assert reader is not None
        backend.change_token()
        backend.exists("key")
    records = [record.__dict__["operation"] for record in caplog.records]
    inner = {"load"} if isinstance(wrapped, Listing) else set()  # what its defaults are made of
    assert [name for name in records if name not in inner] == [
        "save",
        "entries",
        "open_reader",
        "change_token",
        "exists",
    ]


def test_a_prefix_is_checked_before_the_first_entry(wrapped: PersistenceBackend) -> None:
    """Listing what starts with something that is no text is refused by the call itself."""
    with pytest.raises(TypeError, match="prefix"):
        BlockingBackend(wrapped).entries(5)  # type: ignore[arg-type]


class Small(ThreeMethods):
    """Takes ten bytes a value."""

    max_value_bytes = 10


async def test_a_stream_that_grows_too_large_is_refused_at_once() -> None:
    """The chunk that passes the engine's limit is refused, not the whole value at its end."""
    backend, taken = Small(), 0

    async def write() -> None:
        nonlocal taken
        async with backend.open_writer("key") as writer:
            for _ in range(9):
                await writer.write(b"123456")
                taken += 1

    with pytest.raises(ValueTooLargeError, match=r"'key'.*12 bytes"):
        await write()
    assert (taken, backend.values) == (1, {})


SPOOL = """
import asyncio, resource, sys
sys.path.insert(0, sys.argv[1])
from test_blocking import ThreeMethods
from persistkit.errors import StorageError
import aiofiles.tempfile

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


def test_a_spool_that_is_full_is_a_storage_error() -> None:
    """When the temp file of a buffered stream cannot grow, the error says which value it was for."""
    run = run_script(SPOOL)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{errno.EFBIG} save 'key': its chunks could not be kept in a temp file")


class Turned:
    """Stores every value turned round, and lists nothing that starts with a dot."""

    async def save(self, key: str, value: BytesLike) -> None:
        """Turn it round."""
        await super().save(key, bytes(value)[::-1])  # type: ignore[misc]  # mixed into a backend

    async def load(self, key: str) -> bytes | None:
        """Turn it back."""
        value: bytes | None = await super().load(key)  # type: ignore[misc]
        return None if value is None or key.startswith(".") else value[::-1]

    async def delete(self, key: str) -> None:
        """Keep what is kept."""
        if not key.startswith("kept"):
            await super().delete(key)  # type: ignore[misc]

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Hide."""
        async for entry in super().entries(prefix):  # type: ignore[misc]
            if entry.key and not entry.key.startswith("."):
                yield entry


class TurnedMemory(Turned, MemoryPersistenceBackend):
    """In memory, by a mixin."""


class TurnedFiles(Turned, FilePersistenceBackend):
    """In files, by a mixin."""


class TurnedAgain(TurnedFiles):
    """Overrides nothing."""


@pytest.mark.parametrize("kind", [TurnedMemory, TurnedFiles, TurnedAgain])
async def test_an_overridden_operation_is_never_gone_around(kind: type[PersistenceBackend], tmp_path: Path) -> None:
    """Batches, streams, listings and BlockingBackend go through what a subclass of a ready backend overrides."""
    backend = kind() if kind is TurnedMemory else kind(tmp_path)  # type: ignore[call-arg]
    plain = BlockingBackend(backend)
    await backend.batch_save({"a": b"12", ".hidden": b"12"})
    plain.save("b", b"12")
    plain.batch_save({"c": b"12"})
    async with backend.open_writer("d") as writer:
        await writer.write(b"12")
    with plain.open_writer("kept") as written:
        written.write(b"12")
    keys = ["a", "b", "c", "d", "kept"]
    base = FilePersistenceBackend.load if isinstance(backend, FilePersistenceBackend) else MemoryPersistenceBackend.load
    assert [await base(backend, key) for key in keys] == [b"21"] * 5  # type: ignore[arg-type]
    assert await backend.batch_load(keys) == plain.batch_load(keys) == [plain.load(key) for key in keys] == [b"12"] * 5
    assert await backend.list_keys() == plain.list_keys() == list((await to_frame(backend))["key"]) == keys
    assert await backend.key_count() == plain.key_count() == 5
    assert not await backend.exists(".hidden")
    async with backend.open_reader("a") as reader:
        assert reader is not None
        assert await reader.read() == b"12"
    await backend.batch_delete(keys)
    plain.batch_delete(keys)
    assert plain.list_keys() == ["kept"]


def test_a_ready_backend_keeps_its_short_cuts() -> None:
    """A subclass that overrides no operation keeps the parent's batches, streams and blocking core."""

    class Named(FilePersistenceBackend):
        """Adds a method of its own."""

        def name(self) -> str:
            return self.base_dir.name

    for name in ("batch_save", "open_reader", "list_keys", "blocking_core"):
        assert getattr(Named, name) is getattr(FilePersistenceBackend, name)


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


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script that finds these tests, in an interpreter of its own."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, str(Path(__file__).parent)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)


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
    run = run_script(SCRIPT)
    assert (run.returncode, run.stderr) == (0, "")


AT_EXIT = """
import atexit, sys, threading
sys.path.insert(0, sys.argv[1])
from test_blocking import Listing
from persistkit import BlockingBackend, FilePersistenceBackend
files, other = BlockingBackend(FilePersistenceBackend(sys.argv[2])), BlockingBackend(Listing())

def late(name):
    for backend in (files, other):
        backend.batch_save({f"{name} {number}": b"value" for number in range(20)})
        print(name, len(backend.list_keys(name)))
    other.close()

atexit.register(late, "exit")
other.batch_save({"first": b"", "second": b""})
suspended = other.entries()
next(suspended)
main = threading.main_thread()
threading.Thread(target=lambda: (main.join(), late("thread"))).start()
"""


def test_backends_work_while_the_interpreter_ends(tmp_path: Path) -> None:
    """Threads that outlive the main one, and what runs at exit, save and close; a listing left open hinders nobody."""
    run = run_script(AT_EXIT, str(tmp_path))
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == ["thread 20", "thread 20", "exit 20", "exit 20"]
    assert len(list(tmp_path.iterdir())) == 40


NO_ROOM = """
import os, resource, sys
sys.path.insert(0, sys.argv[1])
from test_blocking import Listing
from persistkit import BlockingBackend
from persistkit.errors import StorageError
import anyio.from_thread, anyio._backends._asyncio
backend = BlockingBackend(Listing())
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = [os.open(os.devnull, os.O_RDONLY)]
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
try:
    backend.save("key", b"value")
except StorageError as error:
    print(error.errno, error)
for descriptor in held:
    os.close(descriptor)
backend.save("key", b"value")
print(backend.list_keys())
"""


def test_a_loop_that_cannot_start_is_an_error() -> None:
    """Without a descriptor left the call says so at once, and the next one tries again."""
    run = run_script(NO_ROOM)
    assert run.returncode == 0, run.stderr
    refused, keys = run.stdout.splitlines()
    assert refused.startswith(f"{errno.EMFILE} start the background loop: ")
    assert keys == "['key']"


def is_asleep(thread: threading.Thread) -> bool:
    """Tell whether the system has put a thread to sleep, waiting for something."""
    status = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "S"


class Gated(Listing):
    """Saves once it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = threading.Event()

    async def save(self, key: str, value: BytesLike) -> None:
        """Wait, then interrupt whoever waits for this."""
        try:
            if key == "slow":
                # Between its last look at signals and its sleep the main thread would miss one.
                while not is_asleep(threading.main_thread()):
                    await asyncio.sleep(0)
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(10)
            await super().save(key, value)
        finally:
            await asyncio.sleep(0.05)
            self.ended.set()


def test_an_interrupted_call_ends_its_work_first() -> None:
    """A notebook's interrupt cancels the work behind a call, and is seen when that has ended; the next call works."""
    gated = Gated()
    backend = BlockingBackend(gated)
    with pytest.raises(KeyboardInterrupt):
        backend.save("slow", b"value")
    assert gated.ended.is_set()
    backend.save("key", b"value")
    assert gated.values == {"key": b"value"}


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
atexit.register(save, "before the first use")
save("first")
atexit.register(save, "before the loop ends")
"""


def test_a_use_after_the_loop_has_ended_at_exit_is_an_error() -> None:
    """Handlers registered before and after the first use still save; later uses get an error, and nothing hangs."""
    run = run_script(LATE)
    ended = "use a backend at the interpreter's exit: the background event loop has ended"
    assert run.stdout.splitlines() == [
        "first b'value'",
        "before the loop ends b'value'",
        "before the first use b'value'",
        f"last {ended}",
    ]
    assert (run.returncode, run.stderr) == (0, "")


def test_only_a_backend_can_be_wrapped() -> None:
    """Wrapping anything else says what is expected."""
    with pytest.raises(TypeError, match="PersistenceBackend, not dict"):
        BlockingBackend({})  # type: ignore[arg-type]
