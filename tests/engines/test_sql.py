"""What SQLPersistenceBackend promises beyond the contract."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import anyio
import psycopg
import pytest
from servers import free_port

from persistkit.backends.sql import SQLPersistenceBackend
from persistkit.errors import BatchError, StorageError

_RACE = """
import asyncio, sys
from persistkit.backends.sql import SQLPersistenceBackend
async def main():
    async with SQLPersistenceBackend(sys.argv[1], create=True) as backend:
        await backend.save(f"process:{sys.argv[2]}", b"value")
asyncio.run(main())
"""


def race(address: str) -> list[str]:
    """Let six processes open an empty database at once, and return the keys they saved."""
    processes = [subprocess.Popen([sys.executable, "-c", _RACE, address, str(number)]) for number in range(6)]
    assert [process.wait(60) for process in processes] == [0] * 6

    async def keys() -> list[str]:
        async with SQLPersistenceBackend(address) as backend:
            return await backend.list_keys()

    return asyncio.run(keys())


def test_many_processes_make_one_sqlite_file(tmp_path: Path) -> None:
    """Processes that create the same SQLite file at the same moment all succeed, and share it."""
    assert race(f"sqlite:///{tmp_path}/state.db") == [f"process:{number}" for number in range(6)]


def test_many_processes_make_one_table_in_postgresql(postgresql_address: str) -> None:
    """Processes that create the same PostgreSQL table at the same moment all succeed, and share it."""
    with psycopg.connect(postgresql_address) as connection:
        connection.execute("DROP TABLE IF EXISTS persistkit, persistkit_version")
    assert race(postgresql_address) == [f"process:{number}" for number in range(6)]


async def test_a_file_that_is_not_there_is_not_made_by_accident(tmp_path: Path) -> None:
    """Without create, a missing file and a database without the table are errors that name the next step."""
    with pytest.raises(StorageError, match="create=True"):
        SQLPersistenceBackend(f"sqlite:///{tmp_path}/missing.db")
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE foreign_table (x)")
    async with SQLPersistenceBackend(f"sqlite:///{other}") as backend:
        with pytest.raises(StorageError, match="create=True"):
            await backend.load("key")


async def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    """Damage is an error and never a missing value."""
    (tmp_path / "state.db").write_bytes(b"this is not a database, and long enough to be looked at" * 100)
    async with SQLPersistenceBackend(f"sqlite:///{tmp_path}/state.db") as backend:
        with pytest.raises(StorageError, match="not a database"):
            await backend.load("key")


async def test_a_newer_version_of_the_table_is_refused(tmp_path: Path) -> None:
    """A table made by a later persistkit is not written."""
    address = f"sqlite:///{tmp_path}/state.db"
    async with SQLPersistenceBackend(address, create=True) as backend:
        await backend.save("key", b"value")
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute("UPDATE persistkit_version SET version = 2")
        connection.commit()
    async with SQLPersistenceBackend(address) as backend:
        with pytest.raises(StorageError, match="version 2"):
            await backend.save("key", b"new")


async def test_a_failed_batch_stores_nothing(tmp_path: Path) -> None:
    """When one row of a batch is refused, no row of it is stored, and the error names every key."""
    path = tmp_path / "state.db"
    async with SQLPersistenceBackend(f"sqlite:///{path}", create=True) as backend:
        await backend.save("kept", b"old")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON persistkit WHEN NEW.key = CAST('run:999' AS BLOB) "
                "BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
            )
            connection.commit()
        items = {"kept": b"new"} | {f"run:{number}": b"value" for number in range(1000)}
        with pytest.raises(BatchError, match="refused by the test") as caught:
            await backend.batch_save(items)
        assert set(caught.value.failures) == set(items)
        assert await backend.list_keys() == ["kept"]
        assert await backend.load("kept") == b"old"


async def test_a_cancelled_save_waits_without_keeping_a_processor_busy(tmp_path: Path) -> None:
    """A scope that cancels again and again does not make the wait for the statement spin."""
    path = tmp_path / "state.db"
    async with SQLPersistenceBackend(f"sqlite:///{path}", create=True) as backend:
        await backend.save("key", b"old")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with anyio.CancelScope() as scope:
                asyncio.get_running_loop().call_later(0.1, scope.cancel)
                asyncio.get_running_loop().call_later(1.1, other.execute, "ROLLBACK")
                began = time.process_time()
                await backend.save("key", b"new")
            assert scope.cancelled_caught
        assert time.process_time() - began < 0.1
        assert await backend.load("key") == b"new"


def test_two_tables_share_a_database(tmp_path: Path) -> None:
    """Backends with different tables do not see each other's keys."""

    async def main() -> None:
        address = f"sqlite:///{tmp_path}/state.db"
        async with (
            SQLPersistenceBackend(address, create=True) as one,
            SQLPersistenceBackend(address, create=True, table="other") as two,
        ):
            await one.save("key", b"one")
            assert await two.load("key") is None

    asyncio.run(main())


