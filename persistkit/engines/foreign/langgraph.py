"""LangGraphEngine: the checkpoints, writes and long-term items that LangGraph stores in SQLite or PostgreSQL.

Tables of ``langgraph-checkpoint-sqlite`` and ``langgraph-checkpoint-postgres``, values of ``formats.langgraph``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from persistkit.engines.foreign.rows import Payload, Row, RowsEngine, Table, moment_of
from persistkit.rows import Part, row_head

__all__ = ["CHECKPOINT", "LangGraphEngine", "sqlite_tables", "time_of_checkpoint"]

CHECKPOINT: Final = ("thread_id", "checkpoint_ns", "checkpoint_id")
_STORE: Final = "store"
_UUID6: Final = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-6([0-9a-f]{3})-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID_EPOCH: Final = datetime(1582, 10, 15, tzinfo=UTC)


class LangGraphEngine(RowsEngine):
    """What LangGraph stores, read only.

    Keys: ``<thread>/<namespace>/<checkpoint id>`` for a checkpoint (the namespace is empty but for subgraphs),
    ``.../<task id>/<index>`` below it for a write, ``store/<namespace>/<key>`` for an item of long-term memory. Values
    are dicts: the columns of the row by name, with ``checkpoint`` and ``metadata``, or ``value``, as plain data. The
    time of a checkpoint is in its id.
    """

    below = (_STORE,)

    def threads(self) -> list[str]:
        """Return the names of the threads that have a checkpoint, in the order of their keys."""
        table = self._tables[0]
        select = f"SELECT DISTINCT thread_id FROM {table.name} WHERE {self._source.is_key(table)}"  # noqa: S608
        return sorted((name for (name,) in self._source.read("list threads", select)), key=self.prefix_of)

    def rows_of(self, threads: Sequence[str]) -> Iterator[tuple[str, dict[str, Any], list[Part]]]:
        """Yield key, columns and payloads of every checkpoint and write of threads, but no checkpoint's state."""
        identities = [(thread.encode(errors="surrogateescape"),) for thread in threads]
        for table in (table for table in self._tables if not table.below):
            payloads = tuple(payload for payload in table.payloads if payload.path != ("checkpoint",))
            table = replace(table, payloads=payloads, more="")
            for row in self._source.find("read threads", self._select(table, sizes=False), table, identities):
                parts = [(list(path), kind, bytes(data)) for path, kind, data in self._payloads(table, row)]
                yield self._key(table, row), {"table": table.label, **self._columns(table, row)}, parts

    def _value(self, table: Table, row: Row) -> bytes:
        payloads = [(path, kind, bytes(data)) for path, kind, data in self._payloads(table, row)]
        head = self._head(table, row, [(path, kind, len(data)) for path, kind, data in payloads])
        return b"".join([head, *(data for _, _, data in payloads)])

    def _size(self, table: Table, row: Row) -> int:
        sizes = [(path, kind, int(size)) for path, kind, size in self._payloads(table, row)]
        return len(self._head(table, row, sizes)) + sum(size for _, _, size in sizes)

    def _head(self, table: Table, row: Row, parts: Iterable[tuple[Sequence[str], str | None, int]]) -> bytes:
        return row_head({"table": table.label, **self._columns(table, row)}, parts)

    def _modified(self, table: Table, row: Row) -> datetime | None:
        if table.label == "checkpoints":
            return time_of_checkpoint(row[2])
        return moment_of(row[3]) if table.label == "store" else None


def time_of_checkpoint(checkpoint_id: str) -> datetime | None:
    """Return the time in a checkpoint's id, a UUID of version 6, to the microsecond; None where it is another id."""
    found = _UUID6.fullmatch(checkpoint_id)
    if found is None:
        return None
    return _UUID_EPOCH + timedelta(microseconds=int(found[1] + found[2] + found[3], 16) // 10)


def sqlite_tables(found: Mapping[str, set[str]]) -> list[Table]:
    """Return LangGraph's tables among those of a SQLite file; none where it is no file of LangGraph's.

    Args:
        found: the names of the tables, each with those of its columns.
    """
    checkpoints = Table(
        "checkpoints",
        "checkpoints",
        CHECKPOINT,
        columns=(("parent_checkpoint_id", "parent_checkpoint_id"),),
        payloads=(Payload(("checkpoint",), "checkpoint", "type"), Payload(("metadata",), "metadata")),
    )
    writes = Table(
        "writes",
        "writes",
        (*CHECKPOINT, "task_id", "idx"),
        has_number=True,
        columns=tuple((name, name) for name in ("task_path", "channel") if name in found.get("writes", ())),
        payloads=(Payload(("value",), "value", "type"),),
    )
    items = Table(
        "store",
        "store",
        ("prefix", "key"),
        columns=(("updated_at", "updated_at"), ("created_at", "created_at")),
        payloads=(Payload(("value",), "value"),),
        below=_STORE,
    )
    tables = [table for table in (checkpoints, writes) if _is_there(table, found)]
    tables = tables if len(tables) == 2 else []
    return [*tables, items] if _is_there(items, found) and (tables or "store_migrations" in found) else tables


def _is_there(table: Table, found: Mapping[str, set[str]]) -> bool:
    wanted = {*table.identity, *(name for name, _ in table.columns), *(payload.data for payload in table.payloads)}
    return wanted <= found.get(table.name, set())
