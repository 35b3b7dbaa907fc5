"""What LangGraph stores: a session is a thread, a step a checkpoint, read from the rows of ``LangGraphEngine``."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce
from itertools import groupby, islice
from typing import Any, Final, TypeAlias

from persistkit.agents.conversations import Said, joined, shortened
from persistkit.agents.langgraph_messages import Raw, likeness, merged, messages_in, messages_of, overwriting, said_of
from persistkit.agents.records import Message, Session, Status, Step
from persistkit.engines.foreign.langgraph import LangGraphEngine, time_of_checkpoint
from persistkit.engines.read_only import ReadOnlyEngine
from persistkit.errors import FormatError
from persistkit.formats.langgraph import decode_payload, decode_row
from persistkit.progress import Progress, load_in_batches
from persistkit.rows import MAGIC, Part, split_row
from persistkit.store import Store

__all__ = ["read_sessions", "recognises"]

_LOOKED_AT: Final = 200
_ERROR, _INTERRUPT, _SENDS = "__error__", "__interrupt__", "__pregel_tasks"
# Channels that are there only while the node after them has not run.
_TRIGGERS: Final = ("branch:", "start:", "__start__")

_Row: TypeAlias = tuple[str, dict[str, Any], list[Part]]  # key, columns, payloads


def recognises(store: Store) -> bool:
    """Tell whether there is a checkpoint or write of LangGraph's among the first values."""
    keys = (entry.key for entry in islice(store.engine.entries(), _LOOKED_AT))
    likely = (key for key in keys if key is not None and key.count("/") in (2, 4))
    return any(store.engine.read_range(key, 0, len(MAGIC)) == MAGIC for key in islice(likely, 3))


def read_sessions(store: Store, skipped: dict[str, str], session: str | None = None) -> Iterator[Session]:
    """Yield the threads of ``store``, or the one of that id; see ``persistkit.agents.records``."""
    engine = store.engine.engine if isinstance(store.engine, ReadOnlyEngine) else store.engine
    rows = _stored(engine, session) if isinstance(engine, LangGraphEngine) else _copied(store, skipped, session)
    for _, of_thread in groupby(rows, key=lambda row: row[0].partition("/")[0]):
        thread = _Thread(store, skipped)
        for row in of_thread:
            thread.add(*row)
        if thread.checkpoints:
            yield thread.session()


def _stored(engine: LangGraphEngine, session: str | None) -> Iterator[_Row]:
    """Yield the rows of a database thread by thread: several at a time, as many as are not large."""
    threads = engine.threads() if session is None else [session]
    progress = Progress(None, "reading", shown=False)
    progress.batch, start = 1, 0  # how large a thread is shows only when it is there
    while batch := threads[start : start + progress.batch]:
        rows: dict[str, list[_Row]] = {}
        for row in engine.rows_of(batch):
            rows.setdefault(row[1]["thread_id"], []).append(row)
        start += len(batch)
        sizes = [sum(len(part[2]) for _, _, parts in of_thread for part in parts) for of_thread in rows.values()]
        progress.done(len(batch), max(sizes, default=0))
        for of_thread in rows.values():
            yield from of_thread


def _copied(store: Store, skipped: dict[str, str], session: str | None) -> Iterator[_Row]:
    """Yield the rows that were copied elsewhere, thread by thread."""
    prefix = "" if session is None else LangGraphEngine.prefix_of(session)
    keys = [key for key in store.keys(prefix) if key.count("/") in (2, 4)]
    for key, data in load_in_batches(store.engine, keys):
        if data is not None and data.startswith(MAGIC):
            try:
                yield key, *split_row(data)
            except FormatError as error:
                skipped[key] = str(error)


@dataclass(slots=True)
class _Write:
    key: str
    place: tuple[str, str, int]  # path, task, index
    channel: str
    part: Part

    def node(self, sends: list[Any]) -> str | None:
        """Return what wrote it, as its task's path says: a node, or the place of what was sent to one."""
        way, _, last = self.place[0].removeprefix("~").rpartition(", ")
        if not last.isdigit():
            return last if way else None
        send = sends[int(last)] if "push" in way and int(last) < len(sends) else None
        args = send.get("args") if type(send) is dict else None
        return str(args[0]) if type(args) is list and args else None


@dataclass(slots=True)
class _Checkpoint:
    key: str
    namespace: str
    id: str
    parent: str | None
    metadata: Raw
    time: datetime | None
    writes: list[_Write] = field(default_factory=list)
    children: int = 0

    @property
    def number(self) -> int:
        step = self.metadata.get("step")
        return step if type(step) is int and abs(step) < 1 << 62 else 0


