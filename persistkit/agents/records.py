"""Sessions, messages and steps of an agent: the same records whichever runtime stored them.

A reader of one runtime is a module of this package with two functions, which the tables and the timeline use:

* ``recognises(store) -> bool``: whether the store holds what this runtime stores; cheap, and never an error for values
  of other programs
* ``read_sessions(store, skipped, session=None) -> Iterator[Session]``: every session, or the one of that id, each as
  soon as it is read. A value that is damaged or not of the runtime's form is left out, and ``skipped[key]`` says why
  (where only a part is left out, ``skipped["<key> <part>"]``).

Everything in a record is plain data: text, numbers, truth values, None, lists, dicts, bytes, NumPy arrays. Nothing that
a stored value names is imported. Times are aware and in UTC, integers have at most 64 bits, sign included. What a
runtime does not store is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

__all__ = ["Message", "Session", "Status", "Step", "total_tokens"]

# Any: stored JSON or msgpack, as plain data.
Data: TypeAlias = Any

Status: TypeAlias = Literal["finished", "interrupted", "failed", "unfinished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message, thought or tool call.

    A tool call is one message with its result, not two: the request and the answer are joined by their ``call_id``. An
    assistant's message that asks for two tools is followed by two messages of role ``tool``; it stays a message of its
    own even when its text is empty. A result whose request is gone is a message without arguments.

    Attributes:
        role: ``system``, ``user``, ``assistant``, ``reasoning`` (a thought), ``tool`` (a call and its result), or the
            kind as the runtime names it.
        text: what is said; of several text parts, the parts joined by empty lines. None for a tool call.
        id: the message's own id.
        tool: the name of the tool that is called.
        arguments: of the call, mostly a dict; text where they are not the JSON object they should be.
        call_id: what joins the call to its result.
        result: what the tool gave, decoded where it is JSON; None when there is none, or an error instead.
        ok: whether the call succeeded; None where the runtime does not say, or no result is stored.
        error: the text of a failed call.
        error_kind: the runtime's name for the kind of failure, such as ``transient``.
        input_tokens: read by the model for this message.
        output_tokens: written by the model for this message.
        time: when it was stored.
        data: what has no place above, as plain data: images of a message, the whole item of an unknown kind.
    """

    role: str
    text: str | None = None
    id: str | None = None
    tool: str | None = None
    arguments: Data = None
    call_id: str | None = None
    result: Data = None
    ok: bool | None = None
    error: str | None = None
    error_kind: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    time: datetime | None = None
    data: Data = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a run: what came new in it.

    LangGraph: one checkpoint (its superstep). A tool call belongs to the step that stored its result, so that the time
    of that step is the tool's; a call without a result to the step that asked for it. OpenAI Agents SDK: one item of
    the assistant or the user, the reasoning before it included. Rust runtime: one thought with its action.

    Attributes:
        number: as the runtime counts (LangGraph starts at -1), or from 1 on where it does not.
        messages: that are new in this step, in order; what a subgraph and its parent both hold is new once.
        name: what ran: LangGraph's node, several joined by ", "; None where the runtime has no such thing.
        namespace: LangGraph's ``checkpoint_ns``, a subgraph; the empty text for the graph itself and elsewhere.
        key: under which the store has the whole state after this step; None where no such value is stored.
        before: the same before this step (the parent checkpoint): ``store.diff(before, key)`` is what the step changed.
        duration_ms: that the step took, in milliseconds.
        time: when the step was stored.
        error: why the step itself failed, beside the errors of its tool calls.
    """

    number: int
    messages: tuple[Message, ...] = ()
    name: str | None = None
    namespace: str = ""
    key: str | None = None
    before: str | None = None
    duration_ms: float | None = None
    time: datetime | None = None
    error: str | None = None

    @property
    def calls(self) -> list[Message]:
        """The messages that are tool calls."""
        return [message for message in self.messages if message.role == "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session (LangGraph: a thread) with its messages and steps.

    Attributes:
        runtime: ``rust``, ``langgraph`` or ``openai``.
        id: of the session.
        status: ``finished``; ``interrupted``: it waits for a person; ``failed``: a step raised; ``unfinished``: it was
            stopped, or still runs, nothing tells which.
        messages: all of them at the end, in order, as the runtime's own interface gives them.
        steps: all of them, in the order in which they happened. May be incomplete where ``skipped`` says so.
        agent: the name of the agent, where one is stored.
        reason: why the session is not finished, in words that follow "unfinished: "; None when it is.
        started: when it began.
        ended: when its last value was stored.
        duration_ms: that the runs of the session took together, in milliseconds, where stored.
        details: what only this runtime stores, by name; plain data.
    """

    runtime: str
    id: str
    status: Status
    messages: tuple[Message, ...]
    steps: tuple[Step, ...]
    agent: str | None = None
    reason: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    duration_ms: float | None = None
    details: dict[str, Data] = field(default_factory=dict)

    @property
    def answer(self) -> str | None:
        """The last thing the agent said, when it is finished."""
        said = (one.text for one in reversed(self.messages) if one.role == "assistant" and one.text is not None)
        return next(said, None) if self.status == "finished" else None

    @property
    def calls(self) -> list[Message]:
        """The tool calls of all steps."""
        return [call for step in self.steps for call in step.calls]

    @property
    def errors(self) -> int:
        """How many tool calls and steps failed."""
        return sum(call.ok is False for call in self.calls) + sum(step.error is not None for step in self.steps)


def total_tokens(steps: Iterable[Step]) -> tuple[int | None, int | None]:
    """Return the tokens that were read and written in steps; None where no number is stored."""
    messages = [message for step in steps for message in step.messages]
    read = [message.input_tokens for message in messages if message.input_tokens is not None]
    written = [message.output_tokens for message in messages if message.output_tokens is not None]
    return sum(read) if read else None, sum(written) if written else None
