"""PostgreSQLSource: rows of other programs' tables on a PostgreSQL server, and those of LangGraph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from persistkit.engines.foreign.langgraph import CHECKPOINT
from persistkit.engines.foreign.rows import Identity, Payload, Row, Table
from persistkit.engines.postgresql import PostgreSQLEngine

__all__ = ["PostgreSQLSource", "postgresql_tables"]

# A checkpoint's channels, but for small ones, are rows of another table, as old as their last change.
_CHANNELS: Final = """(
    SELECT array_agg(ARRAY[convert_to(b.channel, 'UTF8'), convert_to(b.type, 'UTF8'), {data}] ORDER BY b.channel)
    FROM jsonb_each_text(t.checkpoint -> 'channel_versions') AS v JOIN checkpoint_blobs AS b
    ON (b.thread_id, b.checkpoint_ns, b.channel, b.version) = (t.thread_id, t.checkpoint_ns, v.key, v.value)
    WHERE b.type <> 'empty')"""


class PostgreSQLSource:
    """A PostgreSQL database, which is only read.

    Args:
        address: as of ``PostgreSQLEngine``.
        timeout_seconds: how long the server may be silent.
    """

    def __init__(self, address: str, timeout_seconds: float) -> None:
        self._connections = _Connections(address, read_only=True, timeout_seconds=timeout_seconds)
        self.place = repr(self._connections)

    def read(self, tried: str, statement: str, parameters: Identity = ()) -> list[Row]:
        """Return all rows of a statement."""
        texts = _texts(parameters)
        return [] if texts is None else self._connections._read(tried, statement, texts)

    def find(self, tried: str, select: str, table: Table, wanted: Sequence[Identity]) -> list[Row]:
        """Return the rows with these identities, or their first parts."""
        texts = [text for identity in wanted if (text := _texts(identity)) is not None]
        count = len(wanted[0])
        marks = ", ".join([f"({', '.join(self.marks(table)[:count])})"] * len(texts))
        statement = f"{select} AND ({', '.join(table.identity[:count])}) IN ({marks})"
        return self._connections._read(tried, statement, [part for text in texts for part in text]) if texts else []

    def marks(self, table: Table) -> list[str]:
        """Return the placeholders of the key columns."""
        return ["%s"] * len(table.identity)

    def bytes_of(self, data: str) -> str:
        """Return the SQL expression of ``data`` as bytes."""
        return data

    def size_of(self, data: str) -> str:
        """Return the SQL expression of how many bytes these are."""
        return f"octet_length({data})"

    def is_key(self, table: Table) -> str:  # noqa: ARG002
        """Return the condition that always holds: here a column has a type."""
        return "TRUE"

    def change_token(self) -> object:
        """Return what moves with every commit."""
        return self._connections._change_token()

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def tables(self) -> dict[str, set[str]]:
        """Return the names of the tables, each with those of its columns."""
        statement = (
            "SELECT table_name::text, column_name::text FROM information_schema.columns "
            "WHERE table_schema = ANY(current_schemas(FALSE))"
        )
        found: dict[str, set[str]] = {}
        for table, column in self.read("look for tables", statement):
            found.setdefault(table, set()).add(column)
        return found


class _Connections(PostgreSQLEngine):
    """The connections of an engine, without its table."""

    def _see_table(self, connection: Any) -> None:
        """Look for nothing."""


def _texts(identity: Identity) -> list[Any] | None:
    """Return the key columns as the driver takes them; None for what PostgreSQL cannot store."""
    try:
        texts = [part.decode() if isinstance(part, bytes) else part for part in identity]
    except UnicodeDecodeError:
        return None
    return None if any(isinstance(text, str) and "\0" in text for text in texts) else texts


def postgresql_tables(found: Mapping[str, set[str]]) -> list[Table]:
    """Return LangGraph's tables among those of a PostgreSQL database; none where it has none.

    Args:
        found: the names of the tables, each with those of its columns.
    """
    checkpoints = Table(
        "checkpoints",
        "checkpoints",
        CHECKPOINT,
        columns=(("parent_checkpoint_id", "t.parent_checkpoint_id"),),
        payloads=(Payload(("checkpoint",), _json("checkpoint")), Payload(("metadata",), _json("metadata"))),
        more=_CHANNELS,
    )
    path = (("task_path", "t.task_path"),) if "task_path" in found.get("checkpoint_writes", ()) else ()
    writes = Table(
        "writes",
        "checkpoint_writes",
        (*CHECKPOINT, "task_id", "idx"),
        has_number=True,
        columns=(*path, ("channel", "t.channel")),
        payloads=(Payload(("value",), "t.blob", "t.type"),),
    )
    items = Table(
        "store",
        "store",
        ("prefix", "key"),
        columns=tuple((name, f"(t.{name} AT TIME ZONE 'UTC')::text") for name in ("updated_at", "created_at")),
        payloads=(Payload(("value",), _json("value")),),
        below="store",
    )
    is_there = {"checkpoints", "checkpoint_blobs", "checkpoint_writes"} <= found.keys()
    tables = [checkpoints, writes] if is_there and "checkpoint_ns" in found["checkpoints"] else []
    return [*tables, items] if "store" in found and (tables or "store_migrations" in found) else tables


def _json(column: str) -> str:
    return f"convert_to(t.{column}::text, 'UTF8')"