class _Thread:
    """The rows of one thread, and what they come to."""

    def __init__(self, store: Store, skipped: dict[str, str]) -> None:
        self.checkpoints: dict[tuple[str, str], _Checkpoint] = {}
        self._store = store
        self._skipped = skipped
        self._writes: dict[tuple[str, str], list[_Write]] = {}
        self._id = ""

    def add(self, key: str, columns: dict[str, Any], parts: list[Part]) -> None:
        """Take a row. The state itself is not kept: each repeats what those before it hold."""
        try:
            place = str(columns["checkpoint_ns"]), str(columns["checkpoint_id"])
            self._id = str(columns["thread_id"])
            if columns["table"] == "writes":
                if not parts:
                    raise FormatError("it has no value")
                order = str(columns.get("task_path", "")), str(columns["task_id"]), int(columns["idx"])
                self._writes.setdefault(place, []).append(_Write(key, order, str(columns["channel"]), parts[0]))
                return
            metadata: Any = next((decode_payload(*part[1:]) for part in parts if part[0] == ["metadata"]), {})
            metadata = metadata if type(metadata) is dict else {}
            parent, time = columns.get("parent_checkpoint_id"), time_of_checkpoint(place[1])
            self.checkpoints[place] = _Checkpoint(key, *place, parent, metadata, time)
        except (FormatError, KeyError, TypeError, ValueError) as error:
            self._skipped[key] = str(error)

    def session(self) -> Session:
        """Return the thread as a session."""
        ordered = sorted(self.checkpoints.values(), key=lambda one: one.id)
        for one in ordered:
            writes = self._writes.get((one.namespace, one.id), ())
            one.writes = sorted(writes, key=lambda write: write.place)
            if (parent := self._before(one)) is not None:
                parent.children += 1
        newest = next((one for one in reversed(ordered) if not one.namespace), ordered[-1])
        state = self._state(newest)
        found = _Found(self._messages(newest, state))
        for one in ordered:
            for step, messages in self._steps(one):
                found.add(step, messages)
        said = joined(found.said())
        of_step: dict[int, list[Message]] = {}
        for message in said:
            of_step.setdefault(message.step, []).append(message.message)
        final = [message.message for message in said if message.is_final]
        times = [step.time for step in found.steps if step.time is not None]
        status, reason = self._status(newest, state)
        return Session(
            runtime="langgraph",
            id=self._id,
            status=status,
            reason=reason,
            messages=tuple(final),
            steps=tuple(replace(step, messages=tuple(of_step.get(n, ()))) for n, step in enumerate(found.steps)),
            started=min(times, default=None),
            ended=max(times, default=None),
            details={"checkpoints": len(ordered), "writes": sum(map(len, self._writes.values()))},
        )

    def _messages(self, newest: _Checkpoint, state: Raw) -> list[Raw]:
        """Return the messages of the newest state, with those of its steps that ended while others did not."""
        name, messages = messages_in(state)
        return list(messages_of(self._after(messages, name, newest.writes)))

    def _after(self, value: Any, channel: str, writes: list[_Write]) -> Any:
        """Return a channel after what was written to it."""
        return reduce(merged, (self._value(write) for write in writes if write.channel == channel), value)

    def _before(self, one: _Checkpoint) -> _Checkpoint | None:
        return self.checkpoints.get((one.namespace, one.parent)) if one.parent else None

    def _steps(self, one: _Checkpoint) -> Iterator[tuple[Step, list[Raw]]]:
        """Yield the step that a checkpoint ended, and the one after it that never ended, with what they wrote."""
        before, source = self._before(one), one.metadata.get("source")
        # What lies there before a new input or an update from outside belongs to no step that ended.
        written = before if source not in ("input", "update", "fork") else None
        messages: list[Raw] = []
        duration = None
        if written is not None:
            messages = list(self._messages_written(written))
            if written.children > 1:  # a fork: its branches' writes lie together
                ids = {None, *(message.get("id") for message in messages_in(self._state(one))[1])}
                messages = [message for message in messages if message.get("id") in ids]
            if one.time is not None and written.time is not None:
                duration = (one.time - written.time).total_seconds() * 1000
        elif source in ("update", "fork"):  # which leave no writes
            known = [] if before is None else [message.get("id") for message in messages_in(self._state(before))[1]]
            messages = [message for message in messages_in(self._state(one))[1] if message.get("id") not in known]
        step = Step(
            number=one.number,
            name=None if written is None else self._nodes(written),
            namespace=one.namespace,
            key=one.key,
            before=None if before is None else before.key,
            duration_ms=duration,
            time=one.time,
        )
        yield step, messages
        if not one.children and one.writes:
            error = next((str(self._value(write)) for write in one.writes if write.channel == _ERROR), None)
            name = self._nodes(one)
            step = Step(number=one.number + 1, name=name, namespace=one.namespace, before=one.key, error=error)
            yield step, list(self._messages_written(one))

    def _nodes(self, before: _Checkpoint) -> str | None:
        """Return the names of the nodes that ran after a checkpoint."""
        sends: list[Any] = []
        earlier = self._before(before) if any("push" in write.place[0] for write in before.writes) else None
        if earlier is not None:
            sends = [self._value(write) for write in earlier.writes if write.channel == _SENDS]
        names = (write.node(sends) for write in before.writes)
        return ", ".join(dict.fromkeys(name for name in names if name)) or None

    def _messages_written(self, before: _Checkpoint) -> Iterator[Raw]:
        for write in before.writes:
            # Every message has a content; most other writes are not even decoded.
            if not write.channel.startswith(_TRIGGERS) and b"content" in write.part[2]:
                yield from messages_of(overwriting(self._value(write))[1])

    def _value(self, write: _Write) -> Any:
        try:
            return decode_payload(*write.part[1:])
        except FormatError as error:
            self._skipped[write.key] = str(error)
            return None

    def _channels(self, one: _Checkpoint) -> Raw:
        try:
            channels = decode_row(self._store.get_bytes(one.key))["checkpoint"]["channel_values"]
            return channels if type(channels) is dict else {}
        except (FormatError, KeyError, TypeError) as error:
            self._skipped[one.key] = str(error)
            return {}

    def _state(self, one: _Checkpoint) -> Raw:
        """Return the channels of a checkpoint; delta channels as their last snapshot and what was written since."""
        channels = self._channels(one)
        for name in one.metadata.get("counters_since_delta_snapshot") or ():
            if name not in channels:
                channels[name] = self._replayed(one, name)
        return channels

    def _replayed(self, one: _Checkpoint, name: str) -> Any:
        way, channels = [one], self._channels(one)
        while name not in channels and (before := self._before(way[-1])) is not None and before not in way:
            way.append(before)
            channels = self._channels(before)
        value = channels.get(name, [])
        for checkpoint in reversed(way[1:]):
            value = self._after(value, name, checkpoint.writes)
        return value

    def _status(self, newest: _Checkpoint, state: Raw) -> tuple[Status, str | None]:
        written = {write.channel: write for write in newest.writes}
        if _ERROR in written:
            return "failed", f"a step raised {shortened(self._value(written[_ERROR]))}"
        if _INTERRUPT in written:
            value = self._value(written[_INTERRUPT])
            asked = [one.get("value") if type(one) is dict else one for one in value] if type(value) is list else value
            return "interrupted", f"it waits for an answer to {shortened(asked[0] if asked else asked)}"
        waiting = [name.rpartition(":")[2] for name in state if name.startswith(_TRIGGERS)]
        if waiting or state.get(_SENDS):
            return "unfinished", f"it was stopped before {', '.join(waiting) or 'what was sent'}, or still runs"
        return "finished", None


