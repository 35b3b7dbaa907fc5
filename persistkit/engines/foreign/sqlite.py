"""SQLiteSource: the SQLite file of another program."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Final

from persistkit.engines.foreign.rows import Identity, Row, Table, text_of
from persistkit.engines.sqlite_read_only import ReadOnlyDatabase
from persistkit.errors import StorageError

__all__ = ["SQLiteSource"]

_text: Final = partial(str, encoding="utf-8", errors="surrogateescape")  # what is called text need not be UTF-8


class SQLiteSource:
    """A SQLite file, of which no byte is changed (``ReadOnlyDatabase``).

    Args:
        path: of the file.
        timeout_seconds: how long to wait for a moment in which it can be read.
    """

    def __init__(self, path: str, timeout_seconds: float) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds
        self._database = ReadOnlyDatabase(path, timeout_seconds=timeout_seconds)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._path, self._timeout_seconds)

    def read(self, tried: str, statement: str, parameters: Identity = ()) -> list[Row]:
        """Return all rows of a statement."""
        return self._run(tried, statement, [parameters])

    def find(self, tried: str, select: str, table: Table, wanted: Sequence[Identity]) -> list[Row]:
        """Return the rows with these identities, or their first parts."""
        conditions = [f"{name} = {mark}" for name, mark in zip(table.identity, self.marks(table), strict=True)]
        return self._run(tried, " AND ".join([select, *conditions[: len(wanted[0])]]), wanted)

    def _run(self, tried: str, statement: str, wanted: Sequence[Identity]) -> list[Row]:
        def work(connection: sqlite3.Connection) -> list[Row]:
            connection.text_factory = _text
            return [row for parameters in wanted for row in connection.execute(statement, parameters)]

        try:
            return self._database.run(work)
        except sqlite3.Error as error:
            raise StorageError(f"{tried} in {self._path!r}: {error}") from error

    def marks(self, table: Table) -> list[str]:
        """Return the placeholders of the key columns."""
        marks = ["CAST(? AS TEXT)"] * len(table.identity)
        return [*marks[:-1], "?"] if table.has_number else marks

    def bytes_of(self, data: str) -> str:
        """Return the SQL expression of ``data`` as bytes."""
        return f"CAST({data} AS BLOB)"

    def size_of(self, data: str) -> str:
        """Return the SQL expression of how many bytes these are, found without reading them where they are bytes."""
        return f"iif(typeof({data}) = 'blob', length({data}), length(CAST({data} AS BLOB)))"

    def is_key(self, table: Table) -> str:
        """Return the condition that the key columns hold text, and a number."""
        kinds = ["text"] * (len(table.identity) - table.has_number) + ["integer"] * table.has_number
        return " AND ".join(f"typeof({name}) = '{kind}'" for name, kind in zip(table.identity, kinds, strict=True))

    def change_token(self) -> object:
        """Return what moves with every commit."""
        return self._database.change_token()

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def tables(self) -> dict[str, set[str]]:
        """Return the names of the tables, each with those of its columns; views are none."""
        statement = (
            "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table' "
            "AND m.rootpage > 0 AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
        found: dict[str, set[str]] = {}
        for table, column in self.read("look for tables", statement):
            found.setdefault(str(text_of(table)), set()).add(str(text_of(column)))
        return found
