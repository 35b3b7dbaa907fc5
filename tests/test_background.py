"""BackendEngine: a backend of one's own without await, on the one background event loop of the process."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from persistkit import (
    BackendEngine,
    EngineBackend,
    Entry,
    FilePersistenceBackend,
    PersistenceBackend,
    Store,
)
from persistkit.arguments import BytesLike
from persistkit.background import engine_of
from persistkit.engines.files import FileEngine
from persistkit.engines.memory import MemoryEngine
from persistkit.errors import ListingNotSupportedError


class ThreeMethods(PersistenceBackend):
    """A backend that notes where it runs."""

    def __init__(self) -> None:
        self.values: dict[str, BytesLike] = {}
        self.places: set[tuple[str, int]] = set()

    async def save(self, key: str, value: BytesLike) -> None:
        """Keep the value as a driver might, in a buffer of its own."""
        self.places.add((threading.current_thread().name, id(asyncio.get_running_loop())))
        await asyncio.sleep(0)
        self.values[key] = memoryview(bytes(value))

    async def load(self, key: str) -> bytes | None:
        """Give what is kept."""
        return self.values.get(key)  # type: ignore[return-value]  # a driver's buffer

    async def delete(self, key: str) -> None:
        """Drop the value."""
        self.values.pop(key, None)


class Listing(ThreeMethods):
    """The same, with a listing."""

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """List what is kept."""
        for key, value in list(self.values.items()):
            if key.startswith(prefix):
                yield Entry(key, len(value), None)


def test_all_backends_share_one_loop_in_one_thread() -> None:
    """Two backends, used from several threads, run on one event loop."""
    backends = [ThreeMethods(), ThreeMethods()]
    for backend in backends:
        engine = BackendEngine(backend)
        threads = [threading.Thread(target=engine.save, args=(f"key:{number}", b"value")) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(backend.values) == 4
    assert backends[0].places == backends[1].places
    assert [name for name, _ in backends[0].places] == ["persistkit"]


async def test_a_store_works_inside_a_running_loop() -> None:
    """As in a notebook; and what a driver returns as a buffer becomes bytes."""
    store = Store(Listing())
    store["run/1"] = {"loss": 0.25}
    store.update({f"step/{number}": number for number in range(3_000)})
    assert store["run/1"] == {"loss": 0.25}
    assert next(iter(store)) == "run/1"
    assert len(store) == 3_001
    assert type(BackendEngine(store.engine.backend).load("run/1")) is bytes  # type: ignore[attr-defined]
    assert not store.engine.replace("run/1", b"", b"something else")


def test_what_cannot_list_says_so() -> None:
    """A store over three methods stores and loads; its listings tell what is missing."""
    store = Store(ThreeMethods())
    store["key"] = 1
    assert store["key"] == 1
    for listing in (lambda: list(store), lambda: len(store), store.engine.list_keys):
        with pytest.raises(ListingNotSupportedError, match="ThreeMethods cannot list"):
            listing()
    assert "ThreeMethods cannot list" in store._repr_html_()


def test_each_operation_is_traced_once(caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG one operation leaves one record with the size but no value, streams and listings too."""
    engine = BackendEngine(Listing())
    with caplog.at_level(logging.DEBUG, "persistkit"):
        engine.save("key", b"value")
        engine.load("key")
        engine.load_cached("key")
        list(engine.entries())
        reader = engine.open_reader("key")
        engine.change_token()
        engine.exists("key")
        engine.batch_load(["key"])
    assert reader is not None
    assert [(record.__dict__["operation"], record.__dict__["size_bytes"]) for record in caplog.records] == [
        ("save", 5),
        ("load", 5),
        *[(operation, None) for operation in ("load_cached", "entries", "open_reader", "change_token", "exists")],
        ("batch_load", 5),
    ]
    assert all("value" not in record.getMessage() for record in caplog.records)


def test_the_loops_own_thread_is_refused() -> None:
    """A backend that would wait for itself gets an error instead of hanging."""

    class Selfish(ThreeMethods):
        async def load(self, key: str) -> bytes | None:
            return BackendEngine(self).load(key)

    with pytest.raises(RuntimeError, match="await its methods"):
        BackendEngine(Selfish()).load("key")


def test_an_engine_is_found_in_what_is_given(tmp_path: Path) -> None:
    """Engines and stores give their engine, backends over an engine that engine, any other backend a new one."""
    memory, files = MemoryEngine(), FilePersistenceBackend(tmp_path)
    assert engine_of(memory, "browse") is memory
    assert engine_of(Store(memory), "browse") is memory
    assert engine_of(EngineBackend(memory), "browse") is memory
    assert engine_of(files, "browse") is files.engine
    assert isinstance(files.engine, FileEngine)
    other = ThreeMethods()
    found = engine_of(other, "browse")
    assert isinstance(found, BackendEngine)
    assert found.backend is other


