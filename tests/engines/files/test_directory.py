"""One directory: what lies on disk, what is refused, and that errors say why."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from persistkit.engines.files import FileEngine
from persistkit.errors import BatchError, StorageError
from persistkit.keys import filename_for


def test_a_directory_of_the_rust_runtime_opens_with_true_keys_and_whole_values() -> None:
    """A directory of the Rust runtime lists its true keys, and every value has the recorded sha256."""
    data = Path(__file__).parents[2] / "data"
    hashes: dict[str, str] = json.loads((data / "agent-state.keys.json").read_text())
    engine = FileEngine(data / "agent-state")
    assert engine.list_keys() == sorted(hashes)
    values = engine.batch_load(hashes)
    assert {key: hashlib.sha256(value or b"").hexdigest() for key, value in zip(hashes, values, strict=True)} == hashes
    assert engine.key_count() == len(hashes) == 174
    assert engine.check() == []


def test_a_value_lies_in_its_file_as_it_is(engine: FileEngine) -> None:
    """The file has the reference's name and the value's bytes, nothing else, and the umask's mode."""
    umask = os.umask(0o027)
    try:
        engine.save("a/b", bytearray(b"\0value"))
        with engine.open_writer("a_b") as writer:
            writer.write(b"stream")
    finally:
        os.umask(umask)
    assert sorted(os.listdir(engine.base_dir)) == ["a_b-000000000b8855f7.bin", "a_b-000000000b885c27.bin"]
    path = engine.path_for("a/b")
    assert path.read_bytes() == b"\0value"
    assert {stat.S_IMODE(path.stat().st_mode) for path in engine.base_dir.iterdir()} == {0o640}


def test_a_directory_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """Opening a mistyped path says so, names it, and names the way out; nothing is made."""
    with pytest.raises(StorageError, match=r"mistyped.*does not exist.*create=True"):
        FileEngine(tmp_path / "mistyped")
    assert not (tmp_path / "mistyped").exists()


def test_a_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    """A file, or a path through one, is no directory."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        for create in (False, True):
            with pytest.raises(StorageError, match="not a directory"):
                FileEngine(path, create=create)


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    """An empty path is not taken for the working directory."""
    with pytest.raises(StorageError, match="not a path"):
        FileEngine(path)


def test_a_directory_that_vanishes_is_never_missing_keys(engine: FileEngine) -> None:
    """When the directory is gone, every operation raises, and none says that a key is missing."""
    shutil.rmtree(engine.base_dir)

    def write() -> None:
        with engine.open_writer("key") as writer:
            writer.write(b"")

    operations: list[Callable[[], object]] = [
        lambda: engine.load("key"),
        lambda: engine.load("a?>"),
        lambda: engine.load_buffer("key"),
        lambda: engine.delete("key"),
        lambda: engine.delete("a?>"),
        lambda: engine.exists("key"),
        lambda: engine.save("key", b""),
        lambda: engine.save("a?>", b""),
        lambda: engine.add("key", b""),
        lambda: engine.replace("key", b"", b""),
        lambda: engine.read_range("key", 0, 1),
        lambda: engine.open_reader("key"),
        write,
        lambda: engine.list_keys(),
        lambda: list(engine.entries()),
        lambda: engine.key_count(),
        lambda: engine.check(),
        lambda: engine.change_token(),
        lambda: engine.load_filename(filename_for("key")),
    ]
    for operation in operations:
        with pytest.raises(StorageError, match=r"does not exist|the directory") as caught:
            operation()
        assert caught.value.errno is not None
    for batch in (lambda: engine.batch_load(["key", "a?>"]), lambda: engine.batch_save({"key": b"", "a?>": b""})):
        with pytest.raises(BatchError, match="2 of 2 keys failed") as failed:
            batch()
        assert set(failed.value.failures) == {"key", "a?>"}
    assert engine.load_cached("key") is None


def test_a_directory_that_vanishes_while_listing_is_an_error(engine: FileEngine) -> None:
    """A listing that cannot go on says so; it does not end early."""
    engine.batch_save(dict.fromkeys(map(str, range(50)), b""))
    entries = engine.entries()
    next(entries)
    shutil.rmtree(engine.base_dir)
    with pytest.raises(StorageError, match="does not exist"):
        list(entries)


def test_a_working_directory_that_changes_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base directory is made absolute when it is opened."""
    monkeypatch.chdir(tmp_path)
    engine = FileEngine("relative", create=True)
    monkeypatch.chdir("/")
    engine.save("key", b"value")
    assert (tmp_path / "relative" / filename_for("key")).read_bytes() == b"value"
    assert engine.base_dir == tmp_path / "relative"


