"""Sessions, messages, steps and unfinished runs as DataFrames: the same columns and dtypes for every runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pandas as pd

from persistkit.agents.readers import read_sessions, store_of
from persistkit.agents.records import Message, Session, Step, total_tokens
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
    return _by_end(_frame(store_of(place, "sessions_frame"), _session_rows))


def messages_frame(place: Place) -> pd.DataFrame:
    """Return one row per message of every session: what was said, thought and called, in order.

    A tool call and its result are one row. Columns: ``runtime``, ``session``, ``agent`` (str), ``position`` (int64,
    from 1 on in each session), ``role`` (``system``, ``user``, ``assistant``, ``reasoning``, ``tool``, or the runtime's
    own word), ``text``, ``tool`` (str), ``arguments``, ``result`` (object), ``ok`` (boolean, missing where the runtime
    does not say), ``error``, ``error_kind`` (str), ``input_tokens``, ``output_tokens`` (Int64), ``time``
    (datetime64[us, UTC]), ``id``, ``call_id`` (str), ``data`` (object: images, items of unknown kinds).

    ``.attrs["skipped"]`` and what is raised are those of ``sessions_frame``.
    """
    return _frame(store_of(place, "messages_frame"), _message_rows)


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
    return _frame(store_of(place, "steps_frame"), _step_rows)


def unfinished_frame(place: Place) -> pd.DataFrame:
    """Return one row per session that is not finished, and why.

    Columns: ``runtime``, ``session``, ``agent``, ``status`` (str), ``reason`` (str, a sentence), ``steps`` (int64),
    ``last_step`` (Int64, as the runtime counts), ``last_tool``, ``last_error`` (str), ``ended`` (datetime64[us, UTC],
    when its last value was stored), ``last_key`` (str, of its last state: ``store[key]``).

    ``.attrs["skipped"]`` and what is raised are those of ``sessions_frame``.
    """
    return _by_end(_frame(store_of(place, "unfinished_frame"), _unfinished_rows))


_Rows: TypeAlias = Iterator[dict[str, Any]]  # Any: what a column holds

_CALL: Final = ("tool", "arguments", "result", "ok", "error", "error_kind")
_TIME: Final = "datetime64[us, UTC]"
_DTYPES: Final = {  # of the columns that are no text
    **dict.fromkeys(("started", "ended", "time"), _TIME),
    **dict.fromkeys(("steps", "messages", "tool_calls", "errors", "position", "step"), "int64"),
    **dict.fromkeys(("input_tokens", "output_tokens", "last_step"), "Int64"),
    **dict.fromkeys(("arguments", "result", "details", "data"), "object"),
    "duration_ms": "float64",
    "ok": "boolean",
}
# A table without rows has the columns of this one's.
_ANY: Final = Session(runtime="", id="", status="unfinished", messages=(Message(role=""),), steps=(Step(number=0),))


def _session_rows(session: Session) -> _Rows:
    yield {
        **_whose(session),
        **_of(session, "status", "started", "ended", "duration_ms"),
        "steps": len(session.steps),
        "messages": len(session.messages),
        "tool_calls": len(session.calls),
        "errors": session.errors,
        **_tokens(session.steps),
        **_of(session, "answer", "details"),
    }


def _message_rows(session: Session) -> _Rows:
    for position, message in enumerate(session.messages, 1):
        yield {
            **_whose(session),
            "position": position,
            **_of(message, "role", "text", *_CALL, "input_tokens", "output_tokens", "time", "id", "call_id", "data"),
        }


def _step_rows(session: Session) -> _Rows:
    for step in session.steps:
        for position, message in enumerate(step.calls or step.messages[-1:] or (None,)):
            call, is_first = _of(message, *_CALL), position == 0
            said = step.messages if is_first else ()
            yield {
                **_whose(session),
                "status": session.status,
                "step": step.number,
                "name": step.name,
                "namespace": step.namespace,
                "role": None if message is None else message.role,
                "thought": _text(message for message in said if message.role == "reasoning"),
                "text": _text(message for message in said if message.role not in ("reasoning", "tool")),
                **call,
                "error": (step.error if is_first else None) or call["error"],
                **_tokens([step] if is_first else []),
                "duration_ms": step.duration_ms if is_first else None,
                "time": step.time,
                "key": step.key,
            }


def _unfinished_rows(session: Session) -> _Rows:
    if session.status == "finished":
        return
    last = _of(session.steps[-1] if session.steps else None, "number", "error")
    call = _of(session.calls[-1] if session.calls else None, "tool", "error")
    yield {
        **_whose(session),
        **_of(session, "status", "reason"),
        "steps": len(session.steps),
        "last_step": last["number"],
        "last_tool": call["tool"],
        "last_error": last["error"] or call["error"],
        "ended": session.ended,
        "last_key": next((step.key for step in reversed(session.steps) if step.key is not None), None),
    }


def _whose(session: Session) -> dict[str, Any]:
    return {"runtime": session.runtime, "session": session.id, "agent": session.agent}


def _of(record: Session | Step | Message | None, *names: str) -> dict[str, Any]:
    """Return the columns that a record has under their own names; missing where there is no record."""
    return {name: getattr(record, name, None) for name in names}


def _tokens(steps: Iterable[Step]) -> dict[str, int | None]:
    return dict(zip(("input_tokens", "output_tokens"), total_tokens(steps), strict=True))


def _text(messages: Iterable[Message]) -> str | None:
    texts = [message.text for message in messages if message.text is not None]
    return "\n\n".join(texts) if texts else None


def _frame(store: Store, rows_of: Callable[[Session], _Rows]) -> pd.DataFrame:
    cells: dict[str, list[Any]] = {name: [] for name in next(rows_of(_ANY))}
    skipped: dict[str, str] = {}
    for session in read_sessions(store, skipped):  # cells, not records: a store may have a million steps
        for row in rows_of(session):
            for name, cell in row.items():
                cells[name].append(cell)
    frame = pd.DataFrame({name: _column(cells.pop(name), _DTYPES.get(name, "str")) for name in list(cells)})
    frame.attrs["skipped"] = skipped
    return frame


def _column(cells: list[Any], dtype: str) -> Any:  # Any: pandas' arrays
    if dtype == "str":
        return text_column(cells)
    return pd.DatetimeIndex(cells, dtype=dtype) if dtype == _TIME else pd.Series(cells, dtype=dtype)


def _by_end(frame: pd.DataFrame) -> pd.DataFrame:
    ordered = frame.sort_values(["ended", "session"], ignore_index=True)
    ordered.attrs = frame.attrs  # pandas copies them deeply at every step
    return ordered
