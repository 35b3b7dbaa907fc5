"""The file backend: what lies on disk, what is refused, and that it says why."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import pickle
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from persistkit import Entry, FilePersistenceBackend, MemoryPersistenceBackend
from persistkit.errors import BatchError, InvalidKeyError, StorageError
from persistkit.filenames import filename_for

DATA = Path(__file__).parent.parent / "notebooks" / "data"


@pytest.fixture
def backend(tmp_path: Path) -> FilePersistenceBackend:
    """An empty directory."""
    return FilePersistenceBackend(tmp_path)


async def test_the_sample_directory_opens_with_true_keys_and_whole_values() -> None:
    """A directory of the Rust runtime lists its true keys, and every value has the recorded sha256."""
    hashes: dict[str, str] = json.loads((DATA / "agent-state.keys.json").read_text())
    backend = FilePersistenceBackend(DATA / "agent-state")
    assert await backend.list_keys() == sorted(hashes)
    values = await backend.batch_load(hashes)
    assert {key: hashlib.sha256(value or b"").hexdigest() for key, value in zip(hashes, values, strict=True)} == hashes
    assert await backend.key_count() == len(hashes) == 174
    assert await backend.check() == []


async def test_a_value_lies_in_its_file_as_it_is(backend: FilePersistenceBackend) -> None:
    """The file has the reference's name and the value's bytes, nothing else, and the umask's mode."""
    umask = os.umask(0o027)
    try:
        await backend.save("a/b", bytearray(b"\0value"))
    finally:
        os.umask(umask)
    assert [path.name for path in backend.base_dir.iterdir()] == ["a_b-000000000b8855f7.bin"]
    path = backend.path_for("a/b")
    assert path.read_bytes() == b"\0value"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("key", [None, 7, b"bytes", "nul\0", "\ud800", "k" * 1025, "é" * 513])
async def test_what_cannot_be_a_key_is_refused_before_any_io(backend: FilePersistenceBackend, key: str) -> None:
    """Such a key raises the same error from every operation, and nothing is written."""
    shutil.rmtree(backend.base_dir)
    for operation in (backend.load, backend.delete, backend.exists):
        with pytest.raises(InvalidKeyError):
            await operation(key)
    with pytest.raises(InvalidKeyError):
        await backend.save(key, b"")
    with pytest.raises(InvalidKeyError):
        await backend.batch_save([("good", b""), (key, b"")])
    with pytest.raises(InvalidKeyError):
        await backend.batch_load(["good", key])
    with pytest.raises(InvalidKeyError):
        backend.path_for(key)
    with pytest.raises(InvalidKeyError):
        backend.open_writer(key)


@pytest.mark.parametrize(
    ("value", "advice"), [("text", "value.encode()"), ({"a": 1}, "json.dumps"), (None, "json.dumps"), ({1}, "bytes")]
)
async def test_what_is_not_bytes_is_refused_with_advice(
    backend: FilePersistenceBackend, value: bytes, advice: str
) -> None:
    """The error names the key, the type, and how to encode it; nothing is written."""
    with pytest.raises(TypeError, match=f"'key'.*{type(value).__name__}") as caught:
        await backend.save("key", value)
    assert advice in str(caught.value)
    assert os.listdir(backend.base_dir) == []


async def test_views_are_stored_in_their_logical_order(backend: FilePersistenceBackend) -> None:
    """A memoryview of wide or spread items is stored as the bytes it stands for."""
    await backend.batch_save({"wide": memoryview(b"abcdef").cast("H"), "spread": memoryview(b"abcdef")[::2]})
    assert backend.path_for("wide").read_bytes() == b"abcdef"
    assert backend.path_for("spread").read_bytes() == b"ace"


@pytest.mark.parametrize("size", [0, 1, 65_535, 3_000_000])
async def test_values_of_every_size_come_back(backend: FilePersistenceBackend, size: int) -> None:
    """Empty, small and large values come back byte for byte."""
    value = os.urandom(size)
    await backend.save("key", value)
    assert await backend.load("key") == value
    assert [entry.size async for entry in backend.entries()] == [size]