class _Found:
    """The steps of a thread, and its messages: of the newest state, and what steps wrote and later ones took away."""

    def __init__(self, final: list[Raw]) -> None:
        self.steps: list[Step] = []
        self._final = final
        self._step_of: dict[int, int] = {}  # place in the newest state -> step
        self._others: dict[str, tuple[int, Raw]] = {}
        self._place_of = {message["id"]: place for place, message in enumerate(final) if message.get("id")}
        self._alike: dict[str, deque[int]] = defaultdict(deque)
        for place, message in enumerate(final):
            self._alike[likeness(message)].append(place)

    def add(self, step: Step, messages: list[Raw]) -> None:
        """Take a step, and the messages that it wrote; those that an earlier one wrote stay with that."""
        for message in messages:
            place = self._place_of.get(message.get("id") or None)
            if not message.get("id"):  # it got its id when it was merged into the state
                alike = self._alike[likeness(message)]
                while alike and alike[0] in self._step_of:
                    alike.popleft()
                place = alike[0] if alike else None
            if place is None:
                self._others.setdefault(message.get("id") or likeness(message), (len(self.steps), message))
            else:
                self._step_of.setdefault(place, len(self.steps))
        self.steps.append(step)

    def said(self) -> Iterator[Said]:
        """Yield all of them: those of the newest state in its order, then the others."""
        for place, message in enumerate(self._final):
            step = self._step_of.get(place, 0)
            yield from said_of(message, step, self.steps[step].time, is_final=True)
        for step, message in self._others.values():
            yield from said_of(message, step, self.steps[step].time, is_final=False)