class Turned(FilePersistenceBackend):
    """Stores every value turned round."""

    async def save(self, key: str, value: BytesLike) -> None:
        """Turn it round."""
        await super().save(key, bytes(value)[::-1])

    async def load(self, key: str) -> bytes | None:
        """Turn it back."""
        value = await super().load(key)
        return None if value is None else value[::-1]


async def test_what_a_backend_changes_is_never_gone_around(tmp_path: Path) -> None:
    """A store, batches and streams go through the ``save`` and ``load`` of a class that inherits from a ready one."""
    backend = Turned(tmp_path)
    engine = engine_of(backend, "Store")
    engine.save("a", b"12")
    engine.batch_save({"b": b"12"})
    await backend.batch_save({"c": b"12"})
    with engine.open_writer("d") as file:
        file.write(b"12")
    async with backend.open_writer("e") as writer:
        await writer.write(b"12")
    keys = ["a", "b", "c", "d", "e"]
    assert [backend.path_for(key).read_bytes() for key in keys] == [b"21"] * 5
    assert engine.batch_load(keys) == await backend.batch_load(keys) == [b"12"] * 5
    async with backend.open_reader("a") as reader:
        assert reader is not None
        assert await reader.read() == b"12"
    assert engine.list_keys() == keys


def is_asleep(thread: threading.Thread) -> bool:
    """Tell whether the system has put a thread to sleep, waiting for something."""
    status = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "S"


class Interrupting(Listing):
    """Interrupts whoever waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = threading.Event()

    async def save(self, key: str, value: BytesLike) -> None:
        """Wait until the caller sleeps, then interrupt it."""
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
    backend = Interrupting()
    engine = BackendEngine(backend)
    with pytest.raises(KeyboardInterrupt):
        engine.save("slow", b"value")
    assert backend.ended.is_set()
    engine.save("key", b"value")
    assert backend.values == {"key": b"value"}


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that finds these tests, in an interpreter of its own."""
    script = "import sys\nsys.path.insert(0, sys.argv[1])\nfrom test_background import *\n" + script
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, os.path.dirname(__file__)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


FORKED = """
engine = BackendEngine(Listing())
engine.save("key", b"value")
child = os.fork()
if child == 0:
    engine.save("child", b"value")
    assert engine.list_keys() == ["child", "key"]
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert engine.list_keys() == ["key"]
"""


def test_no_thread_is_left_at_exit_and_a_fork_goes_on() -> None:
    """A script ends by itself after using the background loop, and a forked child opens a loop of its own."""
    run = run_script(FORKED)
    assert (run.returncode, run.stderr) == (0, "")


LEAVING = """
class Leaving(Listing):
    async def save(self, key, value):
        if key == "leave":
            sys.exit(7)
        if key == "stop":
            asyncio.get_running_loop().stop()
        await super().save(key, value)

engine = BackendEngine(Leaving())
for key in ("leave", "stop", "leave", "key"):
    try:
        engine.save(key, b"value")
    except SystemExit as error:
        print(key, error)
print(engine.list_keys())
"""


def test_a_backend_that_exits_or_stops_its_loop_takes_it_from_nobody() -> None:
    """What ends a program reaches the one caller; the next calls work, and nothing is printed at exit."""
    run = run_script(LEAVING)
    assert run.stdout.splitlines() == ["leave 7", "leave 7", "['key', 'stop']"]
    assert (run.returncode, run.stderr) == (0, "")


AT_EXIT = """
import atexit
engine = BackendEngine(Listing())

def late(name):
    engine.batch_save({f"{name} {number}": b"value" for number in range(20)})
    print(name, len(engine.list_keys(name)))
    engine.close()

atexit.register(late, "exit")
engine.batch_save({"first": b"", "second": b""})
suspended = engine.entries()
next(suspended)
main = threading.main_thread()
threading.Thread(target=lambda: (main.join(), late("thread"))).start()
"""


def test_backends_work_while_the_interpreter_ends() -> None:
    """Threads that outlive the main one, and what runs at exit, save and close; a listing left open hinders nobody."""
    run = run_script(AT_EXIT)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == ["thread 20", "exit 20"]


LATE = """
import atexit
from persistkit.errors import StorageError
engine = BackendEngine(Listing())

def save(name):
    try:
        engine.save(name, b"value")
        print(name, engine.load(name))
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


NO_ROOM = """
import resource
from persistkit.errors import StorageError
engine = BackendEngine(Listing())
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = [os.open(os.devnull, os.O_RDONLY)]
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
try:
    engine.save("key", b"value")
except StorageError as error:
    print(error.errno, error)
for descriptor in held:
    os.close(descriptor)
engine.save("key", b"value")
print(engine.list_keys())
"""


def test_a_loop_that_cannot_start_is_an_error() -> None:
    """Without a descriptor left the call says so at once, and the next one tries again."""
    run = run_script(NO_ROOM)
    assert run.returncode == 0, run.stderr
    refused, keys = run.stdout.splitlines()
    assert refused.startswith(f"{errno.EMFILE} start the background loop: ")
    assert keys == "['key']"
