"""SQLiteEngine: the contract, and what is true of a SQLite file alone."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from children import CAN_REFUSE_SYNCS, become_nobody, in_child, refuse_syncs

from persistkit.engine import Engine
from persistkit.engines.sqlite import SQLiteEngine
from persistkit.errors import BatchError, StorageError
from persistkit.testing import EngineContract


class TestSQLite(EngineContract):
    """SQLiteEngine on a file, read back by the standard library."""

    tries_the_limit = True

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "state.db"

    def make_engine(self) -> Engine:
        """Make an empty file."""
        return SQLiteEngine(f"sqlite:///{self.path}", create=True)

    def read_raw(self, engine: Engine, key: str) -> bytes | None:  # noqa: ARG002 - the file is the route
        """Read the row."""
        with closing(sqlite3.connect(self.path)) as connection:
            row = connection.execute("SELECT value FROM persistkit WHERE key = ?", (key.encode(),)).fetchone()
        return None if row is None else bytes(row[0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that does not exist yet."""
    return tmp_path / "state.db"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock until the block ends, as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def opened(path: Path, **options: Any) -> SQLiteEngine:
    """Open the file, and make it. Any: options are of any type."""
    return SQLiteEngine(f"sqlite:///{path}", create=True, **options)


@pytest.fixture
def engine(path: Path) -> Iterator[SQLiteEngine]:
    """The engine of a new file, with one value."""
    with opened(path) as engine:
        engine.save("key", b"old")
        yield engine


WRITES: dict[str, Callable[[Engine], object]] = {
    "save": lambda engine: engine.save("key", b"new"),
    "batch_save": lambda engine: engine.batch_save({"key": b"new"}),
    "add": lambda engine: engine.add("new", b"new"),
}


@pytest.mark.skipif(not CAN_REFUSE_SYNCS, reason="no seccomp filter is written for this machine")
@pytest.mark.parametrize("write", [*WRITES, "by hand, synchronous=NORMAL"])
def test_what_is_not_synced_is_not_acknowledged(path: Path, write: str) -> None:
    """Where the system refuses to sync, every write fails; a connection that does not sync shows the difference."""

    def work() -> None:
        with opened(path) as engine, closing(sqlite3.connect(path, isolation_level=None)) as hasty:
            engine.save("key", b"old")
            hasty.execute("PRAGMA synchronous=NORMAL")
            hasty.execute("UPDATE persistkit SET size = size")
            refuse_syncs()
            if write not in WRITES:
                hasty.execute("UPDATE persistkit SET size = size")
                return
            outcome = ".*all of the batch or nothing" if write == "batch_save" else ""
            with pytest.raises((StorageError, BatchError), match=f"disk I/O error{outcome}"):
                WRITES[write](engine)
            assert engine.load("key") in {b"old", b"new"}

    in_child(work)


def test_other_threads_read_while_one_waits_for_the_lock(path: Path, engine: SQLiteEngine) -> None:
    """A save that waits for another process keeps no thread from reading."""
    with locked(path):
        saving = threading.Thread(target=engine.save, args=("key", b"new"))
        saving.start()
        assert [engine.load("key") for _ in range(100)] == [b"old"] * 100
        assert saving.is_alive()
    saving.join(30)
    assert engine.load("key") == b"new"


def test_an_interrupt_ends_the_wait_for_a_lock(path: Path, engine: SQLiteEngine) -> None:
    """Ctrl-C ends a save that waits for another process within about a second, and the engine goes on working."""
    with locked(path):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            engine.save("key", b"new")
        assert time.monotonic() - began < 2
        assert engine.load("key") == b"old"
    engine.save("key", b"new")


