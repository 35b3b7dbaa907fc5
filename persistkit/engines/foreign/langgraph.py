"""LangGraphEngine: the checkpoints, writes and long-term items that LangGraph stores in SQLite or PostgreSQL.

Tables of ``langgraph-checkpoint-sqlite`` and ``langgraph-checkpoint-postgres``, values of ``formats.langgraph``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from persistkit.engines.foreign.rows import PartSize, Payload, Row, RowsEngine, Table, present
from persistkit.rows import Part, row_head

__all__ = ["LangGraphEngine", "time_of_checkpoint"]

_STORE: Final = "store"
_UUID6: Final = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-6([0-9a-f]{3})-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID_EPOCH: Final = datetime(1582, 10, 15, tzinfo=UTC)

_CHECKPOINTS: Final = Table(
    "checkpoints",
    "checkpoints",
    ("thread_id", "checkpoint_ns", "checkpoint_id"),
    columns=("parent_checkpoint_id",),
    payloads=(Payload("checkpoint", "type"), Payload("metadata")),
)
_WRITES: Final = Table(
    "writes",
    "writes",
    (*_CHECKPOINTS.identity, "task_id", "idx"),
    has_number=True,
    columns=("task_path", "channel"),
    payloads=(Payload("value", "type"),),
)
_ITEMS: Final = Table(
    "store", "store", ("prefix", "key"), False, ("updated_at", "created_at"), (Payload("value"),), below=_STORE
)
# In PostgreSQL a checkpoint's channels, but for small ones, are rows of another table, as old as their last change.
_CHANNELS: Final = """(
    SELECT array_agg(ARRAY[convert_to(b.channel, 'UTF8'), convert_to(b.type, 'UTF8'), {data}] ORDER BY b.channel)
    FROM jsonb_each_text(t.checkpoint -> 'channel_versions') AS v JOIN checkpoint_blobs AS b
    ON (b.thread_id, b.checkpoint_ns, b.channel, b.version) = (t.thread_id, t.checkpoint_ns, v.key, v.value)
    WHERE b.type <> 'empty')"""
_OF_POSTGRESQL: Final = (
    replace(_CHECKPOINTS, payloads=(Payload("checkpoint"), Payload("metadata")), more=_CHANNELS),
    replace(_WRITES, name="checkpoint_writes", payloads=(Payload("value", "type", stored_in="blob"),)),
)


class LangGraphEngine(RowsEngine):
    """What LangGraph stores, read only.

    Keys: ``<thread>/<namespace>/<checkpoint id>`` for a checkpoint (the namespace is empty but for subgraphs),
    ``.../<task id>/<index>`` below it for a write, ``store/<namespace>/<key>`` for an item of long-term memory. Values
    are dicts: the columns of the row by name, with ``checkpoint`` and ``metadata``, or ``value``, as plain data. The
    time of a checkpoint is in its id.
    """

    below = (_STORE,)

    @classmethod
    def tables_of(cls, found: Mapping[str, set[str]]) -> list[Table]:
        """Return LangGraph's tables among those that are ``found``; none where it has none."""
        tables = present(_OF_POSTGRESQL if "checkpoint_blobs" in found else (_CHECKPOINTS, _WRITES), found)
        tables = tables if len(tables) == 2 else []
        return tables + (present([_ITEMS], found) if tables or "store_migrations" in found else [])

    def threads(self) -> list[str]:
        """Return the names of the threads that have a checkpoint, in the order of their keys."""
        table = self._tables[0]
        select = f"SELECT DISTINCT thread_id FROM {table.name} WHERE {self._source.is_text.format('thread_id')}"  # noqa: S608
        return sorted((name for (name,) in self._source._read("list threads", select)), key=self.prefix_of)

    def rows_of(self, threads: Sequence[str]) -> Iterator[tuple[str, dict[str, Any], list[Part]]]:
        """Yield key, columns and payloads of every checkpoint and write of threads, but no checkpoint's state."""
        identities = [(thread.encode(errors="surrogateescape"),) for thread in threads]
        for table in (table for table in self._tables if not table.below):
            payloads = tuple(payload for payload in table.payloads if payload.name != "checkpoint")
            table = replace(table, payloads=payloads, more="")
            for row in self._find("read threads", table, identities):
                parts = [(list(path), kind, bytes(data)) for path, kind, data in self._payloads(table, row)]
                yield self._key(table, row), {"table": table.label, **self._columns(table, row)}, parts

    def _head(self, table: Table, row: Row, parts: Sequence[PartSize]) -> bytes:
        return row_head({"table": table.label, **self._columns(table, row)}, parts)

    def _modified(self, table: Table, row: Row) -> datetime | None:
        return time_of_checkpoint(row[2]) if table.label == "checkpoints" else super()._modified(table, row)


def time_of_checkpoint(checkpoint_id: str) -> datetime | None:
    """Return the time in a checkpoint's id, a UUID of version 6, to the microsecond; None where it is another id."""
    found = _UUID6.fullmatch(checkpoint_id)
    if found is None:
        return None
    return _UUID_EPOCH + timedelta(microseconds=int(found[1] + found[2] + found[3], 16) // 10)
