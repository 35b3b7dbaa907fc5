"""What both SQL engines promise beyond the contract, each on a database of its own."""

# ruff: noqa: S608 - the only name put into a statement is the table's

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from persistkit.engine import Engine
from persistkit.engines import open_engine
from persistkit.errors import BatchError, ReadOnlyError, StorageError
from persistkit.testing.sharing import run_threads


class Database(NamedTuple):
    """An empty database, or one table's place in it, and a second route to it.

    Attributes:
        execute: executes one statement, by the plain client, on a connection of its own.
        blob: writes bytes, given in hexadecimal, as a literal.
    """

    address: str
    table: str
    execute: Callable[[str], list[Any]]
    blob: str

    def open(self, **options: Any) -> Engine:
        """Open the engine on the table. Any: options are of any type."""
        return open_engine(self.address, **{"create": True, "table": self.table, **options})


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Each of the two."""
    if request.param == "sqlite":
        path = tmp_path / "state.db"

        def execute(statement: str) -> list[Any]:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                return connection.execute(statement).fetchall()

        yield Database(f"sqlite:///{path}", "persistkit", execute, "x'{}'")
        return
    address, table = request.getfixturevalue("postgresql_address"), f"t{uuid.uuid4().hex}"

    def ask(statement: str) -> list[Any]:
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return [] if cursor.description is None else cursor.fetchall()

    yield Database(address, table, ask, r"'\x{}'")
    ask(f"DROP TABLE IF EXISTS {table}, {table}_version")


def test_a_database_without_the_table_is_an_error(database: Database) -> None:
    """Without create the error names the next step, and no table is made."""
    database.execute(f"CREATE TABLE {database.table}_other (number INTEGER)")
    with database.open(create=False) as engine:
        for call in (engine.load, engine.delete):
            with pytest.raises(StorageError, match="create=True"):
                call("key")
    with pytest.raises((sqlite3.Error, psycopg.Error)):
        database.execute(f"SELECT * FROM {database.table}")
    database.execute(f"DROP TABLE {database.table}_other")


def test_a_newer_version_of_the_table_is_refused(database: Database) -> None:
    """A table made by a later persistkit is not written."""
    with database.open() as engine:
        engine.save("key", b"value")
    database.execute(f"UPDATE {database.table}_version SET version = 2")
    with database.open() as engine, pytest.raises(StorageError, match="version 2"):
        engine.save("key", b"new")


def test_a_failed_batch_stores_nothing(database: Database) -> None:
    """When one row of a batch is refused, no row of it is stored, and the error names every key."""
    with database.open() as engine:
        engine.save("kept", b"old")
        database.execute(f"CREATE UNIQUE INDEX {database.table}_sizes ON {database.table} (size)")
        items = {f"run:{number:03}": b"x" * number for number in range(10, 900)}
        items |= {"kept": b"newer", "zebra": b"x" * 10}
        with pytest.raises(BatchError, match=r"(?i)unique.*nothing of the batch") as caught:
            engine.batch_save(items)
        assert set(caught.value.failures) == set(items)
        assert engine.list_keys() == ["kept"]
        assert engine.load("kept") == b"old"
        engine.batch_save({"kept": b"newest"})
        assert engine.load("kept") == b"newest"


def test_batches_that_cross_do_not_lock_each_other_out(database: Database) -> None:
    """Batches of the same keys in opposite orders, at once, all succeed."""
    keys = [f"key:{number:03}" for number in range(300)]
    with database.open() as engine, database.open() as other:
        for _ in range(5):
            run_threads(
                lambda: engine.batch_save(dict.fromkeys(keys, b"one")),
                lambda: other.batch_save(dict.fromkeys(reversed(keys), b"two")),
                lambda: engine.batch_delete(keys),
                lambda: other.batch_delete(reversed(keys)),
            )
        assert len(set(engine.batch_load(keys))) == 1


def test_rows_of_other_programs_stand_in_nobodys_way(database: Database) -> None:
    """A key that is no key is listed with key None and counted; an odd size or time is not believed."""
    with database.open() as engine:
        engine.save("good", b"value")
        for raw, size, modified in (("ff", 1, 1), ("610062", 1, 1), ("61" * 1025, 1, 1), ("6f6464", -5, 2**62)):
            values = f"{database.blob.format(raw)}, {size}, {modified}, {database.blob.format('6162')}"
            database.execute(f"INSERT INTO {database.table} VALUES ({values})")
        assert engine.list_keys() == ["good", "odd"]
        assert engine.batch_load(["good", "odd"]) == [b"value", b"ab"]
        assert engine.key_count() == len(list(engine.entries())) == 5
        assert [entry[:3] for entry in engine.entries("o")] == [("odd", 2, None)]
        assert list(engine.entries("a")) == []


def test_the_table_of_an_older_persistkit_is_read(database: Database) -> None:
    """The schema is what it always was: a table made by its statements, and a row in it, are found."""
    bytes_type = "BLOB" if database.address.startswith("sqlite") else "BYTEA"
    table, hexed = database.table, database.blob.format
    for statement in (
        f"CREATE TABLE {table} (key {bytes_type} NOT NULL, size BIGINT NOT NULL, modified BIGINT NOT NULL, "
        f"value {bytes_type} NOT NULL, PRIMARY KEY (key))",
        f"CREATE TABLE {table}_version (version INTEGER NOT NULL, PRIMARY KEY (version))",
        f"INSERT INTO {table}_version VALUES (1)",
        f"INSERT INTO {table} VALUES ({hexed('6b6579')}, 2, 1700000000000001, {hexed('6162')})",
    ):
        database.execute(statement)
    with database.open(create=False) as engine:
        assert engine.load("key") == b"ab"
        assert [entry[:3] for entry in engine.entries()] == [("key", 2, datetime(2023, 11, 14, 22, 13, 20, 1, UTC))]
        engine.save("new", b"three")
    read = f"SELECT size, value FROM {table} WHERE key = {hexed('6e6577')}"
    assert [(size, bytes(value)) for size, value in database.execute(read)] == [(5, b"three")]


def test_two_tables_share_a_database(database: Database) -> None:
    """Engines with different tables do not see each other's keys; none can take the place of another's version."""
    with database.open() as one, database.open(table=f"{database.table}2") as two:
        one.save("key", b"one")
        assert two.load("key") is None
    database.execute(f"DROP TABLE {database.table}2")
    database.execute(f"DROP TABLE {database.table}2_version")
    for table in (f"{database.table}_version", f"{database.table}_VERSION"):
        with pytest.raises(ValueError, match="cannot be named"):
            database.open(table=table)
        with database.open(create=False, table=table) as versions, pytest.raises(StorageError):
            versions.load("key")
    with database.open() as one:
        assert one.load("key") == b"one"


def test_read_only_refuses_every_write(database: Database) -> None:
    """Also without the wrapper that open_engine puts around it, the engine refuses to write."""
    with database.open() as engine:
        engine.save("key", b"value")
    engine = type(engine)(database.address, table=database.table, read_only=True)  # type: ignore[call-arg]
    writes: list[Callable[[], object]] = [
        lambda: engine.save("key", b"new"),
        lambda: engine.delete("key"),
        lambda: engine.batch_save({"key": b"new"}),
        lambda: engine.batch_delete(["key"]),
        lambda: engine.add("new", b"new"),
        lambda: engine.replace("key", b"new", b"value"),
    ]
    for write in writes:
        with pytest.raises(ReadOnlyError):
            write()
    assert engine.load("key") == b"value"
    engine.close()
