"""What the Rust crate llm-agent-runtime stores (1.74.0): sessions, checkpoints, the time of its shutdown.

A finished run is ``session:<id>``, with a snapshot ``session:<id>:step:<n>`` for each step; a run that failed, was
stopped or still runs has only its checkpoints ``loop:<id>:step:<n>``. Fields that are missing or of another type than
the runtime's own reader accepts make a value damaged; unknown fields are ignored.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from json import JSONDecodeError, loads
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pandas as pd

from persistkit.agents.readers import store_of
from persistkit.agents.records import Message, Session, Step
from persistkit.errors import FormatError
from persistkit.store import Store
from persistkit.views import read_values

if TYPE_CHECKING:
    from persistkit.transfer import Place

__all__ = ["read_sessions", "recognises", "redundant_keys", "shutdown_time"]

_KEY: Final = re.compile(r"(session|loop):(?P<session>.+?)(:step:(?P<step>\d{1,18}))?", re.DOTALL)
_FINAL: Final = re.compile(r"\s*FINAL_ANSWER\b:?\s*", re.IGNORECASE)
_SHUTDOWN: Final = "runtime:shutdown"
_U64: Final = 1 << 64


class _Stored(NamedTuple):
    key: str
    time: datetime | None


@dataclass(slots=True)
class _Run:
    """Where a run is stored: whole, when it is finished, and after each step."""

    whole: _Stored | None = None
    snapshots: dict[int, _Stored] = field(default_factory=dict)
    checkpoints: dict[int, _Stored] = field(default_factory=dict)


def recognises(store: Store) -> bool:
    """Tell whether keys of this runtime are here."""
    keys = (entry.key or "" for prefix in ("session:", "loop:") for entry in store.engine.entries(prefix))
    found = filter(None, map(_KEY.fullmatch, keys))
    return any((one[1] == "loop") == (one["step"] is not None) for one in found) or store.engine.exists(_SHUTDOWN)


def read_sessions(store: Store, skipped: dict[str, str], session: str | None = None) -> Iterator[Session]:
    """Yield the finished sessions in the order in which they were stored, then the unfinished ones by their id.

    With ``session``, an id, it is only that one; ``skipped`` is given what cannot be read, key -> reason.
    """
    runs = _runs(store, session)
    finished = {run.whole.key: (name, run, run.whole) for name, run in runs.items() if run.whole is not None}
    keys = sorted(finished, key=lambda key: (str(finished[key][2].time), key))
    for key, value in read_values(store.engine, keys, "bytes"):
        try:
            yield _finished(*finished[key], value)
        except FormatError as error:
            skipped[key] = str(error)
    for name, run in sorted(runs.items()):
        if run.whole is None:
            yield from _unfinished(store, name, run, skipped)


def redundant_keys(place: Place) -> list[str]:
    """Return the snapshots that a finished session repeats whole: deleting them loses nothing, and half of the bytes.

    The runtime stores ``session:<id>:step:<n>``, the session cut to its first ``n`` steps, for every step. Each is
    loaded and compared; one that differs, or whose session is missing or damaged, is not returned. The checkpoints
    (``loop:...``) are not either: they hold the only times of the steps.

    Example:
        >>> import persistkit
        >>> store = persistkit.open("memory:")
        >>> store["session:1"] = store["session:1:step:1"] = {"session_id": "1", "steps": [{"thought": "Done."}]}
        >>> redundant_keys(store)
        ['session:1:step:1']
    """
    store = store_of(place, "redundant_keys")
    runs = {run.whole.key: run for run in _runs(store).values() if run.whole is not None}
    keys: list[str] = []
    for key, run in sorted(runs.items()):
        keys += [key, *(snapshot.key for _, snapshot in sorted(run.snapshots.items()))]
    redundant: list[str] = []
    whole: Any = None  # Any: stored JSON
    for key, value in read_values(store.engine, keys, "bytes"):
        if key in runs:
            whole = value if isinstance(value, dict) and isinstance(value.get("steps"), list) else None
        elif whole is not None and value == {**whole, "steps": whole["steps"][: int(key.rpartition(":")[2])]}:
            redundant.append(key)
    return redundant


def shutdown_time(place: Place) -> pd.Timestamp:
    """Return when the runtime that wrote ``place`` last shut down, nanoseconds kept.

    Raises:
        KeyError: no shutdown is stored.
        FormatError: what is stored is no RFC 3339 time.
    """
    data = store_of(place, "shutdown_time").get_bytes(_SHUTDOWN)
    try:
        moment = pd.Timestamp(data.decode())
    except ValueError as error:
        raise FormatError(f"load 'runtime:shutdown': no RFC 3339 time: {data[:60]!r}") from error
    if pd.isna(moment) or moment.tzinfo is None:
        raise FormatError(f"load 'runtime:shutdown': a time without offset: {data[:60]!r}")
    return moment


def _runs(store: Store, session: str | None = None) -> dict[str, _Run]:
    runs: dict[str, _Run] = defaultdict(_Run)
    for prefix in ("session:", "loop:"):
        for entry in store.engine.entries(f"{prefix}{session or ''}"):
            found = _KEY.fullmatch(entry.key or "")
            if entry.key is None or found is None or session not in (None, found["session"]):
                continue
            run, stored = runs[found["session"]], _Stored(entry.key, entry.modified)
            if found["step"] is not None:
                (run.snapshots if prefix == "session:" else run.checkpoints)[int(found["step"])] = stored
            elif prefix == "session:":
                run.whole = stored
    return runs


def _finished(name: str, run: _Run, whole: _Stored, value: object) -> Session:
    if not isinstance(value, dict):
        raise FormatError("no JSON object")
    _text(value, "session_id")
    agent = _text(value, "agent_id")
    last = {len(value["steps"]) if isinstance(value.get("steps"), list) else 0: whole}
    steps = _steps(value.get("steps"), run.snapshots | last, run.checkpoints | last)
    details = {"memory_hits": _unsigned(value, "memory_hits"), "graph_entities": _unsigned(value, "graph_lookups")}
    return Session(
        runtime="rust",
        id=name,
        status="finished",
        messages=_messages(steps),
        steps=steps,
        agent=agent,
        ended=whole.time,
        duration_ms=float(_unsigned(value, "duration_ms")),
        details=details | {kind: value[kind] for kind in ("checkpoint_errors",) if kind in value},
    )


def _unfinished(store: Store, name: str, run: _Run, skipped: dict[str, str]) -> Iterator[Session]:
    """Yield the run as its highest readable checkpoint has it."""
    for _, (key, time) in sorted(run.checkpoints.items(), reverse=True):
        try:
            steps = _steps(store[key], run.checkpoints, run.checkpoints)
        except FormatError as error:
            skipped[key] = str(error)
            continue
        except KeyError:  # the run ended and cleaned up while we looked
            continue
        messages = _messages(steps)
        reason = "no finished session is stored: the run failed, was stopped, or still runs"
        if messages and messages[-1].ok is False:
            reason += f"; its last call, of {messages[-1].tool}, failed"
        yield Session(
            runtime="rust",
            id=name,
            status="unfinished",
            messages=messages,
            steps=steps,
            reason=reason,
            ended=time,
        )
        return


def _messages(steps: tuple[Step, ...]) -> tuple[Message, ...]:
    return tuple(message for step in steps for message in step.messages)


def _steps(value: object, states: dict[int, _Stored], times: dict[int, _Stored]) -> tuple[Step, ...]:
    if not isinstance(value, list):
        raise FormatError("steps: no JSON array")
    keys = {n: stored.key for n, stored in states.items()}
    ended = {n: stored.time for n, stored in times.items()}
    return tuple(_step(step, n, keys.get(n), keys.get(n - 1), ended.get(n)) for n, step in enumerate(value, 1))


def _step(value: object, n: int, key: str | None, before: str | None, time: datetime | None) -> Step:
    if not isinstance(value, dict):
        raise FormatError(f"step {n}: no JSON object")
    try:
        thought, action, observation = (_text(value, name) for name in ("thought", "action", "observation"))
        duration = float(_unsigned(value, "step_duration_ms")) if "step_duration_ms" in value else None
    except FormatError as error:
        raise FormatError(f"step {n}: {error}") from error
    final = _FINAL.match(action)
    done = (
        Message(role="assistant", text=action[final.end() :].strip(), time=time)
        if final
        else _call(action, observation, time)
    )
    thoughts = (Message(role="reasoning", text=thought, time=time),) if thought else ()
    return Step(number=n, messages=(*thoughts, done), key=key, before=before, duration_ms=duration, time=time)


def _call(action: str, observation: str, time: datetime | None) -> Message:
    tool, _, text = action.partition(" ")
    said = _object(observation)
    if said is None:
        said = {"data": observation}
    ok, error, kind = said.get("ok"), said.get("error"), said.get("kind")
    arguments = _object(text) if text.strip() else {}
    return Message(
        role="tool",
        tool=tool,
        arguments=text if arguments is None else arguments,
        result=said.get("data", None if "ok" in said else said),
        ok=ok if isinstance(ok, bool) else None,
        error=error if isinstance(error, str) else None,
        error_kind=kind if isinstance(kind, str) else None,
        time=time,
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


def _unsigned(fields: Mapping[str, Any], name: str) -> int:
    # As strict as the runtime's own reader: no null, no float, no bool, nothing negative.
    value = fields.get(name)
    if type(value) is not int or not 0 <= value < _U64:
        raise FormatError(f"{name}: {'missing' if name not in fields else 'no unsigned 64-bit integer'}")
    return value
