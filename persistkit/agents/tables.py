"""Sessions, messages, steps and unfinished runs as DataFrames: the same columns and dtypes for every runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pandas as pd

from persistkit.agents.readers import read_sessions, store_of
from persistkit.agents.records import Message, Session, Step
from persistkit.frames import text_column
from persistkit.store import Store

if TYPE_CHECKING:
    from persistkit.transfer import Place

__all__ = ["messages_frame", "sessions_frame", "steps_frame", "unfinished_frame"]


def sessions_frame(place: Place) -> pd.DataFrame:
    """Return one row per session, in the order in which they ended.

    Columns, the same for every runtime; what a runtime does not store is missing:

    * ``runtime`` (``rust``, ``langgraph``, ``openai``), ``session``, ``agent``, ``status`` (``finished``,
      ``interrupted``, ``failed``, ``unfinished``; ``unfinished_frame`` explains the last three): str
    * ``started``, ``ended``: datetime64[us, UTC]. The Rust runtime stores no start; its end is when it was stored
    * ``duration_ms``: float64, milliseconds
    * ``steps``, ``messages``, ``tool_calls``, ``errors`` (tool calls and steps that failed): int64
    * ``input_tokens``, ``output_tokens``: Int64
    * ``answer``: str, the last thing that the agent of a finished session said
    * ``details``: object, a dict of what only this runtime stores. Rust: ``memory_hits`` and ``graph_entities``, the
      number of entities in the graph, which the runtime stores under the name ``graph_lookups``

    Values that are damaged are left out and named in ``.attrs["skipped"]`` (key -> reason).

    Raises:
        TypeError: ``place`` is no engine, store or backend; the message never shows it.
        ValueError: what is stored is of no runtime that is known.
        StorageError: the storage refused, is gone or did not answer.

    Example:
        >>> import persistkit
        >>> store = persistkit.open("memory:")
        >>> step = {"thought": "Done.", "action": "FINAL_ANSWER 42", "observation": "FINAL_ANSWER 42"}
        >>> counts = {"memory_hits": 0, "graph_lookups": 0, "duration_ms": 12}
        >>> store["session:1"] = {"session_id": "1", "agent_id": "coder", "steps": [step], **counts}
        >>> sessions_frame(store)[["agent", "status", "steps", "duration_ms", "answer"]]
           agent    status  steps  duration_ms answer
        0  coder  finished      1         12.0     42
    """
    frame = _frame(store_of(place, "sessions_frame"), _SESSIONS, lambda session: [_Row(session)])
    return _by_end(frame)


def messages_frame(place: Place) -> pd.DataFrame:
    """Return one row per message of every session: what was said, thought and called, in order.

    A tool call and its result are one row. Columns: ``runtime``, ``session``, ``agent`` (str), ``position`` (int64,
    from 1 on in each session), ``role`` (``system``, ``user``, ``assistant``, ``reasoning``, ``tool``, or the runtime's
    own word), ``text``, ``tool`` (str), ``arguments``, ``result`` (object), ``ok`` (boolean, missing where the runtime
    does not say), ``error``, ``error_kind`` (str), ``input_tokens``, ``output_tokens`` (Int64), ``time``
    (datetime64[us, UTC]), ``id``, ``call_id`` (str), ``data`` (object: images, items of unknown kinds).

    ``.attrs["skipped"]`` and what is raised are those of ``sessions_frame``.
    """
    return _frame(
        store_of(place, "messages_frame"),
        _MESSAGES,
        lambda session: (_Row(session, message=message, position=n) for n, message in enumerate(session.messages, 1)),
    )


def steps_frame(place: Place) -> pd.DataFrame:
    """Return one row per step of every session, unfinished ones included; ``status`` tells them apart.

    A step that called several tools has one row for each; its text, tokens and duration are in the first of them, so
    that sums are right. Columns: ``runtime``, ``session``, ``agent``, ``status`` (str, of the session), ``step``
    (int64, as the runtime counts), ``name`` (LangGraph's node), ``namespace`` (its subgraph), ``role`` (of the last
    message), ``thought``, ``text``, ``tool`` (str), ``arguments``, ``result`` (object), ``ok`` (boolean, missing where
    the runtime does not say), ``error``, ``error_kind`` (str), ``input_tokens``, ``output_tokens`` (Int64),
    ``duration_ms`` (float64, milliseconds), ``time`` (datetime64[us, UTC], when the step was stored), ``key`` (str, of
    the state after the step: ``store[key]``).

    ``.attrs["skipped"]`` and what is raised are those of ``sessions_frame``.
    """
    store = store_of(place, "steps_frame")
    return _frame(store, _STEPS, lambda session: (row for step in session.steps for row in _rows_of(session, step)))


def unfinished_frame(place: Place) -> pd.DataFrame:
    """Return one row per session that is not finished, and why.

    Columns: ``runtime``, ``session``, ``agent``, ``status`` (str), ``reason`` (str, a sentence), ``steps`` (int64),
    ``last_step`` (Int64, as the runtime counts), ``last_tool``, ``last_error`` (str), ``ended`` (datetime64[us, UTC],
    when its last value was stored), ``last_key`` (str, of its last state: ``store[key]``).

    ``.attrs["skipped"]`` and what is raised are those of ``sessions_frame``.
    """
    frame = _frame(
        store_of(place, "unfinished_frame"),
        _UNFINISHED,
        lambda session: [] if session.status == "finished" else [_Row(session, _last(session.steps))],
    )
    return _by_end(frame)


class _Row(NamedTuple):
    """What one row is made of."""

    session: Session
    step: Step | None = None
    message: Message | None = None
    position: int = 0  # of the message in its session, or of the row in its step


_Cell = Callable[[_Row], Any]  # Any: what a column holds
_TIME: Final = "datetime64[us, UTC]"


def _rows_of(session: Session, step: Step) -> Iterator[_Row]:
    calls = [message for message in step.messages if message.role == "tool"]
    for position, message in enumerate(calls or [_last(step.messages)]):
        yield _Row(session, step, message, position)


def _last(sequence: tuple[Any, ...]) -> Any:
    return sequence[-1] if sequence else None


def _messages(row: _Row) -> tuple[Message, ...]:
    """Return what a row speaks for: its message, the whole step in the first row of one, or the whole session."""
    if row.step is not None:
        return () if row.position else row.step.messages
    if row.message is not None:
        return (row.message,)
    return tuple(message for step in row.session.steps for message in step.messages)


def _said(row: _Row, thoughts: bool) -> str | None:
    texts = [
        message.text
        for message in _messages(row)
        if message.text is not None and message.role != "tool" and (message.role == "reasoning") is thoughts
    ]
    return "\n\n".join(texts) if texts else None


def _tokens(name: str) -> _Cell:
    def sum_of(row: _Row) -> int | None:
        found = [getattr(message, name) for message in _messages(row)]
        known = [tokens for tokens in found if tokens is not None]
        return sum(known) if known else None

    return sum_of


def _failures(row: _Row) -> int:
    calls = sum(message.ok is False for message in _messages(row))
    return calls + sum(step.error is not None for step in row.session.steps)


def _error(row: _Row) -> str | None:
    of_step = row.step.error if row.step is not None and not row.position else None
    return of_step or (row.message.error if row.message is not None else None)


def _last_call(row: _Row) -> Message | None:
    calls = [message for step in row.session.steps for message in step.messages if message.role == "tool"]
    return calls[-1] if calls else None


def _last_error(row: _Row) -> str | None:
    call = _last_call(row)
    return (row.step.error if row.step is not None else None) or (call.error if call is not None else None)


def _last_key(row: _Row) -> str | None:
    return next((step.key for step in reversed(row.session.steps) if step.key is not None), None)


def _session(name: str) -> _Cell:
    return lambda row: getattr(row.session, name)


def _step(name: str) -> _Cell:
    return lambda row: None if row.step is None else getattr(row.step, name)


def _message(name: str) -> _Cell:
    return lambda row: None if row.message is None else getattr(row.message, name)


_WHOSE: Final[dict[str, tuple[str, _Cell]]] = {
    "runtime": ("str", _session("runtime")),
    "session": ("str", _session("id")),
    "agent": ("str", _session("agent")),
}
_TOKENS: Final = {name: ("Int64", _tokens(name)) for name in ("input_tokens", "output_tokens")}
_CALL: Final = {
    "tool": ("str", _message("tool")),
    "arguments": ("object", _message("arguments")),
    "result": ("object", _message("result")),
    "ok": ("boolean", _message("ok")),
    "error": ("str", _error),
    "error_kind": ("str", _message("error_kind")),
}
_SESSIONS: Final = {
    **_WHOSE,
    "status": ("str", _session("status")),
    "started": (_TIME, _session("started")),
    "ended": (_TIME, _session("ended")),
    "duration_ms": ("float64", _session("duration_ms")),
    "steps": ("int64", lambda row: len(row.session.steps)),
    "messages": ("int64", lambda row: len(row.session.messages)),
    "tool_calls": ("int64", lambda row: sum(message.role == "tool" for message in _messages(row))),
    "errors": ("int64", _failures),
    **_TOKENS,
    "answer": ("str", _session("answer")),
    "details": ("object", _session("details")),
}
_MESSAGES: Final = {
    **_WHOSE,
    "position": ("int64", lambda row: row.position),
    "role": ("str", _message("role")),
    "text": ("str", _message("text")),
    **_CALL,
    **_TOKENS,
    "time": (_TIME, _message("time")),
    "id": ("str", _message("id")),
    "call_id": ("str", _message("call_id")),
    "data": ("object", _message("data")),
}
_STEPS: Final = {
    **_WHOSE,
    "status": ("str", _session("status")),
    "step": ("int64", _step("number")),
    "name": ("str", _step("name")),
    "namespace": ("str", _step("namespace")),
    "role": ("str", _message("role")),
    "thought": ("str", lambda row: _said(row, thoughts=True)),
    "text": ("str", lambda row: _said(row, thoughts=False)),
    **_CALL,
    **_TOKENS,
    "duration_ms": ("float64", lambda row: None if row.position else _step("duration_ms")(row)),
    "time": (_TIME, _step("time")),
    "key": ("str", _step("key")),
}
_UNFINISHED: Final = {
    **_WHOSE,
    "status": ("str", _session("status")),
    "reason": ("str", _session("reason")),
    "steps": ("int64", lambda row: len(row.session.steps)),
    "last_step": ("Int64", _step("number")),
    "last_tool": ("str", lambda row: getattr(_last_call(row), "tool", None)),
    "last_error": ("str", _last_error),
    "ended": (_TIME, _session("ended")),
    "last_key": ("str", _last_key),
}


def _frame(
    store: Store, columns: dict[str, tuple[str, _Cell]], rows_of: Callable[[Session], Iterable[_Row]]
) -> pd.DataFrame:
    cells: dict[str, list[Any]] = {name: [] for name in columns}
    skipped: dict[str, str] = {}
    for session in read_sessions(store, skipped):  # cells, not records: a store may have a million steps
        for row in rows_of(session):
            for name, (_, cell) in columns.items():
                cells[name].append(cell(row))
    frame = pd.DataFrame({name: _column(cells.pop(name), dtype) for name, (dtype, _) in columns.items()})
    frame.attrs["skipped"] = skipped
    return frame


def _column(cells: list[Any], dtype: str) -> Any:  # Any: pandas' arrays
    if dtype == "str":
        return text_column(cells)
    if dtype == _TIME:
        return pd.DatetimeIndex(cells, dtype=_TIME)
    return pd.Series(cells, dtype=dtype)


def _by_end(frame: pd.DataFrame) -> pd.DataFrame:
    ordered = frame.sort_values(["ended", "session"], ignore_index=True)
    ordered.attrs = frame.attrs  # pandas copies them deeply at every step
    return ordered