def test_links_and_other_files_are_never_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is named like a value and is no regular file is not listed, not read, not followed; a save replaces it."""
    engine = FileEngine(tmp_path / "state", create=True)
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    # Short, and with a time of access that needs no update: such a link can be followed in the system's cache.
    engine.path_for("link").symlink_to("../outside")
    os.utime(engine.path_for("link"), (time.time() + 60, time.time()), follow_symlinks=False)
    engine.path_for("directory").mkdir()
    os.mkfifo(engine.path_for("fifo"))
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(engine.base_dir)  # a socket's path is short
        listening.bind(filename_for("socket"))
    assert engine.path_for("link").read_bytes() == b"secret"  # all of it is in the cache
    for key in ("link", "directory", "fifo", "socket"):
        assert not engine.exists(key)
        assert engine.load_cached(key) is None
        assert not engine.add(key, b"mine")
        for read in (engine.load, engine.open_reader, engine.load_buffer, lambda key: engine.read_range(key, 0, 1)):
            with pytest.raises(StorageError, match=key):
                read(key)
    assert engine.list_keys() == []
    assert engine.key_count() == 0
    engine.batch_save({"link": b"mine", "fifo": b"mine"})
    assert outside.read_bytes() == b"secret"
    assert engine.list_keys() == ["fifo", "link"]
    with pytest.raises(StorageError, match="directory"):
        engine.save("directory", b"")


@pytest.mark.parametrize(
    "filename", ["../secret", "/etc/passwd", "notes.txt", "", ".", "a/b-000000000b8855f7.bin", "x-0\0.bin"]
)
def test_load_filename_stays_inside(engine: FileEngine, filename: str) -> None:
    """A name with a separator, or that is no value's, is refused."""
    with pytest.raises(StorageError, match="not the name of a value"):
        engine.load_filename(filename)


@pytest.mark.parametrize("unknowns", [1, 2, 3, 4, 10])
def test_a_name_of_our_shape_that_is_no_key_stops_nothing(engine: FileEngine, unknowns: int) -> None:
    """Another program's name that nothing fits is listed without key, beside the others, and its value loads."""
    engine.save("key", b"value")
    name = f"my{'_photo' * unknowns}-0123456789abcdef.bin"
    (engine.base_dir / name).write_bytes(b"foreign")
    assert {entry.filename: entry.key for entry in engine.entries()} == {filename_for("key"): "key", name: None}
    assert engine.list_keys() == ["key"]
    assert engine.key_count() == 2
    assert list(engine.entries("my")) == []
    assert engine.load_filename(name) == b"foreign"


def test_sizes_and_times_of_entries(engine: FileEngine) -> None:
    """An entry tells the file's size and time, in UTC, and the last time that can be told for one beyond."""
    engine.batch_save({"session:1": b"12345", "late": b""})
    os.utime(engine.path_for("session:1"), (1_700_000_000.25, 1_700_000_000.25))
    os.utime(engine.path_for("late"), (300_000_000_000, 300_000_000_000))
    (entry,) = engine.entries("session:")
    assert (entry.key, entry.size, entry.ambiguous) == ("session:1", 5, False)
    assert entry.modified == datetime.fromtimestamp(1_700_000_000.25, UTC)
    assert entry.filename == filename_for("session:1")
    (late,) = engine.entries("late")
    assert late.modified is not None
    assert late.modified.year in (9999, 2446)  # ext4 keeps 34 bits of seconds


def test_two_changes_within_one_tick_of_the_clock_have_two_tokens(engine: FileEngine) -> None:
    """A directory whose time is younger than a clock's tick may change again without a new time: no equal tokens."""
    for _ in range(20):  # a machine that was held up in between shows nothing: try again
        now = time.time_ns()
        os.utime(engine.base_dir, ns=(now, now))
        before = engine.change_token()
        if time.time_ns() - now < 15_000_000:
            break
    (engine.base_dir / "changed").touch()
    os.utime(engine.base_dir, ns=(now, now))
    assert engine.change_token() != before


def test_a_listing_during_overwrites_holds_every_key_once(tmp_path: Path) -> None:
    """While every value is overwritten again and again, each listing holds all keys, each once."""
    shared = Path("/dev/shm")  # noqa: S108 - tmpfs moves a renamed file to a new place in the listing
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as base:
        engine = FileEngine(base, fsync=False)
        keys = [f"key:{number}" for number in range(300)]
        engine.batch_save(dict.fromkeys(keys, b"0"))
        stop = threading.Event()

        def overwrite() -> None:
            while not stop.wait(0.002):
                engine.batch_save(dict.fromkeys(keys[:20], b"1"))

        overwriting = threading.Thread(target=overwrite)
        overwriting.start()
        try:
            for _ in range(60):
                assert engine.list_keys() == sorted(keys)
        finally:
            stop.set()
            overwriting.join()


def test_engine_and_errors_survive_pickling(engine: FileEngine) -> None:
    """A worker process gets the same directory, also after a cached load, and the same error."""
    engine.save("key", b"value")
    engine.load_cached("key")
    again = pickle.loads(pickle.dumps(engine))  # noqa: S301 - our own bytes
    assert (again.base_dir, again.fsync, again.load("key")) == (engine.base_dir, False, b"value")
    assert repr(again) == f"FileEngine({str(engine.base_dir)!r}, fsync=False)"
    shutil.rmtree(engine.base_dir)
    gone = pickle.loads(pickle.dumps(engine))  # noqa: S301 - the error comes with the first use, not in the pool
    with pytest.raises(StorageError, match="does not exist") as caught:
        gone.load("key")
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (str(error), error.errno) == (str(caught.value), caught.value.errno)
