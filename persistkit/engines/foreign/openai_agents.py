"""OpenAIAgentsEngine: the sessions that the OpenAI Agents SDK stores in SQLite."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from persistkit.engines.foreign.rows import PartSize, Payload, Row, RowsEngine, Table, present

__all__ = ["BELOW", "OpenAIAgentsEngine"]

BELOW: Final = ("sessions", "structure", "usage")
_TIMES: Final = ("created_at", "updated_at")
_TURN: Final = ("branch_id", "user_turn_number")
_COUNTS: Final = ("requests", "input_tokens", "output_tokens", "total_tokens")
_DETAILS: Final = ("input_tokens_details", "output_tokens_details")
_PLACE: Final = ("message_id", "message_type", "sequence_number", "branch_turn_number", "tool_name")
_ITEM: Final = ("session_id", "id")
_TABLES: Final = (
    Table("agent_messages", "agent_messages", _ITEM, True, _TIMES, (Payload("message_data"),)),
    Table("agent_sessions", "agent_sessions", ("session_id",), False, _TIMES, below="sessions"),
    Table("turn_usage", "turn_usage", _ITEM, True, (*_TURN, *_COUNTS, *_DETAILS, *_TIMES), below="usage"),
    Table("message_structure", "message_structure", _ITEM, True, (*_TURN, *_PLACE, *_TIMES), below="structure"),
)


class OpenAIAgentsEngine(RowsEngine):
    """What the OpenAI Agents SDK stores, read only.

    Keys: ``<session>/<number>`` for an item of a session, its number of nine digits or more; the value is the JSON that
    was stored. And as JSON objects of their columns: ``sessions/<session>``; of an ``AdvancedSQLiteSession`` also
    ``usage/<session>/<number>`` for the tokens of a turn, ``structure/<session>/<number>`` for the branch of an item.
    """

    digits = 9
    below = BELOW

    @classmethod
    def tables_of(cls, found: Mapping[str, set[str]]) -> list[Table]:
        """Return the SDK's tables among those that are ``found``; none where it has none."""
        tables = present(_TABLES, found)
        return tables if [table.name for table in tables[:2]] == ["agent_messages", "agent_sessions"] else []

    def _head(self, table: Table, row: Row, parts: Sequence[PartSize]) -> bytes:  # noqa: ARG002
        return b"" if table.payloads else json.dumps(self._columns(table, row)).encode()