def test_a_pickled_backend_opens_the_same_file(tmp_path: Path) -> None:
    """A backend goes to another process and finds the same values there."""
    backend = SQLPersistenceBackend(f"sqlite:///{tmp_path}/state.db", create=True)
    asyncio.run(backend.save("key", b"value"))
    assert asyncio.run(pickle.loads(pickle.dumps(backend)).load("key")) == b"value"  # noqa: S301 - its own bytes


def test_a_forked_child_opens_its_own_connection(tmp_path: Path) -> None:
    """Parent and child go on using one backend, each through a connection of its own."""
    script = f"""
import asyncio, os
from persistkit.backends.sql import SQLPersistenceBackend
from persistkit import BlockingBackend
backend = BlockingBackend(SQLPersistenceBackend("sqlite:///{tmp_path}/state.db", create=True))
backend.save("parent", b"1")
child = os.fork()
if child == 0:
    assert backend.load("parent") == b"1"
    backend.save("child", b"2")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert backend.load("child") == b"2"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


async def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    """A refused connection is an error that names the place, and neither it nor the repr shows the password."""
    address = f"postgresql://someone:s3cret@127.0.0.1:{free_port()}/state?password=s3cret2"
    async with SQLPersistenceBackend(address, timeout_seconds=2) as backend:
        with pytest.raises(StorageError, match=r"127\.0\.0\.1") as caught:
            await backend.load("key")
        assert "s3cret" not in repr(backend) + str(caught.value) + repr(pickle.dumps(backend))


async def test_a_server_that_hangs_is_an_error_within_the_timeout(postgresql_address: str) -> None:
    """A stopped server makes an error that tells the timeout, and the backend works again when it goes on."""
    async with SQLPersistenceBackend(postgresql_address, create=True, timeout_seconds=1) as backend:
        await backend.save("key", b"old")
        with psycopg.connect(postgresql_address) as connection:
            # The connection that asks is one of them, and ends.
            servers = [row[0] for row in connection.execute("SELECT pid FROM pg_stat_activity")]
        for pid in servers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            with pytest.raises(StorageError, match="no answer within 1 s"):
                await backend.save("key", b"new")
        finally:
            for pid in servers:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        assert time.monotonic() - began < 30
        assert await backend.load("key") in {b"old", b"new"}


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///:memory:", "mysql://host/base", "nonsense"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    """What is neither a SQLite file nor PostgreSQL is refused when the backend is made."""
    with pytest.raises(ValueError, match=r"sqlite:///"):
        SQLPersistenceBackend(address)


async def test_a_change_token_sees_other_writers_of_the_file(tmp_path: Path) -> None:
    """What another connection commits, also the standard library's, moves the token; what it rolls back does not."""
    path = tmp_path / "state.db"
    async with SQLPersistenceBackend(f"sqlite:///{path}", create=True) as backend:
        await backend.save("key", b"value")
        before = await backend.change_token()
        assert await backend.change_token() == before
        with closing(sqlite3.connect(path)) as other:
            other.execute("DELETE FROM persistkit")
            assert await backend.change_token() == before
            other.rollback()
            assert await backend.change_token() == before
            other.execute("DELETE FROM persistkit")
            other.commit()
        assert await backend.change_token() != before
        assert await backend.list_keys() == []


