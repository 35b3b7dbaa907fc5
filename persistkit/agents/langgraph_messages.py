"""Messages as LangChain writes them, in the states and writes of LangGraph, as records."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, TypeAlias

from persistkit.agents.conversations import Said, decoded, text_and_rest, text_or_none, tokens
from persistkit.agents.records import Message

__all__ = ["Raw", "likeness", "merged", "messages_in", "messages_of", "overwriting", "said_of"]

Raw: TypeAlias = dict[str, Any]  # Any: plain data, as a checkpoint holds it

_OVERWRITE: Final = "__overwrite__"
_KNOWN: Final = frozenset(["user", "assistant", "system", "tool", "developer", "chat"])
_KINDS: Final = {"human": "user", "user": "user", "ai": "assistant", "assistant": "assistant", "function": "tool"}
_MORE: Final = ("additional_kwargs", "response_metadata", "artifact")


def said_of(raw: Raw, step: int, time: datetime | None, *, is_final: bool) -> Iterator[Said]:
    """Yield a message as it is said in a step, and the calls in it."""
    role, name = _role(raw), text_or_none(raw.get("id"))
    text, rest = text_and_rest(raw.get("content"))
    more = {key: raw[key] for key in _MORE if raw.get(key)} | ({"content": rest} if rest else {})
    if role == "tool":
        failed = raw.get("status") == "error"
        message = Message(
            role="tool",
            id=name,
            tool=text_or_none(raw.get("name")),
            call_id=text_or_none(raw.get("tool_call_id")),
            result=None if failed else decoded(text),
            ok=not failed if "status" in raw else None,
            error=text if failed else None,
            time=time,
            data=more or None,
        )
        yield Said(step, message, "result", is_final)
        return
    usage = raw.get("usage_metadata")
    message = Message(
        role=role,
        text=text,
        id=name,
        input_tokens=tokens(usage, "input_tokens"),
        output_tokens=tokens(usage, "output_tokens"),
        time=time,
        data=more or None,
    )
    yield Said(step, message, "message", is_final)
    for call in _calls(raw, time):
        yield Said(step, call, "call", is_final)


def _role(raw: Raw) -> str:
    kind = raw.get("type") or raw.get("role") or raw.get("$class", "").rpartition(".")[2]
    kind = kind.removesuffix("Chunk").removesuffix("Message").lower() if type(kind) is str else ""
    own = text_or_none(raw.get("role")) if kind == "chat" else None
    return _KINDS.get(kind, own or kind)


def _calls(raw: Raw, time: datetime | None) -> Iterator[Message]:
    """Yield the tool calls of a message, as LangChain writes them or as OpenAI does."""
    for field_name in ("tool_calls", "invalid_tool_calls"):
        calls = raw.get(field_name)
        for call in calls if type(calls) is list else ():
            if type(call) is dict:
                function = call["function"] if type(call.get("function")) is dict else call
                arguments = function["args"] if "args" in function else decoded(function.get("arguments"))
                failed = field_name == "invalid_tool_calls"
                yield Message(
                    role="tool",
                    tool=text_or_none(function.get("name")),
                    arguments=arguments,
                    call_id=text_or_none(call.get("id")),
                    ok=False if failed else None,
                    error=text_or_none(call.get("error")) if failed else None,
                    time=time,
                )


def messages_in(state: Raw) -> tuple[str, list[Raw]]:
    """Return the channel ``messages`` of a state, or else the first that holds any, and the messages in it."""
    for name in ("messages", *sorted(state)):
        if name in state and type(state[name]) is list and (found := list(messages_of(state[name]))):
            return name, found
    return "messages", []


def messages_of(value: Any) -> Iterator[Raw]:
    """Yield the messages in a list, or the one that is there."""
    for one in value if type(value) is list else [value]:
        if type(one) is dict and "content" in one and _role(one) in _KNOWN:
            yield one


def likeness(message: Raw) -> str:
    """Return what two copies of a message have in common, with an id and without."""
    return repr((_role(message), message.get("content"), message.get("tool_call_id")))


def overwriting(value: Any) -> tuple[bool, Any]:
    """Return whether a write replaces what is there, and what it writes."""
    if type(value) is dict:
        if value.get("$class") == "langgraph.types.Overwrite" or value.get("type") == _OVERWRITE:
            return True, value.get("value")
        if list(value) == [_OVERWRITE]:
            return True, value[_OVERWRITE]
    return False, value


def merged(value: Any, written: Any) -> Any:
    """Return a delta channel after a write: messages by their ids, as LangGraph merges them; lists and dicts grow."""
    is_new, written = overwriting(written)
    if is_new:
        return written
    if type(value) is dict and type(written) is dict and "content" not in written:
        return value | written
    if type(value) is not list:
        return written
    merged = {one.get("id") or (place,): one for place, one in enumerate(value) if type(one) is dict}
    if len(merged) != len(value):  # no messages
        return value + (written if type(written) is list else [written])
    for one in written if type(written) is list else [written]:
        one = {"type": "human", "content": one} if type(one) is str else one
        name = one.get("id") if type(one) is dict else None
        if type(one) is dict and _role(one) == "remove":
            if name == "__remove_all__":
                merged.clear()
            merged.pop(name, None)
        else:
            merged[name or (len(value) + len(merged),)] = one
    return list(merged.values())
