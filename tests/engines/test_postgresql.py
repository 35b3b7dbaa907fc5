"""PostgreSQLEngine: the contract, and what is true of a PostgreSQL server alone."""

from __future__ import annotations

import time
import uuid
from functools import partial
from typing import Any

import psycopg
import pytest

from persistkit.engine import Engine
from persistkit.engines.postgresql import PostgreSQLEngine
from persistkit.testing import EngineContract
from persistkit.testing.sharing import run_threads


class TestPostgreSQL(EngineContract):
    """PostgreSQLEngine on a real server, read back by psycopg."""

    tries_the_limit = True

    @pytest.fixture(autouse=True)
    def _server(self, postgresql_address: str) -> None:
        self.address = postgresql_address
        with psycopg.connect(postgresql_address) as connection:
            connection.execute("DROP TABLE IF EXISTS persistkit, persistkit_version")

    def make_engine(self) -> Engine:
        """Make the tables anew."""
        return PostgreSQLEngine(self.address, create=True)

    def read_raw(self, engine: Engine, key: str) -> bytes | None:  # noqa: ARG002 - the row is the route
        """Read the row."""
        with psycopg.connect(self.address) as connection:
            row = connection.execute("SELECT value FROM persistkit WHERE key = %b", (key.encode(),)).fetchone()
        return None if row is None else bytes(row[0])


@pytest.fixture
def address(postgresql_address: str) -> str:
    """The address of the server, with a name that its connections bear."""
    return f"{postgresql_address}?application_name=test{uuid.uuid4().hex}"


def ask(address: str, statement: str) -> list[Any]:
    """Execute one statement by psycopg."""
    with psycopg.connect(address, autocommit=True, application_name="second route") as connection:
        cursor = connection.execute(statement)
        return [] if cursor.description is None else cursor.fetchall()


def servers_of(address: str) -> list[int]:
    """Return the processes that serve the connections made with an address."""
    name = address.partition("=")[2]
    return [pid for (pid,) in ask(address, f"SELECT pid FROM pg_stat_activity WHERE application_name = '{name}'")]  # noqa: S608


def test_a_connection_the_server_has_closed_is_opened_again(address: str) -> None:
    """Idle connections that the server ended, as a restart does, are replaced without an error."""
    with PostgreSQLEngine(address, create=True, table="restarted") as engine:
        run_threads(*(partial(engine.save, f"key:{number}", b"value") for number in range(4)))
        for process in servers_of(address):
            assert ask(address, f"SELECT pg_terminate_backend({process}, 10000)") == [(True,)]
        assert engine.batch_load([f"key:{number}" for number in range(4)]) == [b"value"] * 4
        run_threads(*(partial(engine.load, f"key:{number}") for number in range(4)))


def test_threads_share_eight_connections(address: str) -> None:
    """However many threads work at the same time, the server sees eight connections at most, and none after close."""
    with PostgreSQLEngine(address, create=True, table="shared") as engine:

        def work() -> None:
            for number in range(20):
                engine.save(f"key:{number}", b"value")
                assert engine.load(f"key:{number}") == b"value"

        run_threads(*[work] * 20)
        assert 1 <= len(servers_of(address)) <= 8
    deadline = time.monotonic() + 30
    while servers_of(address) and time.monotonic() < deadline:
        pass
    assert servers_of(address) == []


@pytest.mark.parametrize(
    "address", ["postgresql://host/state?nonsense=1", "postgresql://host:port/state", "postgresql://me:p@ss@host/state"]
)
def test_an_address_that_is_wrong_is_refused(address: str) -> None:
    """What libpq cannot read is refused when the engine is made."""
    with pytest.raises(ValueError, match=r"an address|nonsense"):
        PostgreSQLEngine(address)


def test_a_change_token_waits_for_the_commit(address: str) -> None:
    """Whatever a writer has done before it commits, the token seen meanwhile differs from the one after its commit."""
    with PostgreSQLEngine(address, create=True, table="changing") as engine:
        engine.batch_save({"key": b"value", "other": b"value"})
        for statement in ("UPDATE changing SET size = size + 1", "DELETE FROM changing"):
            with psycopg.connect(address) as writer:
                writer.execute(statement)
                meanwhile = engine.change_token()
                assert engine.change_token() == meanwhile
                writer.commit()
            assert engine.change_token() != meanwhile
        assert engine.list_keys() == []


def test_a_listing_reads_each_row_once(address: str) -> None:
    """A page goes on by the index where the last one ended, and never sorts the table anew."""
    with PostgreSQLEngine(address, create=True, table="paged") as engine:
        assert engine.key_count() == 0
        ask(
            address,
            "INSERT INTO paged SELECT convert_to('key:' || lpad(n::text, 5, '0'), 'UTF8'), 1, 0, 'x' "
            "FROM (SELECT generate_series(0, 44999) AS n ORDER BY random()) AS numbers",
        )
        assert engine.list_keys() == [f"key:{number:05}" for number in range(45_000)]
        assert [entry.key for entry in engine.entries("key:0005")] == [f"key:{number:05}" for number in range(50, 60)]
    # What a connection did is counted at the latest when it ends.
    read = (
        "SELECT t.seq_tup_read + i.idx_tup_read FROM pg_stat_user_tables t JOIN pg_stat_user_indexes i USING (relid) "
        "WHERE t.relname = 'paged'"
    )
    deadline = time.monotonic() + 30
    while (rows := ask(address, read)[0][0]) < 45_000 and time.monotonic() < deadline:
        pass
    assert 45_000 <= rows < 1.2 * 45_000
