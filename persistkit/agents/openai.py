"""What the OpenAI Agents SDK stores: a session with its items, read from the rows of ``OpenAIAgentsEngine``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final, TypeAlias

from persistkit.agents.conversations import Said, decoded, joined, text_and_rest, text_or_none, tokens
from persistkit.agents.records import Message, Session, Status, Step
from persistkit.engines.foreign.openai_agents import BELOW, OpenAIAgentsEngine
from persistkit.engines.foreign.rows import escaped, moment_of
from persistkit.entry import Entry
from persistkit.store import Store
from persistkit.views import read_values

__all__ = ["read_sessions", "recognises"]

_SESSIONS, _STRUCTURE, _USAGE = BELOW
_MAIN: Final = "main"
_SECOND: Final = timedelta(seconds=1)

Raw: TypeAlias = dict[str, Any]  # Any: JSON


def recognises(store: Store) -> bool:
    """Tell whether there is a row of the SDK's table of sessions."""
    key = next((entry.key for entry in store.engine.entries(f"{_SESSIONS}/") if entry.key is not None), None)
    return key is not None and {"session_id", "created_at"} <= _objects(store, [key], {}).get(key, {}).keys()


def read_sessions(store: Store, skipped: dict[str, str], session: str | None = None) -> Iterator[Session]:
    """Yield the sessions of ``store``, or the one of that id; see ``persistkit.agents.records``."""
    prefixes = [""]
    if session is not None:
        prefixes = [OpenAIAgentsEngine.prefix_of(session), *(f"{name}/{escaped(session)}" for name in BELOW)]
    rows: dict[str, dict[str, list[Entry]]] = {}
    plain = {OpenAIAgentsEngine.prefix_of(name)[:-1]: name for name in BELOW}
    for entry in chain.from_iterable(map(store.engine.entries, prefixes)):
        of, _, rest = (entry.key or "").partition("/")
        if of in BELOW:
            rows.setdefault(rest.partition("/")[0], {}).setdefault(of, []).append(entry)
        elif rest.isdigit():
            rows.setdefault(plain.get(of, of), {}).setdefault("", []).append(entry)
    for part in sorted(rows):
        own = {of: sorted(entries, key=lambda entry: entry.key or "") for of, entries in rows[part].items()}
        heads = _objects(store, (entry.key for entry in own.get(_SESSIONS, ())), skipped)
        head = next(iter(heads.values()), None)
        if head is not None and session in (None, head.get("session_id")):
            yield _session(store, head, own, skipped)


def _session(store: Store, head: Raw, rows: dict[str, list[Entry]], skipped: dict[str, str]) -> Session:
    items, structure, usage = (
        _objects(store, (entry.key for entry in rows.get(of, ())), skipped) for of in ("", _STRUCTURE, _USAGE)
    )
    started, ended = moment_of(head.get("created_at")), moment_of(head.get("updated_at"))
    branches, turns = _branch(items, list(structure.values()))
    times = {entry.key: _time(entry, started, ended) for entry in rows.get("", ())}
    said = joined(_said(place, items[key], times[key]) for place, key in enumerate(turns))
    counts = {row.get("user_turn_number"): row for row in usage.values() if row.get("branch_id") == branches[0]}
    of_place = list(turns.values())
    messages = [one.message for one in said]
    for n in reversed(range(len(said))):  # the tokens of a turn are those of its last answer
        if messages[n].role == "assistant" and (used := counts.pop(of_place[said[n].step], None)) is not None:
            read, written = tokens(used, "input_tokens"), tokens(used, "output_tokens")
            messages[n] = replace(messages[n], input_tokens=read, output_tokens=written)
    status, reason = _status(said)
    return Session(
        runtime="openai",
        id=str(head["session_id"]),
        status=status,
        reason=reason,
        messages=tuple(messages),
        steps=tuple(_steps(messages)),
        started=started,
        ended=ended,
        details={"items": len(items), **({"branches": branches} if structure else {})},
    )


def _branch(items: Iterable[str], structure: list[Raw]) -> tuple[list[str], dict[str, Any]]:
    """Return the names of the branches, the one that is told first, and its items' keys with the turn of each."""
    if not structure:
        return [_MAIN], dict.fromkeys(items)
    branches = sorted({str(row.get("branch_id")) for row in structure}, key=lambda name: (name != _MAIN, name))
    keys = {int(key.rpartition("/")[2]): key for key in items}
    told = [row for row in structure if row.get("branch_id") == branches[0] and row.get("message_id") in keys]
    told.sort(key=lambda row: tokens(row, "sequence_number") or 0)
    return branches, {keys[row["message_id"]]: row.get("user_turn_number") for row in told}


def _said(place: int, item: Raw, time: datetime | None) -> Said:
    kind = item.get("type", "message")
    name, call_id = text_or_none(item.get("id")), text_or_none(item.get("call_id"))
    if kind == "function_call":
        tool, arguments = text_or_none(item.get("name")), decoded(item.get("arguments"))
        call = Message(role="tool", id=name, tool=tool, arguments=arguments, call_id=call_id, time=time)
        return Said(place, call, "call")
    if kind == "function_call_output":
        text, rest = text_and_rest(item.get("output"))
        result = item.get("output") if rest else decoded(text)
        return Said(place, Message(role="tool", id=name, call_id=call_id, result=result, time=time), "result")
    content, role = ("summary", "reasoning") if kind == "reasoning" else ("content", item.get("role"))
    if kind in ("message", "reasoning") and role is not None:
        text, rest = text_and_rest(item.get(content))
        data = {content: rest} if rest else None
        return Said(place, Message(role=str(role), id=name, text=text, time=time, data=data))
    return Said(place, Message(role=str(kind), id=name, call_id=call_id, time=time, data=item))


def _steps(messages: list[Message]) -> Iterator[Step]:
    """Yield a step for each message or call; a thought belongs to the step of what follows it."""
    number, together = 0, []
    for place, message in enumerate(messages, 1):
        together.append(message)
        if message.role != "reasoning" or place == len(messages):
            number += 1
            yield Step(number=number, messages=tuple(together), time=message.time)
            together = []


def _status(said: list[Said]) -> tuple[Status, str | None]:
    open_calls = [one.message.tool for one in said if one.kind == "call"]
    if open_calls:
        return "unfinished", f"it was stopped while {open_calls[-1]!r} was called, or still runs"
    if said and said[-1].message.role == "assistant":
        return "finished", None
    return "unfinished", "it was stopped before the agent answered, or still runs" if said else "it has no items"


def _time(entry: Entry, started: datetime | None, ended: datetime | None) -> datetime | None:
    """Return when an item was stored; None where the entry tells when it was copied."""
    if entry.modified is None or started is None or ended is None:
        return None
    return entry.modified if started - _SECOND <= entry.modified <= ended + _SECOND else None


def _objects(store: Store, keys: Iterable[str | None], skipped: dict[str, str]) -> dict[str, Raw]:
    found = dict(read_values(store.engine, [key for key in keys if key is not None], "bytes"))
    skipped |= {key: "no JSON object" for key, value in found.items() if type(value) is not dict}
    return {key: value for key, value in found.items() if type(value) is dict}
