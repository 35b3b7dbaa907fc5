"""What is opened read only does not change by one byte, whatever state its writer left it in, and is read truly."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from errno import ENOENT
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from children import become_nobody

from persistkit.engines import open_engine
from persistkit.errors import StorageError

# Another program: it makes the table, keeps "old" in the file and "new" in the log or journal, and waits.
WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=" + sys.argv[2])
connection.execute("CREATE TABLE persistkit (key BLOB PRIMARY KEY, size INTEGER, modified INTEGER, value BLOB)")
connection.execute("CREATE TABLE persistkit_version (version INTEGER)")
connection.execute("INSERT INTO persistkit_version VALUES (1)")
connection.execute("INSERT INTO persistkit VALUES (CAST('old' AS BLOB), 3, 0, CAST('one' AS BLOB))")
connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
connection.execute("INSERT INTO persistkit VALUES (CAST('new' AS BLOB), 3, 0, CAST('two' AS BLOB))")
if sys.argv[3] == "within":
    connection.execute("PRAGMA cache_size=1")
    connection.execute("BEGIN")
    connection.execute("UPDATE persistkit SET value = zeroblob(100000)")
    connection.execute("UPDATE persistkit SET value = zeroblob(200000)")
if sys.argv[3] == "reading":
    connection.execute("BEGIN")
    connection.execute("SELECT * FROM persistkit").fetchall()
if sys.argv[3] == "closed":
    connection.close()
print("ready", flush=True)
sys.stdin.read()
"""

CHANGING = """
import os, sqlite3, sys, time
end = time.monotonic() + 2
while time.monotonic() < end:
    connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
    connection.execute("PRAGMA wal_autocheckpoint=3")
    connection.execute("PRAGMA synchronous=OFF")
    for _ in range(40):
        value = os.urandom(16) * 1000
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT OR REPLACE INTO persistkit VALUES (?, 16000, 0, ?)", [(b"key:%d" % n, value) for n in range(5)]
        )
        connection.execute("COMMIT")
    connection.close()
    time.sleep(0.03)
"""

GROWING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=OFF", "PRAGMA wal_autocheckpoint=0"):
    connection.execute(statement)
connection.execute("CREATE TABLE other (number)")
print("ready", flush=True)
while True:
    connection.execute("INSERT INTO other VALUES (1)")
"""


@pytest.fixture
def path() -> Iterator[Path]:
    """A database that does not exist yet, in a folder that other users may read: pytest's own are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="persistkit-read-only-"))
    folder.chmod(0o755)
    yield folder / "state.db"
    shutil.rmtree(folder)


