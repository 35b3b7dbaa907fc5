"""The contract on a SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from persistkit import PersistenceBackend
from persistkit.backends.sql import SQLPersistenceBackend
from persistkit.testing import BackendContract


class TestSQLite(BackendContract):
    """SQLPersistenceBackend on a file, read back by the standard library."""

    tries_the_limit = True

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "state.db"

    def make_backend(self) -> PersistenceBackend:
        """Make an empty file."""
        return SQLPersistenceBackend(f"sqlite:///{self.path}", create=True)

    async def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | None:  # noqa: ARG002 - the file is the route
        """Read the row."""
        with closing(sqlite3.connect(self.path)) as connection:
            row = connection.execute("SELECT value FROM persistkit WHERE key = ?", (key.encode(),)).fetchone()
        return None if row is None else bytes(row[0])