def test_a_directory_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """Opening a mistyped path says so, names it, and names the way out; nothing is made."""
    with pytest.raises(StorageError, match=r"mistyped.*does not exist.*create=True"):
        FilePersistenceBackend(tmp_path / "mistyped")
    assert not (tmp_path / "mistyped").exists()


def test_a_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    """A file, or a path through one, is no directory."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="not a directory"):
            FilePersistenceBackend(path)
    with pytest.raises(StorageError):
        FilePersistenceBackend(tmp_path / "file", create=True)


async def test_a_directory_that_vanishes_is_never_missing_keys(backend: FilePersistenceBackend) -> None:
    """When the directory is gone, every operation raises, and none says that a key is missing."""
    await backend.save("key", b"value")
    shutil.rmtree(backend.base_dir)
    for operation in (
        backend.load("key"),
        backend.load("a?>"),
        backend.delete("key"),
        backend.delete("a?>"),
        backend.exists("key"),
        backend.save("key", b""),
        backend.save("a?>", b""),
        backend.list_keys(),
        backend.key_count(),
        backend.check(),
        backend.load_filename(filename_for("key")),
    ):
        with pytest.raises(StorageError, match="the directory does not exist") as caught:
            await operation
        assert caught.value.errno is not None
    with pytest.raises(BatchError, match="2 of 2 keys failed") as failed:
        await backend.batch_load(["key", "other"])
    assert set(failed.value.failures) == {"key", "other"}


async def test_a_working_directory_that_changes_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base directory is made absolute when it is opened."""
    monkeypatch.chdir(tmp_path)
    backend = FilePersistenceBackend("relative", create=True)
    monkeypatch.chdir("/")
    await backend.save("key", b"value")
    assert (tmp_path / "relative" / filename_for("key")).read_bytes() == b"value"
    assert backend.base_dir == tmp_path / "relative"


