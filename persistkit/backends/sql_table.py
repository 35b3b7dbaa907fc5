"""SQLTable: the one table values are kept in, and the statements on it, for SQLite or PostgreSQL."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

__all__ = ["SCHEMA_VERSION", "SQLTable"]


def __dir__() -> list[str]:
    return __all__


SCHEMA_VERSION: Final = 1

_SEEN: Final = {
    "sqlite": "SELECT data_version, total_changes() FROM pragma_data_version",
    "postgresql": "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_snapshot()::text END",
}


class SQLTable:
    """The table of one backend: its schema, and its statements as the drivers take them.

    The statements go to the drivers as they stand here: compiled, bound and fetched by SQLAlchemy, a batch took four
    times as long.

    Args:
        name: of the table, a plain word; ``<name>_version`` keeps the version of the schema.
        dialect: ``sqlite`` or ``postgresql``.
    """

    def __init__(self, name: str, dialect: str) -> None:
        self.name = name
        self.dialect = dialect
        self.metadata = sa.MetaData()
        # The value comes last: SQLite reads a row from its start, and a listing stops before the value's pages.
        sa.Table(
            name,
            self.metadata,
            sa.Column("key", sa.LargeBinary, primary_key=True),
            sa.Column("size", sa.BigInteger, nullable=False),
            sa.Column("modified", sa.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
            sa.Column("value", sa.LargeBinary, nullable=False),
        )
        self.versions = sa.Table(
            f"{name}_version", self.metadata, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False)
        )
        # In binary: psycopg would send the keys of a batch as text, which takes half as long again.
        self._mark = mark = "?" if dialect == "sqlite" else "%b"
        self.begin = "BEGIN IMMEDIATE" if dialect == "sqlite" else "BEGIN"
        self.seen = _SEEN[dialect]
        self.upsert = (
            f'INSERT INTO "{name}" (key, size, modified, value) VALUES ({mark}, {mark}, {mark}, {mark}) '  # noqa: S608 - a plain word
            "ON CONFLICT (key) DO UPDATE SET size = excluded.size, modified = excluded.modified, value = excluded.value"
        )
        self.delete = f'DELETE FROM "{name}" WHERE key = {mark}'  # noqa: S608
        self.select_value = f'SELECT value FROM "{name}" WHERE key = {mark}'  # noqa: S608
        self.select_one = f'SELECT 1 FROM "{name}" WHERE key = {mark}'  # noqa: S608
        self.count = f'SELECT count(*) FROM "{name}"'  # noqa: S608

    def select_values(self, keys: list[bytes]) -> tuple[str, tuple[object, ...]]:
        """Return the statement for the rows (key, value) of several keys, and its parameters."""
        if self.dialect == "postgresql":
            return f'SELECT key, value FROM "{self.name}" WHERE key = ANY(%b)', (keys,)  # noqa: S608
        marks = ", ".join("?" * len(keys))
        return f'SELECT key, value FROM "{self.name}" WHERE key IN ({marks})', tuple(keys)  # noqa: S608

    def select_page(
        self, columns: str, last: bytes, end: bytes | None, limit: int, *, inclusive: bool
    ) -> tuple[str, tuple[object, ...]]:
        """Return the statement for the next rows after ``last`` and before ``end``, by key, and its parameters."""
        condition = f"key {'>=' if inclusive else '>'} {self._mark}"
        parameters: tuple[object, ...] = (last,)
        if end is not None:
            condition += f" AND key < {self._mark}"
            parameters += (end,)
        statement = f'SELECT {columns} FROM "{self.name}" WHERE {condition} ORDER BY key LIMIT {limit}'  # noqa: S608
        return statement, parameters
