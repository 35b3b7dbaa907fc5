"""PostgreSQLEngine: the contract, and what is true of a PostgreSQL server alone."""

from __future__ import annotations

import psycopg
import pytest

from persistkit.engine import Engine
from persistkit.engines.postgresql import PostgreSQLEngine
from persistkit.testing import EngineContract


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
