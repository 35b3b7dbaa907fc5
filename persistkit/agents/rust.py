"""What the Rust crate llm-agent-runtime stores (1.74.0): sessions, checkpoints, the time of its shutdown.

A finished run is ``session:<id>``, with a snapshot ``session:<id>:step:<n>`` for each step; a run that failed, was
stopped or still runs has only its checkpoints ``loop:<id>:step:<n>``. Fields that are missing or of another type than
the runtime's own reader accepts make a value damaged; unknown fields are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from json import JSONDecodeError, loads
from typing import TYPE_CHECKING, Any, Final

from persistkit.agents.readers import store_of
from persistkit.agents.records import Message, Session, Step
from persistkit.entry import Entry
from persistkit.errors import FormatError
from persistkit.store import Store
from persistkit.views import read_values

if TYPE_CHECKING:
    import pandas as pd

    from persistkit.transfer import Place

__all__ = ["read_sessions", "recognises", "redundant_keys", "shutdown_time"]

_SESSION: Final = re.compile(r"session:(?!.*:step:\d+$)(?P<session>.+)", re.DOTALL)
_SNAPSHOT: Final = re.compile(r"session:(?P<session>.+):step:(?P<step>\d{1,18})", re.DOTALL)
_CHECKPOINT: Final = re.compile(r"loop:(?P<session>.+):step:(?P<step>\d{1,18})", re.DOTALL)
_FINAL: Final = re.compile(r"\s*FINAL_ANSWER\b:?\s*", re.IGNORECASE)
_SHUTDOWN: Final = "runtime:shutdown"
_U64: Final = 1 << 64

_Found = dict[str, dict[int, tuple[str, datetime | None]]]  # session -> step -> key, and when it was stored


def recognises(store: Store) -> bool:
    """Tell whether keys of this runtime are here."""
    keys = (entry.key or "" for prefix in ("session:", "loop:") for entry in store.engine.entries(prefix))
    return any(_SESSION.fullmatch(key) or _CHECKPOINT.fullmatch(key) for key in keys) or store.engine.exists(_SHUTDOWN)


def read_sessions(store: Store, skipped: dict[str, str], session: str | None = None) -> Iterator[Session]:
    """Yield the finished sessions in the order in which they were stored, then the unfinished ones by their id.

    Args:
        store: where they are.
        skipped: is given what cannot be read, key -> reason.
        session: the id of the only one that is wanted.
    """
    sessions, snapshots = _stored_sessions(store, session or "")
    checkpoints = _numbered(store.engine.entries(f"loop:{session or ''}"), _CHECKPOINT)
    keys = [
        key
        for key, (name, _) in sorted(sessions.items(), key=lambda item: (str(item[1][1]), item[0]))
        if session in (None, name)
    ]
    for key, value in read_values(store.engine, keys, "bytes"):
        name, stored = sessions[key]
        times = {n: time for n, (_, time) in checkpoints.get(name, {}).items()}
        places = {n: place for n, (place, _) in snapshots.get(name, {}).items()}
        try:
            yield _finished(key, name, value, stored, times, places)
        except FormatError as error:
            skipped[key] = str(error)
    finished = {name for name, _ in sessions.values()}
    for name in sorted(checkpoints.keys() - finished):
        if session in (None, name):
            yield from _unfinished(store, name, checkpoints[name], skipped)


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
    sessions, snapshots = _stored_sessions(store, "")
    keys: list[str] = []
    for key, (name, _) in sorted(sessions.items()):
        keys += [key, *(place for _, (place, _) in sorted(snapshots.get(name, {}).items()))]
    redundant: list[str] = []
    whole: Any = None  # Any: stored JSON
    for key, value in read_values(store.engine, keys, "bytes"):
        if key in sessions:
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
    import pandas as pd

    data = store_of(place, "shutdown_time").get_bytes(_SHUTDOWN)
    try:
        moment = pd.Timestamp(data.decode())
    except ValueError as error:
        raise FormatError(f"load 'runtime:shutdown': no RFC 3339 time: {data[:60]!r}") from error
    if pd.isna(moment) or moment.tzinfo is None:
        raise FormatError(f"load 'runtime:shutdown': a time without offset: {data[:60]!r}")
    return moment


def _numbered(entries: Iterable[Entry], pattern: re.Pattern[str]) -> _Found:
    found: _Found = {}
    for entry in entries:
        match = pattern.fullmatch(entry.key or "")
        if match and entry.key is not None:
            steps = found.setdefault(match["session"], {})
            steps[int(match["step"])] = entry.key, entry.modified
    return found


def _stored_sessions(store: Store, session: str) -> tuple[dict[str, tuple[str, datetime | None]], _Found]:
    """Return the finished sessions (key -> id and when it was stored), and their snapshots."""
    entries = list(store.engine.entries(f"session:{session}"))
    found = [(entry, _SESSION.fullmatch(entry.key or "")) for entry in entries]
    sessions = {entry.key: (match["session"], entry.modified) for entry, match in found if match and entry.key}
    return sessions, _numbered(entries, _SNAPSHOT)


def _finished(
    key: str,
    name: str,
    value: object,
    stored: datetime | None,
    times: dict[int, datetime | None],
    places: dict[int, str],
) -> Session:
    if not isinstance(value, dict):
        raise FormatError("no JSON object")
    _text(value, "session_id")
    agent = _text(value, "agent_id")
    last = len(value["steps"]) if isinstance(value.get("steps"), list) else 0
    steps = _steps(value.get("steps"), {**places, last: key}, {**times, last: stored})
    details = {"memory_hits": _unsigned(value, "memory_hits"), "graph_entities": _unsigned(value, "graph_lookups")}
    messages = tuple(message for step in steps for message in step.messages)
    said = [message.text for message in messages if message.role == "assistant"]
    return Session(
        runtime="rust",
        id=name,
        status="finished",
        messages=messages,
        steps=steps,
        agent=agent,
        answer=said[-1] if said else None,
        ended=stored,
        duration_ms=float(_unsigned(value, "duration_ms")),
        details=details | {kind: value[kind] for kind in ("checkpoint_errors",) if kind in value},
    )


def _unfinished(
    store: Store, name: str, checkpoints: dict[int, tuple[str, datetime | None]], skipped: dict[str, str]
) -> Iterator[Session]:
    """Yield the run as its highest readable checkpoint has it."""
    for n in sorted(checkpoints, reverse=True):
        key, stored = checkpoints[n]
        try:
            places = {step: place for step, (place, _) in checkpoints.items()}
            times = {step: time for step, (_, time) in checkpoints.items()}
            steps = _steps(store[key], places, times)
        except FormatError as error:
            skipped[key] = str(error)
            continue
        except KeyError:  # the run ended and cleaned up while we looked
            continue
        messages = tuple(message for step in steps for message in step.messages)
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
            ended=stored,
        )
        return


def _steps(value: object, places: dict[int, str], times: dict[int, datetime | None]) -> tuple[Step, ...]:
    if not isinstance(value, list):
        raise FormatError("steps: no JSON array")
    return tuple(_step(step, n, places.get(n), places.get(n - 1), times.get(n)) for n, step in enumerate(value, 1))


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
    ok = None if said is None else said.get("ok")
    error = None if said is None else _text_or_none(said.get("error"))
    arguments = _object(text) if text.strip() else {}
    return Message(
        role="tool",
        tool=tool,
        arguments=text if arguments is None else arguments,
        result=observation if said is None else said.get("data", None if "ok" in said else said),
        ok=ok if isinstance(ok, bool) else None,
        error=error,
        error_kind=None if said is None else _text_or_none(said.get("kind")),
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


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _unsigned(fields: Mapping[str, Any], name: str) -> int:
    # As strict as the runtime's own reader: no null, no float, no bool, nothing negative.
    value = fields.get(name)
    if type(value) is not int or not 0 <= value < _U64:
        raise FormatError(f"{name}: {'missing' if name not in fields else 'no unsigned 64-bit integer'}")
    return value
