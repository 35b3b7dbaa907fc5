"""Streams of files: real file objects whose errors name the key, and cached loads."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persistkit.engine import Engine
from persistkit.engines.files import FileEngine
from persistkit.engines.memory import MemoryEngine
from persistkit.errors import StorageError

MEBIBYTE = 1024 * 1024


def write_and_fail(engine: FileEngine) -> None:
    """Write half of a value, and leave the block by an error."""
    with engine.open_writer("key") as writer:
        writer.write(b"half")
        raise ZeroDivisionError


def test_an_unfinished_stream_is_a_temporary_file_and_then_nothing(engine: FileEngine) -> None:
    """Until its block ends a stream has another name; an error removes it, and closes it."""
    engine.save("key", b"old")
    before = set(os.listdir("/proc/self/fd"))
    with engine.open_writer("key") as writer:
        writer.write(b"new")
        writer.flush()
        assert {path.read_bytes() for path in engine.base_dir.iterdir()} == {b"old", b"new"}
    assert [path.read_bytes() for path in engine.base_dir.iterdir()] == [b"new"]
    with pytest.raises(ZeroDivisionError):
        write_and_fail(engine)
    assert [path.read_bytes() for path in engine.base_dir.iterdir()] == [b"new"]
    assert set(os.listdir("/proc/self/fd")) == before


def test_readers_and_writers_are_files(engine: FileEngine) -> None:
    """Both seek and tell, as programs that take files expect, and have a descriptor."""
    with engine.open_writer("key") as writer:
        writer.write(b"....5678")
        writer.seek(0)
        writer.write(b"1234")
    reader = engine.open_reader("key")
    assert isinstance(reader, io.BufferedIOBase)
    with reader:
        assert os.fstat(reader.fileno()).st_size == reader.seek(0, io.SEEK_END) == 8
        assert (reader.seek(2), reader.read(3), reader.tell()) == (2, b"345", 5)


def test_a_reader_keeps_the_value_it_opened(engine: FileEngine) -> None:
    """A save and a delete while a value is read change nothing for who reads."""
    engine.save("key", b"old" * 100_000)
    reader = engine.open_reader("key")
    assert reader is not None
    with reader:
        engine.save("key", b"new")
        engine.delete("key")
        assert reader.read() == b"old" * 100_000


def write_to_nowhere(engine: FileEngine) -> None:
    """Write a value whose file cannot be written to."""
    with engine.open_writer("key") as writer:
        with open(engine.path_for("key"), "rb") as other:
            os.dup2(other.fileno(), writer.fileno())
        writer.write(b"new")


def test_errors_of_streams_name_the_key(engine: FileEngine) -> None:
    """What the system refuses while a stream is read or written is a StorageError that names the key and the place."""
    engine.save("key", b"value" * 10_000)
    reader = engine.open_reader("key")
    assert reader is not None
    reads: list[Callable[[], bytes]] = [lambda: reader.read(10), reader.read]
    for read in reads:
        # Another file, open for writing only, takes the descriptor: each read then fails.
        with open(engine.base_dir / "other", "wb") as other:
            os.dup2(other.fileno(), reader.fileno())
            with pytest.raises(StorageError, match=rf"load 'key' in {engine.base_dir}.*descriptor"):
                read()
    reader.close()
    with pytest.raises(StorageError, match=rf"save 'key' in {engine.base_dir}.*descriptor"):
        write_to_nowhere(engine)
    assert engine.load("key") == b"value" * 10_000
    assert not list(engine.base_dir.glob("*.tmp"))


GROWING: dict[str, Callable[[Any], object]] = {
    "write": lambda writer: [writer.write(bytes(MEBIBYTE)) for _ in range(20)],
    "seek": lambda writer: (writer.write(bytes(16 * MEBIBYTE)), writer.write(b"1 byte more"), writer.seek(0)),
    "truncate": lambda writer: writer.truncate(17 * MEBIBYTE),
}


@pytest.mark.parametrize("grow", GROWING)
@pytest.mark.parametrize("spooled", [False, True], ids=["file", "spooled"])
def test_a_stream_that_cannot_grow_is_an_error_that_names_the_key(engine: FileEngine, grow: str, spooled: bool) -> None:
    """Where a file reaches the system's limit, whatever the writer does is a StorageError, and the old value stays."""
    writing: Engine = MemoryEngine() if spooled else engine
    writing.save("key", b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * MEBIBYTE, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"save 'key'.*[Ff]ile too large"), writing.open_writer("key") as writer:
            GROWING[grow](writer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert writing.load("key") == b"old"


@pytest.mark.parametrize("how", ["read", "write"])
def test_an_error_while_a_stream_is_closed_names_the_key(engine: FileEngine, how: str) -> None:
    """A file that the system cannot close is a StorageError too; its descriptor was closed behind its back."""
    engine.save("key", b"value")
    with engine.open_writer("key") as writer:
        file = writer if how == "write" else engine.open_reader("key")
        assert file is not None
        os.close(file.fileno())
        with pytest.raises(StorageError, match=rf"'key' in {engine.base_dir}.*descriptor"):
            file.close()
    assert engine.load("key") is not None


def test_a_full_process_opens_nothing_and_says_so(engine: FileEngine) -> None:
    """Without a free descriptor every operation is an error with its reason, never a missing key."""
    engine.save("key", b"value")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        for operation in (engine.load, engine.open_reader, lambda key: engine.save(key, b""), engine.list_keys):
            with pytest.raises(StorageError, match="Too many open files"):
                operation("key")
        assert engine.load_cached("key") is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert engine.load("key") == b"value"


LARGE = """
import re, sys
from pathlib import Path
from typing import Any
from persistkit.engine import Engine
from persistkit.engines.files import FileEngine

engine = FileEngine(sys.argv[1], fsync=False)
chunk, count = bytes(range(256)) * 4096, 128

def peak():  # not ru_maxrss: a child inherits its parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

before = peak()
with engine.open_writer("large") as writer:
    for _ in range(count):
        writer.write(chunk)
with engine.open_reader("large") as reader:
    assert sum([reader.read(len(chunk)) == chunk for _ in range(count)]) == count and not reader.read()
assert engine.read_range("large", 2, 1 << 20)[:2] == b"\\2\\3" and engine.read_range("large", 1 << 40, 1 << 40) == b""
print(peak() - before)
"""


def test_large_values_stream_in_little_memory(tmp_path: Path) -> None:
    """A value of 128 MiB is written and read, as a stream and in parts, in less than 16 MiB."""
    run = subprocess.run([sys.executable, "-c", LARGE, tmp_path], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 16


def test_a_large_value_comes_in_a_buffer_of_its_own(engine: FileEngine) -> None:
    """``load_buffer`` gives a large value in memory that may be written, and that nobody else has."""
    value = os.urandom(5_000_000)
    engine.save("key", value)
    buffer = engine.load_buffer("key")
    assert isinstance(buffer, memoryview)
    assert buffer == value
    buffer[:4] = b"mine"
    assert engine.load_buffer("key") == value


def test_small_values_come_from_the_systems_cache(tmp_path: Path) -> None:
    """What was just written is loaded without waiting, an empty value too; what is large, missing or owned is not."""
    engine = FileEngine(tmp_path, fsync=False)
    engine.batch_save(
        {"small": b"value", "empty": b"", "limit": bytes(65_536), "large": bytes(65_537), "a?>": b"owned"}
    )
    if engine.load_cached("small") is None:
        pytest.skip("this file system does not answer from its cache alone")
    assert [engine.load_cached(key) for key in ("small", "empty", "limit")] == [b"value", b"", bytes(65_536)]
    assert [engine.load_cached(key) for key in ("large", "missing", "a?>")] == [None, None, None]
    engine.save("small", b"newer")
    assert engine.load_cached("small") == b"newer"


def test_what_is_not_in_the_cache_is_not_waited_for(tmp_path: Path) -> None:
    """A value that the system has dropped from its cache is not read from the disk; after a load it is there again."""
    engine = FileEngine(tmp_path)
    value = os.urandom(20_000)
    engine.save("key", value)
    if engine.load_cached("key") is None:
        pytest.skip("this file system does not answer from its cache alone")
    descriptor = os.open(engine.path_for("key"), os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    assert engine.load_cached("key") is None
    assert engine.load("key") == value
    assert engine.load_cached("key") == value


def test_in_memory_file_systems_nothing_is_cached_and_nothing_breaks() -> None:
    """Tmpfs refuses to read without waiting: then every cached load says nothing, and ``load`` answers."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
    if not os.access(shared, os.W_OK):
        pytest.skip("there is no tmpfs here")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        engine = FileEngine(folder)
        engine.save("key", b"value")
        assert engine.load_cached("key") is None
        assert engine.load("key") == b"value"