async def test_a_change_token_waits_for_the_commit_in_postgresql(postgresql_address: str) -> None:
    """Whatever a writer has done before it commits, the token seen meanwhile differs from the one after its commit."""
    async with SQLPersistenceBackend(postgresql_address, create=True, table="changing") as backend:
        await backend.batch_save({"key": b"value", "other": b"value"})
        for statement in ("UPDATE changing SET size = size + 1", "DELETE FROM changing"):
            with psycopg.connect(postgresql_address) as writer:
                writer.execute(statement)
                meanwhile = await backend.change_token()
                writer.commit()
            assert await backend.change_token() != meanwhile
        assert await backend.list_keys() == []


def test_a_change_token_of_an_ended_connection_is_never_seen_again(tmp_path: Path) -> None:
    """Counts begin anew with each connection, and are not taken for those of the one before."""
    backend = SQLPersistenceBackend(f"sqlite:///{tmp_path}/state.db", create=True)
    asyncio.run(backend.save("key", b"value"))
    before = asyncio.run(backend.change_token())
    asyncio.run(backend.save("key", b"other"))
    assert asyncio.run(backend.change_token()) != before


async def test_a_connection_the_server_has_closed_is_opened_again(postgresql_address: str) -> None:
    """Idle connections that the server ended, as a restart does, are replaced without an error."""
    async with SQLPersistenceBackend(postgresql_address, create=True, table="restarted") as backend:
        await asyncio.gather(*(backend.save(f"key:{number}", b"value") for number in range(4)))
        with psycopg.connect(postgresql_address) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        assert await backend.batch_load([f"key:{number}" for number in range(4)]) == [b"value"] * 4


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_batches_that_cross_do_not_lock_each_other_out(
    tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    """Batches of the same keys in opposite orders, at once, all succeed."""
    address = f"sqlite:///{tmp_path}/state.db" if engine == "sqlite" else request.getfixturevalue("postgresql_address")
    keys = [f"key:{number:03}" for number in range(300)]
    async with SQLPersistenceBackend(address, create=True, table="crossing") as backend:
        for _ in range(5):
            await asyncio.gather(
                backend.batch_save(dict.fromkeys(keys, b"one")),
                backend.batch_save(dict.fromkeys(reversed(keys), b"two")),
                backend.batch_delete(keys),
                backend.batch_delete(reversed(keys)),
            )
        values = await backend.batch_load(keys)
        assert len(set(values)) == 1


async def test_a_listing_in_postgresql_reads_each_row_once(
    postgresql_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page goes on by the index where the last one ended, and never sorts the table anew."""
    monkeypatch.setattr("persistkit.backends.sql._PAGE", 500)
    keys = [f"key:{number:04}" for number in range(3000)]
    async with SQLPersistenceBackend(postgresql_address, create=True, table="paged") as backend:
        for start in range(30):
            await backend.batch_save(dict.fromkeys(keys[start::30], b"value"))
        assert await backend.list_keys() == keys
        assert [entry.key async for entry in backend.entries("key:05")] == keys[500:600]
    # What a connection did is counted at the latest when it ends.
    read = (
        "SELECT t.seq_tup_read + i.idx_tup_read FROM pg_stat_user_tables t JOIN pg_stat_user_indexes i USING (relid) "
        "WHERE t.relname = 'paged'"
    )
    with psycopg.connect(postgresql_address, autocommit=True) as connection:
        for _ in range(500):
            ((rows,),) = connection.execute(read).fetchall()
            if rows >= len(keys):
                break
            time.sleep(0.02)
        assert len(keys) <= rows < 1.2 * len(keys)
