"""What the Rust crate llm-agent-runtime stores (1.74.0: sessions, checkpoints, shutdown) as DataFrames.

Values that are damaged, or not of the runtime's form, are left out and named in ``.attrs["skipped"]`` (key ->
reason); so are tool arguments that are no JSON object, whose step is kept. Unknown fields are ignored. What is no store
or engine is a ``TypeError`` that never shows it; what cannot be listed or read is a ``StorageError``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from json import JSONDecodeError, loads
from typing import Any, Final

import pandas as pd

from persistkit.background import engine_of
from persistkit.engine import Engine
from persistkit.errors import FormatError
from persistkit.frames import text_column
from persistkit.store import Store
from persistkit.views import read_values

__all__ = ["sessions_frame", "shutdown_time", "steps_frame", "unfinished_frame"]


_SESSION: Final = re.compile(r"session:(?!.*:step:\d+$)(?P<session>.+)", re.DOTALL)
_CHECKPOINT: Final = re.compile(r"loop:(?P<session>.+):step:(?P<step>\d{1,18})", re.DOTALL)
_FINAL: Final = re.compile(r"\s*FINAL_ANSWER\b:?\s*", re.IGNORECASE)
_U64: Final = 1 << 64


def sessions_frame(store: Store | Engine) -> pd.DataFrame:
    """Return one row per finished session of ``store``, sorted by when it was stored.

    Columns: ``session_id``, ``agent_id``, ``answer`` (str), ``steps``, ``memory_hits``, ``graph_lookups``,
    ``duration_ms``, ``failed_steps`` (UInt64), ``modified`` (the only clock there is: when it was stored).

    Example:
        >>> import persistkit
        >>> store = persistkit.open("memory:")
        >>> step = {"thought": "Done.", "action": "FINAL_ANSWER 42", "observation": "FINAL_ANSWER 42"}
        >>> counts = {"memory_hits": 0, "graph_lookups": 0, "duration_ms": 12}
        >>> store["session:1"] = {"session_id": "1", "agent_id": "coder", "steps": [step], **counts}
        >>> sessions_frame(store)[["agent_id", "steps", "duration_ms", "answer"]]
          agent_id  steps  duration_ms answer
        0    coder      1           12     42
    """
    store = _store(store, "sessions_frame")
    skipped: dict[str, str] = {}
    rows = list(_sessions(store, skipped))
    frame = pd.DataFrame(
        {
            "session_id": text_column([row.session_id for row in rows]),
            "agent_id": text_column([row.agent_id for row in rows]),
            "steps": _counter([len(row.steps) for row in rows]),
            "memory_hits": _counter([row.memory_hits for row in rows]),
            "graph_lookups": _counter([row.graph_lookups for row in rows]),
            "duration_ms": _counter([row.duration_ms for row in rows]),
            "answer": text_column([row.answer for row in rows]),
            "failed_steps": _counter([sum(step.ok is False for step in row.steps) for row in rows]),
            "modified": pd.DatetimeIndex([row.modified for row in rows], dtype="datetime64[us, UTC]"),
        }
    ).sort_values(["modified", "session_id"], ignore_index=True)
    frame.attrs["skipped"] = skipped
    return frame


def steps_frame(store: Store | Engine) -> pd.DataFrame:
    """Return one row per step of every finished session of ``store``, in the order of ``sessions_frame``, steps from 1.

    Columns: ``session_id``, ``agent_id``, ``step`` (UInt64), ``thought``, ``tool`` (missing for the final answer),
    ``arguments`` (dict, None where there is none), ``ok`` (boolean, missing where the observation does not say),
    ``error``, ``error_kind``, ``observation`` (as stored), ``step_duration_ms`` (UInt64, missing where not stored).
    """
    store = _store(store, "steps_frame")
    skipped: dict[str, str] = {}
    sessions = sorted(_sessions(store, skipped), key=lambda row: (row.modified, row.session_id))
    rows = [(session, n, step) for session in sessions for n, step in enumerate(session.steps, 1)]
    steps = [step for _, _, step in rows]
    frame = pd.DataFrame(
        {
            "session_id": text_column([session.session_id for session, _, _ in rows]),
            "agent_id": text_column([session.agent_id for session, _, _ in rows]),
            "step": _counter([n for _, n, _ in rows]),
            "thought": text_column([step.thought for step in steps]),
            "tool": text_column([step.tool for step in steps]),
            "arguments": pd.Series([step.arguments for step in steps], dtype=object),
            "ok": pd.array([step.ok for step in steps], dtype="boolean"),
            "error": text_column([step.error for step in steps]),
            "error_kind": text_column([step.error_kind for step in steps]),
            "observation": text_column([step.observation for step in steps]),
            "step_duration_ms": _counter([step.duration_ms for step in steps]),
        }
    )
    frame.attrs["skipped"] = skipped
    return frame


def unfinished_frame(store: Store | Engine) -> pd.DataFrame:
    """Return one row per run in ``store`` that has checkpoints and no session: it failed, was stopped, or still runs.

    Columns: ``session_id``, ``last_step`` (number of the highest readable checkpoint), ``steps`` (in it; UInt64
    both), ``last_tool``, ``last_error``, ``modified``.
    """
    store = _store(store, "unfinished_frame")
    finished = {found["session"] for key in store.keys("session:") if (found := _SESSION.fullmatch(key))}
    checkpoints = store.to_frame(prefix="loop:")
    runs: dict[str, list[tuple[int, str, Any]]] = {}
    for key, modified in zip(checkpoints["key"], checkpoints["modified"], strict=True):
        found = _CHECKPOINT.fullmatch(key)
        if found and found["session"] not in finished:
            runs.setdefault(found["session"], []).append((int(found["step"]), key, modified))
    skipped: dict[str, str] = {}
    last = {session: _last_readable(store, sorted(runs[session], reverse=True), skipped) for session in sorted(runs)}
    rows = [(session, *found) for session, found in last.items() if found is not None]
    frame = pd.DataFrame(
        {
            "session_id": text_column([row[0] for row in rows]),
            "last_step": _counter([row[1] for row in rows]),
            "steps": _counter([len(row[3]) for row in rows]),
            "last_tool": text_column([row[3][-1].tool if row[3] else None for row in rows]),
            "last_error": text_column([row[3][-1].error if row[3] else None for row in rows]),
            "modified": pd.DatetimeIndex([row[2] for row in rows], dtype="datetime64[us, UTC]"),
        }
    )
    frame.attrs["skipped"] = skipped
    return frame


def shutdown_time(store: Store | Engine) -> pd.Timestamp:
    """Return when the runtime that wrote ``store`` last shut down, nanoseconds kept.

    Raises:
        KeyError: no shutdown is stored.
        FormatError: what is stored is no RFC 3339 time.
    """
    store = _store(store, "shutdown_time")
    data = store.get_bytes("runtime:shutdown")
    try:
        moment = pd.Timestamp(data.decode())
    except ValueError as error:
        raise FormatError(f"load 'runtime:shutdown': no RFC 3339 time: {data[:60]!r}") from error
    if pd.isna(moment) or moment.tzinfo is None:
        raise FormatError(f"load 'runtime:shutdown': a time without offset: {data[:60]!r}")
    return moment


@dataclass(frozen=True, slots=True)
class _Step:
    thought: str
    tool: str | None
    arguments: dict[str, Any] | None
    answer: str | None
    ok: bool | None
    error: str | None
    error_kind: str | None
    observation: str
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class _Session:
    session_id: str
    agent_id: str
    steps: list[_Step]
    memory_hits: int
    graph_lookups: int
    duration_ms: int
    modified: pd.Timestamp

    @property
    def answer(self) -> str | None:
        return next((step.answer for step in reversed(self.steps) if step.answer is not None), None)


def _store(place: Store | Engine, taker: str) -> Store:
    return place if isinstance(place, Store) else Store(engine_of(place, taker))


def _sessions(store: Store, skipped: dict[str, str]) -> Iterator[_Session]:
    """Yield every finished session that can be read; say in ``skipped`` why the others cannot."""
    listing = store.to_frame(prefix="session:")
    times = {
        key: modified
        for key, modified in zip(listing["key"], listing["modified"], strict=True)
        if _SESSION.fullmatch(key)
    }
    for key, value in read_values(store.engine, list(times), "bytes"):
        try:
            if not isinstance(value, dict):
                raise FormatError("no JSON object")
            yield _Session(
                _text(value, "session_id"),
                _text(value, "agent_id"),
                _steps(value.get("steps"), key, skipped),
                _unsigned(value, "memory_hits"),
                _unsigned(value, "graph_lookups"),
                _unsigned(value, "duration_ms"),
                times[key],
            )
        except FormatError as error:
            skipped[key] = str(error)


def _last_readable(
    store: Store, checkpoints: list[tuple[int, str, Any]], skipped: dict[str, str]
) -> tuple[int, Any, list[_Step]] | None:
    for n, key, modified in checkpoints:
        try:
            return n, modified, _steps(store[key], key, skipped)
        except FormatError as error:
            skipped[key] = str(error)
        except KeyError:  # the run ended and cleaned up while we looked
            continue
    return None


def _steps(value: object, key: str, skipped: dict[str, str]) -> list[_Step]:
    if not isinstance(value, list):
        raise FormatError("steps: no JSON array")
    return [_step(step, f"{key} step {n}", skipped) for n, step in enumerate(value, 1)]


def _step(value: object, place: str, skipped: dict[str, str]) -> _Step:
    if not isinstance(value, dict):
        raise FormatError(f"{place}: no JSON object")
    thought, action, observation = (_text(value, name) for name in ("thought", "action", "observation"))
    duration_ms = _unsigned(value, "step_duration_ms") if "step_duration_ms" in value else None
    final = _FINAL.match(action)
    if final:
        answer = action[final.end() :].strip()
        return _Step(thought, None, None, answer, None, None, None, observation, duration_ms)
    tool, _, text = action.partition(" ")
    arguments = _object(text) if text.strip() else {}
    if arguments is None:
        skipped[place] = f"arguments of {tool!r} are no JSON object: {text[:60]!r}"
    said = _object(observation) or {}
    ok = said.get("ok")
    return _Step(
        thought,
        tool,
        arguments,
        None,
        ok if isinstance(ok, bool) else None,
        _text_or_none(said.get("error")),
        _text_or_none(said.get("kind")),
        observation,
        duration_ms,
    )


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = loads(text)
    except (JSONDecodeError, RecursionError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise FormatError(f"{name}: {'missing' if value is None else 'no text'}")
    return value


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _unsigned(fields: Mapping[str, Any], name: str) -> int:
    # As strict as the runtime's own reader: no null, no float, no bool, nothing negative.
    value = fields.get(name)
    if type(value) is not int or not 0 <= value < _U64:
        raise FormatError(f"{name}: {'missing' if name not in fields else 'no unsigned 64-bit integer'}")
    return value


def _counter(values: list[int] | list[int | None]) -> pd.api.extensions.ExtensionArray:
    return pd.array(values, dtype="UInt64")
