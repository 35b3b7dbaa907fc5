"""Comparing two runs of agents: the step at which they part, and every difference."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from persistkit.agents.readers import read_session, store_of
from persistkit.agents.records import Message, Session, Step
from persistkit.diff import Action, Diff, diff_values, parting

if TYPE_CHECKING:
    from persistkit.transfer import Place

__all__ = ["diff_sessions"]

_DIFFERS: Final = frozenset(["id", "call_id", "input_tokens", "output_tokens", "time"])
_STEP: Final = re.compile(r"\$\.steps\[(\d+)\]")


def diff_sessions(place: Place, left: str, right: str) -> Diff:
    """Return where two sessions differ, of any runtime that is known; ``step`` is the step at which they part.

    They part where one calls another tool, or with other arguments, or gives another answer, or gets another result.
    Thoughts, which are worded differently in every run, are rows, but not where runs part. What always differs (ids,
    times, durations, numbers of tokens) is left out. A path begins with the number of the step in ``left``, such as
    ``step 3.messages[1].arguments.query``, or in ``right`` where only that one has the step.

    Args:
        place: where both are stored.
        left: the id of a session, as ``sessions_frame`` shows it.
        right: the id of another one.

    Raises:
        KeyError: there is no session of that id.
        FormatError: a session is damaged.
        TypeError: ``place`` is no engine, store or backend; the message never shows it.
        ValueError: what is stored is of no runtime that is known.
        StorageError: the storage refused, is gone or did not answer.
    """
    store = store_of(place, "diff_sessions")
    one, other = read_session(store, left), read_session(store, right)
    diff = diff_values(_plain(one), _plain(other), names=(left, right))
    diff["path"] = [
        _by_step(path, change, one, other) for path, change in zip(diff["path"], diff["change"], strict=True)
    ]
    numbers = [step.number for step in max(one.steps, other.steps, key=len)]
    step, sentence = parting([_action(step) for step in one.steps], [_action(step) for step in other.steps], numbers)
    diff.attrs |= {"step": step, "notes": [sentence or "The runs never part.", *diff.notes]}
    return diff


def _plain(session: Session) -> dict[str, Any]:
    steps = [
        {name: what for name, what in (("name", step.name), ("error", step.error)) if what is not None}
        | {"messages": [_told(message) for message in step.messages]}
        for step in session.steps
    ]
    return {"agent": session.agent, "status": session.status, "answer": session.answer, "steps": steps}


def _told(message: Message) -> dict[str, Any]:
    told = {field.name: getattr(message, field.name) for field in fields(message) if field.name not in _DIFFERS}
    return {name: value for name, value in told.items() if value is not None}


def _by_step(path: str, change: str, one: Session, other: Session) -> str:
    """Return a path with the number of the step, as ``steps_frame`` counts, for its place in the list."""
    found = _STEP.match(path)
    if found is None:
        return path
    is_added = change == "added" and found.end() == len(path)
    return f"step {(other if is_added else one).steps[int(found[1])].number}{path[found.end() :]}"


def _action(step: Step) -> Action:
    """Return what a step did, and what came of it."""
    calls = [message for message in step.messages if message.tool is not None]
    said = [message for message in step.messages if message.role != "reasoning"]
    results = [(message.result, message.ok, message.error) for message in calls]
    if calls:
        return ", ".join(f"{message.tool}({_arguments(message)})" for message in calls), [results, step.error]
    return "; ".join(f"{message.role}: {message.text}" for message in said) or step.name or "", [step.error]


def _arguments(message: Message) -> str:
    given = message.arguments
    if not isinstance(given, dict):
        return "" if given is None else repr(given)
    return ", ".join(f"{name}={given[name]!r}" for name in sorted(given))
