"""PostgreSQLSource: another program's tables on a PostgreSQL server."""

from __future__ import annotations

from persistkit.engines.foreign.rows import Source
from persistkit.engines.postgresql import PostgreSQLEngine

__all__ = ["PostgreSQLSource"]


class PostgreSQLSource(Source, PostgreSQLEngine):
    """The connections of ``PostgreSQLEngine``, without its table."""

    all_columns = (
        "SELECT table_name::text, column_name::text FROM information_schema.columns "
        "WHERE table_schema = ANY(current_schemas(FALSE))"
    )
    text_mark = "convert_from(%b, 'UTF8')"
    is_text = is_number = "TRUE"  # here a column has a type
    json = "convert_to(t.{0}::text, 'UTF8')"
    as_bytes = "{0}"
    size = "octet_length({0})"
    takes_any_text = False
