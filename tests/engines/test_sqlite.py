"""SQLiteEngine: the contract, and what is true of a SQLite file alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from persistkit.engine import Engine
from persistkit.engines.sqlite import SQLiteEngine
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
