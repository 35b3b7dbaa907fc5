"""The contract on a real PostgreSQL server."""

from __future__ import annotations

import psycopg
import pytest

from persistkit import PersistenceBackend
from persistkit.backends.sql import SQLPersistenceBackend
from persistkit.testing import BackendContract


class TestPostgreSQL(BackendContract):
    """SQLPersistenceBackend on PostgreSQL, read back by psycopg."""

    tries_the_limit = True

    @pytest.fixture(autouse=True)
    def _server(self, postgresql_address: str) -> None:
        self.address = postgresql_address
        with psycopg.connect(postgresql_address) as connection:
            connection.execute("DROP TABLE IF EXISTS persistkit, persistkit_version")

    def make_backend(self) -> PersistenceBackend:
        """Make the tables anew."""
        return SQLPersistenceBackend(self.address, create=True)

    async def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | None:  # noqa: ARG002 - the row is the route
        """Read the row."""
        with psycopg.connect(self.address) as connection:
            row = connection.execute("SELECT value FROM persistkit WHERE key = %b", (key.encode(),)).fetchone()
        return None if row is None else bytes(row[0])
