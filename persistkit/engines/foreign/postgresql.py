"""PostgreSQLSource: another program's tables on a PostgreSQL server."""

from __future__ import annotations

from typing import Any

from persistkit.engines.postgresql import PostgreSQLEngine

__all__ = ["PostgreSQLSource"]


class PostgreSQLSource(PostgreSQLEngine):
    """The connections of an engine, without its table; the attributes are those of ``Source``."""

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

    def _see_table(self, connection: Any) -> None:
        """Look for nothing."""
