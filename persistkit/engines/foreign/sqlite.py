"""SQLiteSource: the SQLite file of another program."""

from __future__ import annotations

from persistkit.engines.foreign.rows import Source
from persistkit.engines.sqlite import SQLiteEngine

__all__ = ["SQLiteSource"]


class SQLiteSource(Source, SQLiteEngine):
    """The connections of ``SQLiteEngine``, without its table."""

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
