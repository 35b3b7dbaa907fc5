"""OpenAIAgentsEngine: the sessions that the OpenAI Agents SDK stores in SQLite."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from persistkit.engines.foreign.rows import Payload, Row, RowsEngine, Table, moment_of

__all__ = ["BELOW", "OpenAIAgentsEngine", "sqlite_tables"]

BELOW: Final = ("sessions", "structure", "usage")
_ITEM: Final = Payload((), "message_data")
_TIMES: Final = ("created_at", "updated_at")
_TURN: Final = ("branch_id", "user_turn_number")
_COUNTS: Final = ("requests", "input_tokens", "output_tokens", "total_tokens")
_DETAILS: Final = ("input_tokens_details", "output_tokens_details")
_PLACE: Final = ("message_id", "message_type", "sequence_number", "branch_turn_number", "tool_name")


class OpenAIAgentsEngine(RowsEngine):
    """What the OpenAI Agents SDK stores, read only.

    Keys: ``<session>/<number>`` for an item of a session, its number of nine digits or more; the value is the JSON that
    was stored. And as JSON objects of their columns: ``sessions/<session>``; of an ``AdvancedSQLiteSession`` also
    ``usage/<session>/<number>`` for the tokens of a turn, ``structure/<session>/<number>`` for the branch of an item.
    """

    digits = 9
    below = BELOW

    def _value(self, table: Table, row: Row) -> bytes:
        if table.payloads:
            return bytes(next((data for _, _, data in self._payloads(table, row)), b""))
        return json.dumps(self._columns(table, row)).encode()

    def _size(self, table: Table, row: Row) -> int:
        if table.payloads:
            return next((size for _, _, size in self._payloads(table, row)), 0)
        return len(json.dumps(self._columns(table, row)))

    def _modified(self, table: Table, row: Row) -> datetime | None:
        columns = self._columns(table, row)
        return moment_of(columns.get("updated_at") or columns.get("created_at"))


def sqlite_tables(found: Mapping[str, set[str]]) -> list[Table]:
    """Return the SDK's tables among those of a SQLite file; none where it is no file of the SDK's.

    Args:
        found: the names of the tables, each with those of its columns.
    """

    def table(name: str, identity: tuple[str, ...], columns: tuple[str, ...], below: str = "") -> Table:
        there = tuple((column, column) for column in columns if column in found.get(name, ()))
        payloads = () if below else (_ITEM,)
        return Table(name, name, identity, identity[-1] == "id", there, payloads, below=below)

    tables = [
        table("agent_messages", ("session_id", "id"), _TIMES),
        table("agent_sessions", ("session_id",), _TIMES, "sessions"),
        table("turn_usage", ("session_id", "id"), (*_TURN, *_COUNTS, *_DETAILS, *_TIMES), "usage"),
        table("message_structure", ("session_id", "id"), (*_TURN, *_PLACE, *_TIMES), "structure"),
    ]
    tables = [
        one for one in tables if {*one.identity, *(part.data for part in one.payloads)} <= found.get(one.name, set())
    ]
    return tables if [one.name for one in tables[:2]] == ["agent_messages", "agent_sessions"] else []
