"""What the readers of conversations share: the text of a message, and a tool call joined to its result."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple

from persistkit.agents.records import Message

__all__ = ["Said", "decoded", "joined", "shortened", "text_and_rest", "text_or_none", "tokens"]

_INT64: Final = 1 << 63
_MOST_REASON: Final = 300
_TEXTS: Final = ("text", "input_text", "output_text", "summary_text", "refusal")  # kinds of parts


class Said(NamedTuple):
    """One thing that was said, before calls and results are joined.

    Attributes:
        step: the place of the step that stored it.
        message: what it is.
        kind: a result is joined to the call of its ``call_id``.
        is_final: it is in the newest state.
    """

    step: int
    message: Message
    kind: Literal["message", "call", "result"] = "message"
    is_final: bool = True


def joined(said: Iterable[Said]) -> list[Said]:
    """Return what was said with each call and its result as one, at the place of the call, of the result's step.

    Of several results with one ``call_id`` the first belongs to the first call; one without a call stays as it is.
    """
    found: list[Said] = []
    waiting: dict[str | None, deque[int]] = defaultdict(deque)  # the places of calls without a result
    for one in said:
        places = waiting[one.message.call_id]
        if one.kind == "result" and places:
            place = places.popleft()
            message = _with_result(found[place].message, one.message)
            found[place] = Said(one.step, message, is_final=found[place].is_final)
        else:
            if one.kind == "call":
                places.append(len(found))
            found.append(one)
    return found


def _with_result(call: Message, result: Message) -> Message:
    return replace(
        call,
        id=result.id or call.id,
        tool=call.tool or result.tool,
        result=result.result,
        ok=result.ok,
        error=result.error,
        time=result.time,
        data=call.data if result.data is None else result.data,
    )


def text_and_rest(content: Any) -> tuple[str | None, list[Any]]:
    """Return the text of a message's content, and its parts that are no text."""
    if isinstance(content, str) or content is None:
        return content, []
    texts, rest = [], []
    for part in content if isinstance(content, list) else [content]:
        is_text = isinstance(part, dict) and part.get("type") in _TEXTS
        text = part.get("text", part.get("refusal")) if is_text else part
        if isinstance(text, str):
            texts.append(text)
        else:
            rest.append(part)
    return "\n\n".join(texts) if texts else None, rest


def text_or_none(value: object) -> str | None:
    """Return text, and None for anything else."""
    return value if type(value) is str else None


def decoded(content: Any) -> Any:
    """Return the JSON object or array that a text is, or what was given."""
    if isinstance(content, str) and content.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            pass
    return content


def tokens(usage: Any, name: str) -> int | None:
    """Return a count of tokens, None where there is none that can be."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and 0 <= count < _INT64 else None


def shortened(value: Any) -> str:
    """Return a value as the end of a sentence."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _MOST_REASON else f"{text[: _MOST_REASON - 1]}…"