@contextmanager
def left_in(state: str, path: Path) -> Iterator[None]:
    """Leave the database in one of the states that other programs leave theirs in, until the block ends."""
    journal_mode, _, how = state.partition(", ")
    program = [sys.executable, "-c", WRITER, str(path), journal_mode, how]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            if how in {"killed", "log alone"}:
                process.kill()
                process.wait()
            if how == "log alone":
                Path(f"{path}-shm").unlink()
            yield
        finally:
            process.kill()


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file in the folder."""
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def read_everything(path: Path) -> dict[str, Any]:
    """Read by every operation."""
    began = time.monotonic()
    with open_engine(f"sqlite:///{path}", read_only=True) as engine:
        found: dict[str, Any] = {
            "load": [engine.load("old"), engine.load("new"), engine.load("missing")],
            "batch_load": engine.batch_load(["old", "new"]),
            "list_keys": engine.list_keys(),
            "entries": [(entry.key, entry.size) for entry in engine.entries("n")],
            "exists": [engine.exists("new"), engine.exists("missing")],
            "key_count": engine.key_count(),
            "read_range": engine.read_range("new", 1, 9),
        }
    assert time.monotonic() - began < 5
    return found


STATES = [
    *("WAL, closed", "WAL, open", "WAL, reading", "WAL, within", "WAL, killed", "WAL, log alone"),
    *("DELETE, closed", "DELETE, reading", "PERSIST, closed", "TRUNCATE, open"),
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("user", ["the same user", "another user, who may not write"])
def test_reading_changes_no_byte(path: Path, state: str, user: str) -> None:
    """Everything committed is read, at once, and neither the file nor its folder changes."""
    if user != "the same user" and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with left_in(state, path):
        before = contents(path.parent)
        if user == "the same user":
            found = read_everything(path)
        else:
            with get_context("fork").Pool(1, become_nobody) as pool:
                found = pool.apply(read_everything, (path,))
        assert contents(path.parent) == before
    assert found == {
        "load": [b"one", b"two", None],
        "batch_load": [b"one", b"two"],
        "list_keys": ["new", "old"],
        "entries": [("new", 3)],
        "exists": [True, False],
        "key_count": 2,
        "read_range": b"wo",
    }


def test_an_unfinished_rollback_is_an_error(path: Path) -> None:
    """A hot journal is left to the program that wrote it; what lies under it is not read as if it were committed."""
    with left_in("DELETE, within", path) as _:
        pass
    before = contents(path.parent)
    assert f"{path.name}-journal" in before
    with pytest.raises(StorageError, match="rollback"):
        open_engine(f"sqlite:///{path}", read_only=True).load("old")
    assert contents(path.parent) == before


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("state", ["WAL, closed", "WAL, log alone", "DELETE, closed", "empty", "empty, with a log"])
def test_a_database_without_the_table_is_never_changed(path: Path, state: str, read_only: bool) -> None:
    """Without create=True another program's database, or an empty file, is an error and stays as it is."""
    if state.startswith("empty"):
        path.touch()
        if state != "empty":
            Path(f"{path}-wal").write_bytes(b"all that is left of it")
    else:
        with left_in(state, path):
            pass
    before = contents(path.parent)
    with open_engine(f"sqlite:///{path}", read_only=read_only, table="other") as engine:
        with pytest.raises(StorageError, match="no table 'other'"):
            engine.load("key")
        with pytest.raises(StorageError, match="no table 'other'"):
            engine.list_keys()
    assert contents(path.parent) == before


def test_later_commits_are_seen(path: Path) -> None:
    """An engine that stays open reads what other programs commit, in a log or closed, and the token tells."""
    with left_in("WAL, closed", path):
        pass
    with open_engine(f"sqlite:///{path}", read_only=True) as engine:
        assert engine.load("later") is None
        for value in (b"one", b"two", b"six"):
            before = engine.change_token()
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("INSERT OR REPLACE INTO persistkit VALUES (?, 3, 0, ?)", (b"later", value))
                assert engine.load("later") == value
                assert engine.change_token() != before
            assert engine.load("later") == value
            assert engine.change_token() != before
        path.unlink()
        for call in (engine.change_token, engine.key_count):
            with pytest.raises(StorageError, match=r"'\): there is no such file$") as caught:
                call()
            assert caught.value.errno == ENOENT


def test_a_writer_that_never_pauses_hides_no_error(path: Path) -> None:
    """Each look finds a longer log: that the table is not there is told all the same, and not only in the end."""
    with subprocess.Popen([sys.executable, "-c", GROWING, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            began = time.monotonic()
            for _ in range(20):
                with (
                    open_engine(f"sqlite:///{path}", read_only=True, timeout_seconds=10) as engine,
                    pytest.raises(StorageError, match="no table 'persistkit'"),
                ):
                    engine.load("key")
            assert time.monotonic() - began < 1
        finally:
            process.kill()


def test_a_link_leads_to_the_log_beside_the_file(path: Path) -> None:
    """The log lies beside the file, and not beside a link to it."""
    with left_in("WAL, log alone", path):
        (path.parent / "links").mkdir()
        link = path.parent / "links" / "state.db"
        link.symlink_to(path)
        assert open_engine(f"sqlite:///{link}", read_only=True).load("new") == b"two"
        assert list(link.parent.iterdir()) == [link]


def test_nothing_torn_is_read_beside_a_writer(path: Path) -> None:
    """Values stored in one transaction are read as one, while another program commits, closes and opens again."""
    with left_in("WAL, closed", path):
        pass
    keys = [f"key:{number}" for number in range(5)]
    reads = 0
    with (
        subprocess.Popen([sys.executable, "-c", CHANGING, str(path)]) as process,
        open_engine(f"sqlite:///{path}", read_only=True) as engine,
    ):
        while process.poll() is None:
            assert len(set(engine.batch_load(keys))) == 1
            reads += 1
    assert process.returncode == 0
    assert reads > 20