async def test_links_and_other_files_are_never_followed(
    backend: FilePersistenceBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is named like a value and is no regular file is not listed, not read, not followed; a save replaces it."""
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_bytes(b"secret")
    backend.path_for("link").symlink_to(outside)
    backend.path_for("directory").mkdir()
    os.mkfifo(backend.path_for("fifo"))
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # a socket's path is short
        listening.bind(filename_for("socket"))
    for key in ("link", "directory", "fifo", "socket"):
        assert not await backend.exists(key)
        with pytest.raises(StorageError, match=key):
            await backend.load(key)
    assert await backend.list_keys() == []
    assert await backend.key_count() == 0
    await backend.batch_save({"link": b"mine", "fifo": b"mine"})
    assert outside.read_bytes() == b"secret"
    assert await backend.list_keys() == ["fifo", "link"]
    with pytest.raises(StorageError, match="directory"):
        await backend.save("directory", b"")


@pytest.mark.parametrize(
    "filename", ["../secret", "/etc/passwd", "notes.txt", "", ".", "a/b-000000000b8855f7.bin", "x-0\0.bin"]
)
async def test_load_filename_stays_inside(backend: FilePersistenceBackend, filename: str) -> None:
    """A name with a separator, or that is no value's, is refused."""
    with pytest.raises(StorageError, match="not the name of a value"):
        await backend.load_filename(filename)


async def test_temp_files_are_never_listed_and_never_left(backend: FilePersistenceBackend) -> None:
    """Leftovers of both kinds are no keys; a failed save leaves none; foreign files are ignored."""
    (backend.base_dir / ".persistkit-0123456789abcdef0123456789abcdef.tmp").write_bytes(b"")
    (backend.base_dir / "key-0000000000000001.tmp-0123456789abcdef0123456789abcdef").write_bytes(b"")
    (backend.base_dir / "notes.txt").write_text("mine")
    (backend.base_dir / "x.bin").write_text("mine")
    backend.path_for("directory").mkdir()
    before = set(os.listdir(backend.base_dir))
    with pytest.raises(BatchError):
        await backend.batch_save({"directory": b"1", "key": b"2"})
    with pytest.raises(StorageError):
        await backend.save("directory", b"1")
    assert set(os.listdir(backend.base_dir)) - before == {filename_for("key")}
    assert await backend.list_keys() == ["key"]
    assert await backend.key_count() == 1


async def test_a_batch_attempts_every_item(backend: FilePersistenceBackend) -> None:
    """One error names each key that failed; all the others are stored, loaded and deleted."""
    backend.path_for("bad").mkdir()
    items = {f"key {number}": b"%d" % number for number in range(1200)} | {"bad": b""}
    with pytest.raises(BatchError, match="1 of 1,201") as caught:
        await backend.batch_save(items)
    assert list(caught.value.failures) == ["bad"]
    assert isinstance(caught.value.failures["bad"], StorageError)
    assert await backend.key_count() == 1200
    with pytest.raises(BatchError):
        await backend.batch_load(["key 1", "bad"])
    with pytest.raises(BatchError):
        await backend.batch_delete(items)
    assert await backend.key_count() == 0


async def test_sizes_times_and_prefixes_of_entries(backend: FilePersistenceBackend) -> None:
    """An entry tells the file's size and time, in UTC, and a prefix is literal."""
    await backend.batch_save({"session:1": b"12345", "session_2": b""})
    os.utime(backend.path_for("session:1"), (1_700_000_000.25, 1_700_000_000.25))
    (entry,) = [entry async for entry in backend.entries("session:")]
    assert (entry.key, entry.size, entry.ambiguous) == ("session:1", 5, False)
    assert entry.modified == datetime.fromtimestamp(1_700_000_000.25, UTC)
    assert entry.filename == filename_for("session:1")


async def test_change_token_moves_with_every_change(backend: FilePersistenceBackend) -> None:
    """Equal tokens mean that nothing changed; a save, an overwrite and a delete each move it."""
    os.utime(backend.base_dir, (1, 1))
    first = await backend.change_token()
    assert await backend.change_token() == first
    for change in (backend.save("key", b"1"), backend.save("key", b"2"), backend.delete("key")):
        before = await backend.change_token()
        await change
        assert await backend.change_token() != before


@pytest.mark.parametrize("operation", ["save", "delete", "batch_save"])
async def test_cancelling_waits_and_nothing_changes_afterwards(
    backend: FilePersistenceBackend, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """A cancelled write ends before the cancellation is seen, so that it cannot overwrite a later one."""
    await backend.save("key", b"old")
    begun, slow = threading.Event(), threading.Event()
    replace, unlink = os.replace, os.unlink

    def slow_replace(*paths: str) -> None:
        begun.set()
        slow.wait(5)
        replace(*paths)

    def slow_unlink(path: str) -> None:
        begun.set()
        slow.wait(5)
        unlink(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", slow_replace)
        patched.setattr(os, "unlink", slow_unlink)
        work = {
            "save": lambda: backend.save("key", b"first"),
            "delete": lambda: backend.delete("key"),
            "batch_save": lambda: backend.batch_save({"key": b"first"}),
        }[operation]()
        task = asyncio.ensure_future(work)
        await asyncio.to_thread(begun.wait, 5)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=0.05)
        assert not done
        slow.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    first = None if operation == "delete" else b"first"
    assert await backend.load("key") == first
    await backend.save("key", b"second")
    assert await backend.load("key") == b"second"


async def test_work_not_begun_is_dropped(backend: FilePersistenceBackend) -> None:
    """A save cancelled while the only worker thread is busy is never carried out."""
    busy = threading.Event()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as only:
        loop.set_default_executor(only)
        blocked = loop.run_in_executor(None, busy.wait, 10)
        task = asyncio.ensure_future(backend.save("key", b"value"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        busy.set()
        assert await blocked
    assert os.listdir(backend.base_dir) == []


def test_one_backend_serves_one_loop_after_the_other(tmp_path: Path) -> None:
    """A notebook's loop and a script's loop may use the same object."""
    backend = FilePersistenceBackend(tmp_path)
    asyncio.run(backend.save("key", b"value"))
    assert asyncio.run(backend.load("key")) == b"value"


def test_backend_and_errors_survive_pickling(tmp_path: Path) -> None:
    """A worker process gets the same directory and the same error."""
    backend = pickle.loads(pickle.dumps(FilePersistenceBackend(tmp_path, fsync=False)))  # noqa: S301 - our own bytes
    assert (backend.base_dir, backend.fsync) == (tmp_path, False)
    assert repr(backend) == f"FilePersistenceBackend('{tmp_path}', fsync=False)"
    error = pickle.loads(pickle.dumps(StorageError("full", errno=28)))  # noqa: S301
    assert (str(error), error.errno) == ("full", 28)
    batch = pickle.loads(pickle.dumps(BatchError("1 failed", {"key": error})))  # noqa: S301
    assert str(batch.failures["key"]) == "full"


async def test_operations_are_traced_without_values(
    backend: FilePersistenceBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG each operation leaves one record with its name, key, bytes and milliseconds, and never a value."""
    with caplog.at_level(logging.DEBUG, "persistkit"):
        await backend.save("key", b"secret")
        await backend.load("key")
        await backend.delete("key")
        with pytest.raises(StorageError):
            await FilePersistenceBackend.save(_gone(backend), "key", b"secret")
    records = [(r.__dict__["operation"], r.__dict__["key"], r.__dict__["size_bytes"]) for r in caplog.records]
    assert records == [("save", "key", 6), ("load", "key", 6), ("delete", "key", None), ("save", "key", 6)]
    assert all(record.__dict__["milliseconds"] > 0 for record in caplog.records)
    assert "StorageError" in caplog.text
    assert "secret" not in caplog.text


class _PlainIterator(AsyncIterator[Entry]):
    """An iterator as a class, without ``aclose``: all that ``entries`` asks for."""

    def __init__(self, keys: list[str]) -> None:
        self._keys = keys

    async def __anext__(self) -> Entry:
        if not self._keys:
            raise StopAsyncIteration
        key = self._keys.pop(0)
        return Entry(key, 0, None, filename_for(key))


class _ListsPlainly(MemoryPersistenceBackend):
    """A backend whose listing is no generator."""

    def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """List three keys."""
        return _PlainIterator([f"{prefix}{number}" for number in range(3)])


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING])
async def test_a_listing_that_is_no_generator_is_traced_as_well(caplog: pytest.LogCaptureFixture, level: int) -> None:
    """A backend may give any asynchronous iterator; at DEBUG it is listed, left early, and traced all the same."""
    with caplog.at_level(level, "persistkit"):
        assert [entry.key async for entry in _ListsPlainly().entries("k")] == ["k0", "k1", "k2"]
        async for _ in _ListsPlainly().entries("k"):
            break
    assert [record.__dict__["operation"] for record in caplog.records[:1]] == ["entries"] * (level == logging.DEBUG)


def _gone(backend: FilePersistenceBackend) -> FilePersistenceBackend:
    shutil.rmtree(backend.base_dir)
    return backend


async def _write_half(backend: FilePersistenceBackend) -> None:
    async with backend.open_writer("key") as writer:
        await writer.write(b"half")
        raise ValueError("stop")


async def test_streams_are_atomic(backend: FilePersistenceBackend) -> None:
    """A streamed value appears whole at the end; an exception discards it and leaves the old one."""
    await backend.save("key", b"old")
    async with backend.open_writer("key") as writer:
        await writer.write(b"new " * 1000)
        await writer.write(bytearray(b"end"))
        assert await backend.load("key") == b"old"
    assert backend.path_for("key").read_bytes() == b"new " * 1000 + b"end"
    with pytest.raises(ValueError, match="stop"):
        await _write_half(backend)
    async with backend.open_reader("key") as reader:
        assert reader is not None
        assert reader.size == 4003
        assert await reader.read(4) == b"new "
        assert (await reader.read())[-3:] == b"end"
        assert await reader.read(10) == b""
    async with backend.open_reader("missing") as nothing:
        assert nothing is None
    assert os.listdir(backend.base_dir) == [filename_for("key")]


@pytest.mark.parametrize("unknowns", [1, 2, 3, 4])
async def test_a_foreign_name_of_our_shape_stops_nothing(backend: FilePersistenceBackend, unknowns: int) -> None:
    """A name with few underscores that nothing fits is listed without key, beside the others."""
    await backend.save("key", b"value")
    name = f"my{'_photo' * unknowns}-0123456789abcdef.bin"
    (backend.base_dir / name).write_bytes(b"foreign")
    found = {entry.filename: entry.key async for entry in backend.entries()}
    assert found == {filename_for("key"): "key", name: None}


async def test_a_listing_during_overwrites_holds_every_key_once(tmp_path: Path) -> None:
    """While every value is overwritten again and again, each listing holds all keys, each once."""
    shared = Path("/dev/shm")  # noqa: S108 - tmpfs moves a renamed file to a new place in the listing
    base = Path(tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else tmp_path))
    try:
        backend = FilePersistenceBackend(base, fsync=False)
        keys = [f"key:{number}" for number in range(300)]
        await backend.batch_save(dict.fromkeys(keys, b"0"))
        stop = threading.Event()

        def overwrite() -> None:
            while not stop.wait(0.002):
                backend.blocking_core.batch_save(dict.fromkeys(keys[:20], b"1"))

        overwriting = threading.Thread(target=overwrite)
        overwriting.start()
        try:
            for _ in range(60):
                assert await backend.list_keys() == sorted(keys)
        finally:
            stop.set()
            overwriting.join()
    finally:
        shutil.rmtree(base)


async def test_a_directory_that_vanishes_while_listing_is_an_error(backend: FilePersistenceBackend) -> None:
    """A listing that cannot go on says so; it does not end early."""
    await backend.batch_save(dict.fromkeys(map(str, range(2500)), b""))
    with pytest.raises(StorageError, match="does not exist"):
        await _list_while_removing(backend)


async def _list_while_removing(backend: FilePersistenceBackend) -> None:
    async for _ in backend.entries():
        shutil.rmtree(backend.base_dir, ignore_errors=True)


async def test_times_beyond_the_calendar_stop_nothing(backend: FilePersistenceBackend) -> None:
    """A file from after the year 9999 has the last time that can be told."""
    await backend.save("key", b"value")
    os.utime(backend.path_for("key"), (300_000_000_000, 300_000_000_000))
    (entry,) = [entry async for entry in backend.entries()]
    assert entry.modified is not None
    assert entry.modified.year in (9999, 2446)  # ext4 keeps 34 bits of seconds


async def test_streams_tell_what_was_refused(backend: FilePersistenceBackend) -> None:
    """A stream into a directory that is gone raises the same clear error as a save."""
    shutil.rmtree(backend.base_dir)
    with pytest.raises(StorageError, match=r"save 'key'.*does not exist"):
        await _write_half(backend)
    with pytest.raises(StorageError, match=r"'key'.*does not exist"):
        async with backend.open_reader("key"):
            pass


async def test_a_cancelled_stream_leaves_nothing_open(
    backend: FilePersistenceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelling while a stream is being opened closes its descriptor and removes its temp file."""
    await backend.save("key", b"value")
    opened = os.open

    def slow_open(*arguments: object, **options: object) -> int:
        time.sleep(0.05)
        return opened(*arguments, **options)  # type: ignore[arg-type]

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", slow_open)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), backend.open_reader("key"):
                    pass
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), backend.open_writer("key"):
                    pass
    assert len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(backend.base_dir) == [filename_for("key")]


LARGE = """
import asyncio, re, sys
from pathlib import Path
from persistkit import BlockingBackend, FilePersistenceBackend

backend = FilePersistenceBackend(sys.argv[1], fsync=False)
plain = BlockingBackend(backend)
chunk, count = bytes(range(256)) * 4096, 256

def peak():  # not ru_maxrss: a child inherits its parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

async def awaited():
    async with backend.open_writer("large") as writer:
        for _ in range(count):
            await writer.write(chunk)
    async with backend.open_reader("large") as reader:
        return reader.size, sum([await reader.read(len(chunk)) == chunk for _ in range(count)]), await reader.read()

def without_await():
    with plain.open_writer("large") as writer:
        for _ in range(count):
            writer.write(chunk)
    with plain.open_reader("large") as reader:
        return reader.size, sum([reader.read(len(chunk)) == chunk for _ in range(count)]), reader.read()

before = peak()
for found in (asyncio.run(awaited()), without_await()):
    assert found == (count * len(chunk), count, b""), found
print((peak() - before) // 2**20)
"""


def test_large_values_stream_in_little_memory(tmp_path: Path) -> None:
    """A value of 256 MiB is written and read, awaited and not, in less than 64 MiB beside what was there before."""
    command = [sys.executable, "-c", LARGE, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 64


@pytest.mark.parametrize("stream", ["open_reader", "open_writer"])
async def test_a_stream_cancelled_while_no_worker_is_free_is_cleaned_up(
    backend: FilePersistenceBackend, stream: str
) -> None:
    """Cancelled again and again, as anyio does, a stream still closes its file and removes its temp file."""
    await backend.save("key", b"value")
    loop = asyncio.get_running_loop()
    free = threading.Event()
    with ThreadPoolExecutor(1) as only:
        loop.set_default_executor(only)
        await backend.load("key")
        before = set(os.listdir("/proc/self/fd"))
        with anyio.move_on_after(0.05) as scope:
            async with getattr(backend, stream)("key"):
                blocked = loop.run_in_executor(None, free.wait, 10)
                loop.call_later(0.3, free.set)
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert await blocked
        assert set(os.listdir("/proc/self/fd")) == before
    assert os.listdir(backend.base_dir) == [filename_for("key")]


async def test_a_cancelled_save_waits_without_turning(
    backend: FilePersistenceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel scope of anyio, which cancels at every turn of the loop, finds the waiting task shielded."""
    begun, slow = threading.Event(), threading.Event()
    replace = os.replace

    def slow_replace(*paths: str) -> None:
        begun.set()
        slow.wait(10)
        replace(*paths)

    monkeypatch.setattr(os, "replace", slow_replace)
    scope = anyio.CancelScope()

    async def save() -> None:
        with scope:
            await backend.save("key", b"value")

    task = asyncio.ensure_future(save())
    await asyncio.to_thread(begun.wait, 10)
    scope.cancel()
    for _ in range(100):
        await asyncio.sleep(0)
    assert task.cancelling() < 10
    slow.set()
    await task
    assert await backend.load("key") == b"value"


def test_created_directories_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``create`` every directory that gained an entry is synced; a batch of deletes syncs once."""
    synced: list[str] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    backend = FilePersistenceBackend(tmp_path / "a" / "b", create=True)
    assert set(synced) == {str(tmp_path), str(tmp_path / "a")}
    backend.blocking_core.batch_save({str(number): b"" for number in range(20)})
    synced.clear()
    backend.blocking_core.batch_delete([str(number) for number in range(20)])
    assert synced == [str(tmp_path / "a" / "b")]


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    """An empty path is not taken for the working directory."""
    with pytest.raises(StorageError, match="not a path"):
        FilePersistenceBackend(path)
