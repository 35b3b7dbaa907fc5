"""Locks: add and replace between processes, who can hold anything up, and for how long."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from persistkit.engines.files import FileEngine
from persistkit.errors import BatchError, StorageError
from persistkit.keys import filename_for, owner_filename_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="locks of open files exist on Linux")

LOCKS = ".persistkit-locks"
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture
def engine(tmp_path: Path) -> FileEngine:
    """An empty directory, whose locks are waited for a fifth of a second."""
    return FileEngine(tmp_path, timeout_seconds=0.2)


def lock(path: Path, kind: int, byte: int = 0, size: int = 0) -> int:
    """Lock a range of a file, as another process would, and return the descriptor that keeps the lock."""
    descriptor = os.open(path, os.O_RDONLY if kind == fcntl.F_RDLCK else os.O_WRONLY)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, size, 0))
    return descriptor


@contextmanager
def locked_key(engine: FileEngine, key: str) -> Iterator[None]:
    """Lock the byte of a key, numbered by the upper 63 bits of the hash in its filename."""
    descriptor = lock(engine.base_dir / LOCKS, fcntl.F_WRLCK, int(filename_for(key)[-20:-4], 16) >> 1, 1)
    try:
        yield
    finally:
        os.close(descriptor)


def count_by_replace(base: str, times: int) -> None:
    """Add one to a counter, so many times, by ``replace``."""
    engine = FileEngine(base, fsync=False)
    counted = 0
    while counted < times:
        present = engine.load("counter")
        assert present is not None
        counted += engine.replace("counter", b"%d" % (int(present) + 1), present)


def count_by_save(base: str, times: int) -> None:
    """Add one to a counter, so many times, by ``load`` and ``save``: the control."""
    engine = FileEngine(base, fsync=False)
    for _ in range(times):
        engine.save("counter", b"%d" % (int(engine.load("counter") or b"") + 1))


@pytest.mark.parametrize(("count", "exact"), [(count_by_replace, True), (count_by_save, False)])
def test_four_processes_count_to_twelve_thousand(
    tmp_path: Path, count: Callable[[str, int], None], exact: bool
) -> None:
    """No increment by ``replace`` is lost; of those by ``load`` and ``save`` some are: it is a race."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder of its own there; a disk takes most of the time
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as base:
        FileEngine(base, fsync=False).save("counter", b"0")
        spawn = multiprocessing.get_context("spawn")
        processes = [spawn.Process(target=count, args=(base, 3_000)) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 4
        assert (FileEngine(base).load("counter") == b"12000") is exact


def test_nothing_is_added_to_a_directory_in_which_nobody_compares(engine: FileEngine) -> None:
    """The file of locks comes with the first ``add`` or ``replace`` , and stays; check accepts it."""
    engine.batch_save({"a": b"1", "a?>": b"2"})
    with engine.open_writer("b") as writer:
        writer.write(b"3")
    engine.batch_delete(["b"])
    assert not engine.add("a", b"4")
    assert not engine.replace("a", b"4", b"5")
    assert not (engine.base_dir / LOCKS).exists()
    assert engine.replace("a", b"4", b"1")
    engine.delete("a")
    assert (engine.base_dir / LOCKS).read_bytes() == b""
    assert engine.check() == []
    assert engine.list_keys() == ["a?>"]


def test_add_keeps_what_a_program_without_locks_has_just_written(
    engine: FileEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that the Rust runtime writes while ``add`` is about to store its own is not overwritten."""
    link = os.link

    def late(*paths: str) -> None:
        if paths[1] == str(engine.path_for("key")):
            engine.path_for("key").write_bytes(b"of the Rust runtime")
        link(*paths)

    monkeypatch.setattr(os, "link", late)
    assert not engine.add("key", b"mine")
    assert engine.load("key") == b"of the Rust runtime"
    assert not list(engine.base_dir.glob("*.tmp"))


def stream(engine: FileEngine, key: str) -> None:
    """Write a value as a stream."""
    with engine.open_writer(key) as writer:
        writer.write(b"new")


WRITES: dict[str, Callable[[FileEngine, str], object]] = {
    "save": lambda engine, key: engine.save(key, b"new"),
    "add": lambda engine, key: engine.add(f"{key}!", b"new"),
    "replace": lambda engine, key: engine.replace(key, b"new", b"old"),
    "delete": lambda engine, key: engine.delete(key),
    "batch_save": lambda engine, key: engine.batch_save({key: b"new", "free": b"new"}),
    "batch_delete": lambda engine, key: engine.batch_delete([key, "free"]),
    "stream": stream,
}


@pytest.mark.parametrize("fsync", [True, False], ids=["fsync", "no-fsync"])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_lock_that_stays_ends_in_an_error_that_names_the_file(
    tmp_path: Path, write: Callable[[FileEngine, str], object], fsync: bool
) -> None:
    """Every write of a locked key fails in time and leaves nothing; reads, and writes of other keys, do not wait."""
    engine = FileEngine(tmp_path, fsync=fsync, timeout_seconds=0.2)
    engine.save("key", b"old")
    assert engine.add("free", b"old")
    began = time.monotonic()
    with locked_key(engine, "key"), locked_key(engine, "key!"):
        with pytest.raises((StorageError, BatchError), match=LOCKS) as caught:
            write(engine, "key")
        if isinstance(caught.value, BatchError):
            assert list(caught.value.failures) == ["key"]
            assert engine.load("free") != b"old"
        assert engine.load("key") == b"old"
        engine.save("other", b"value")
    assert time.monotonic() - began < 10
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
    write(engine, "key")


def test_a_batch_waits_once_for_all_of_its_locked_keys(engine: FileEngine) -> None:
    """The limit of time is that of the batch, not that of each key."""
    keys = [f"key{number}" for number in range(100)]
    assert engine.add("other", b"")
    whole_file = lock(engine.base_dir / LOCKS, fcntl.F_WRLCK)
    began = time.monotonic()
    with pytest.raises(BatchError, match="100 of 100"):
        engine.batch_save(dict.fromkeys(keys, b"value"))
    assert time.monotonic() - began < 10
    os.close(whole_file)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking beside threads: the child only waits
def test_a_fork_while_a_lock_is_held_keeps_nothing_locked(engine: FileEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child forked inside ``replace`` has the file of locks open too, and holds up nobody."""
    engine.save("key", b"old")
    replace, children = os.replace, []

    def forking(*paths: str) -> None:
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
        replace(*paths)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", forking)
        engine.replace("key", b"new", b"old")
    try:
        assert engine.replace("key", b"newer", b"new")
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def has_open(process: int, path: Path) -> bool:
    """Tell whether a process has a file open."""
    with suppress(FileNotFoundError):  # it closes files meanwhile
        return any(entry.readlink() == path for entry in Path(f"/proc/{process}/fd").iterdir())
    return False


INTERRUPTED = """
import signal, sys
from persistkit.engines.files import FileEngine
engine = FileEngine(sys.argv[1])
signal.signal(signal.SIGINT, signal.default_int_handler)
print("begun", flush=True)
try:
    engine.batch_save({"key": b"new", "other": b"new"}) if sys.argv[2] == "batch" else engine.save("key", b"new")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("how", ["batch", "save"])
def test_an_interrupt_ends_the_wait_for_a_lock(engine: FileEngine, how: str) -> None:
    """Ctrl-C ends a save and a batch that wait for a lock, and leaves the old value and no temporary file."""
    assert engine.add("key", b"old")
    command = [sys.executable, "-c", INTERRUPTED, str(engine.base_dir), how]
    with locked_key(engine, "key"), subprocess.Popen(command, stdout=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"begun\n"
        until = time.monotonic() + 20
        while not has_open(waiting.pid, engine.base_dir / LOCKS) and time.monotonic() < until:
            time.sleep(0.01)  # a poll: that it waits for the lock shows nowhere else
        began = time.monotonic()
        waiting.send_signal(signal.SIGINT)
        assert waiting.stdout.readline() == b"interrupted\n"
        assert time.monotonic() - began < 10
    assert engine.load("key") == b"old"
    assert not list(engine.base_dir.glob("*.tmp"))


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o777])
def test_the_file_of_locks_is_for_those_who_write_in_the_directory(engine: FileEngine, mode: int) -> None:
    """Whatever the umask: whoever may write in the directory may lock, and nobody else can even read the file."""
    engine.base_dir.chmod(mode)
    umask = os.umask(0o077)
    try:
        assert engine.add("key", b"value")
    finally:
        os.umask(umask)
    found = stat.S_IMODE((engine.base_dir / LOCKS).stat().st_mode)
    assert found == {0o755: 0o600, 0o775: 0o660, 0o777: 0o666}[mode]


def test_what_cannot_be_locked_is_not_written(engine: FileEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of locks that this process may not write is an error that names it, not a write without a lock."""
    assert engine.add("key", b"old")
    opened = os.open

    def refusing(path: str, *arguments: int) -> int:
        if path.endswith(LOCKS):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(StorageError, match=rf"save 'key'.*{LOCKS}"):
        engine.save("key", b"new")
    assert engine.load("key") == b"old"


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that any user can reach and read, and only its owner can write."""
    folder = Path(tempfile.mkdtemp())  # not below pytest's folder, which is closed to others
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


LOCK_ALL = """
import fcntl, os, struct, sys
for path in os.listdir("."):
    for flags, kind in ((os.O_RDONLY, fcntl.F_RDLCK), (os.O_WRONLY, fcntl.F_WRLCK)):
        try:
            descriptor = os.open(path, flags)
        except PermissionError:
            continue
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        print(path, flush=True)
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not shutil.which("setpriv") or os.getuid() != 0, reason="needs root and setpriv")
def test_who_may_only_read_holds_nobody_up(shared_folder: Path) -> None:
    """Another user with read permission locks every file there is; every write goes on as if nobody were there."""
    engine = FileEngine(shared_folder, timeout_seconds=0.2)
    engine.batch_save({"key": b"old", "a?>": b"old"})
    assert engine.add("added", b"value")
    command = [*AS_NOBODY, sys.executable, "-c", LOCK_ALL]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=shared_folder, stdin=pipe, stdout=pipe, text=True) as reader:
        assert reader.stdout is not None
        locked = set(iter(reader.stdout.readline, "\n"))
        assert f"{owner_filename_for(filename_for('a?>'))}\n" in locked  # it is readable, and was locked
        assert f"{LOCKS}\n" not in locked
        for key in ("key", "a?>"):
            engine.save(key, b"new")
            assert engine.replace(key, b"newer", b"new")
            engine.batch_save({key: b"1", "other": b"2"})
            engine.delete(key)
        reader.communicate("")