def test_a_file_that_is_not_there_is_not_made_by_accident(path: Path) -> None:
    """Without create a missing file is an error that names the next step, later too; a folder is never made."""
    with pytest.raises(StorageError, match="create=True"):
        SQLiteEngine(f"sqlite:///{path}")
    with pytest.raises(StorageError, match="no directory"):
        opened(path.parent / "missing" / "state.db")
    for place, reason in ((path.parent, "directory"), (path.parent / ("x" * 300), "too long")):
        with pytest.raises(StorageError, match=reason):
            opened(place)
    opened(path).save("key", b"value")
    with SQLiteEngine(f"sqlite:///{path}") as engine:
        assert engine.load("key") == b"value"
        engine.close()
        for file in path.parent.iterdir():
            file.unlink()
        with pytest.raises(StorageError, match="no such file"):
            engine.save("key", b"value")
    assert list(path.parent.iterdir()) == []


def test_a_file_that_is_no_database_is_an_error(path: Path) -> None:
    """Damage is an error and never a missing value; the file stays as it is."""
    content = b"this is not a database, and long enough to be looked at" * 100
    path.write_bytes(content)
    for create, read_only in ((False, False), (True, False), (False, True)):
        engine = SQLiteEngine(f"sqlite:///{path}", create=create, read_only=read_only)
        with pytest.raises(StorageError, match=r"load 'key'.*not a database"):
            engine.load("key")
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_written_is_an_error_at_once(path: Path, engine: SQLiteEngine) -> None:
    """Who may not write is told within a second, and how to read; what was stored stays."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    engine.close()
    for folder in [path.parent, *path.parents[1:4]]:
        folder.chmod(0o755)

    closed = path.parent / "closed"
    closed.mkdir(mode=0o700)

    def work() -> None:
        become_nobody()
        began = time.monotonic()
        with pytest.raises(StorageError, match="read_only=True"):
            engine.save("key", b"new")
        assert time.monotonic() - began < 5
        for read_only in (True, False):
            with pytest.raises(StorageError, match="Permission denied"):
                SQLiteEngine(f"sqlite:///{closed}/state.db", read_only=read_only)

    in_child(work)
    assert engine.load("key") == b"old"


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///:memory:", "sqlite:///a.db?mode=ro", "mysql://host/base"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    """What does not name a file, and nothing but a file, is refused when the engine is made."""
    with pytest.raises(ValueError, match=r"sqlite:///"):
        SQLiteEngine(address)


@pytest.mark.parametrize(("value", "read"), [("'é'", "é".encode()), ("12", b"12"), ("x'00'", b"\0")])
def test_values_that_other_programs_stored_are_read_and_replaced(
    path: Path, engine: SQLiteEngine, value: str, read: bytes
) -> None:
    """Text and numbers are their bytes, in every operation; a key that is text is listed with key None."""
    engine.delete("key")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for key in ("x'6b6579'", "'text'"):
            other.execute(f"INSERT INTO persistkit VALUES ({key}, 'many', CAST(x'ff' AS TEXT), {value})")  # noqa: S608
    assert engine.load("key") == engine.read_range("key", 0, 9) == read
    assert engine.read_range("key", 1, 9) == read[1:]
    assert [entry[:3] for entry in engine.entries()] == [("key", len(read), None), (None, len(read), None)]
    assert engine.replace("key", b"new", read)
    assert engine.load("key") == b"new"


def test_a_change_token_sees_other_writers_of_the_file(path: Path, engine: SQLiteEngine) -> None:
    """What another connection commits moves the token, what it rolls back does not; a new connection counts anew."""
    before = engine.change_token()
    with closing(sqlite3.connect(path)) as other:
        for end in (other.rollback, other.commit):
            other.execute("DELETE FROM persistkit")
            assert engine.change_token() == before
            end()
            assert (engine.change_token() == before) == (end == other.rollback)
    assert engine.list_keys() == []
    engine.close()
    engine.save("key", b"other")
    assert engine.change_token() != before


def test_a_part_is_read_without_the_rest(engine: SQLiteEngine) -> None:
    """A small part of a large value takes little memory, wherever it begins."""
    engine.save("large", bytes(50_000_000) + b"end")
    engine.close()
    tracemalloc.start()
    try:
        assert engine.read_range("large", 50_000_000, 2**40) == b"end"
        assert engine.read_range("large", 2**40, 10) == b""
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
