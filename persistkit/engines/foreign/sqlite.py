"""SQLiteSource: the SQLite file of another program."""

from __future__ import annotations

import sqlite3

from persistkit.engines.sqlite import SQLiteEngine

__all__ = ["SQLiteSource"]


class SQLiteSource(SQLiteEngine):
    """The connections of an engine, without its table; the attributes are those of ``Source``."""

    all_columns = (
        "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table' "
        "AND m.rootpage > 0 AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    )
    text_mark = "CAST(? AS TEXT)"
    is_text = "typeof({0}) = 'text'"
    is_number = "typeof({0}) = 'integer'"
    json = "{0}"
    as_bytes = "CAST({0} AS BLOB)"
    size = "iif(typeof({0}) = 'blob', length({0}), length(CAST({0} AS BLOB)))"  # blobs are not read for it
    takes_any_text = True

    def _see_table(self, connection: sqlite3.Connection) -> None:
        """Look for nothing."""
