"""What LangGraph stored, in SQLite and in PostgreSQL, equals what LangGraph's own interface says of it."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import graphs
import numpy as np
import psycopg
import pytest
from graphs import config
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.store.postgres import PostgresStore
from langgraph.store.sqlite import SqliteStore
from langgraph.types import Command, Send
from pydantic import BaseModel

import persistkit
from persistkit import Store
from persistkit.agents import runtime_of, sessions_frame, unfinished_frame
from persistkit.agents.readers import read_session, read_sessions
from persistkit.agents.records import Message

THREADS = [f"thread-{number}" for number in range(6)] + ["user/1:chat", "100%", "store", "東京\n"]
ROLES = {"human": "user", "ai": "assistant"}


@dataclass(frozen=True)
class Written:
    """A database of LangGraph's whose writer is still at work."""

    address: str
    saver: Any
    store: Store
    apps: dict[str, Any]

    @property
    def has_paths(self) -> bool:
        """Whether it is stored which node wrote what: over SQLite not before langgraph-checkpoint-sqlite 3.1."""
        return any("task_path" in self.store[key] for key in self.store.keys("sent/"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    """Threads of every kind, written by LangGraph."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            address = str(tmp_path_factory.mktemp("langgraph") / "checkpoints.sqlite")
            saver: Any = stack.enter_context(SqliteSaver.from_conn_string(address))
            memory: Any = stack.enter_context(SqliteStore.from_conn_string(address))
        else:
            server = request.getfixturevalue("postgresql_address")
            name = f"langgraph_{uuid.uuid4().hex}"
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            address = f"{server.rpartition('/')[0]}/{name}"
            saver = stack.enter_context(PostgresSaver.from_conn_string(address))
            memory = stack.enter_context(PostgresStore.from_conn_string(address))
        saver.setup()
        memory.setup()
        memory.put(("users", "alice"), "a/b", {"likes": "tea"})
        dice = random.Random(1)
        apps = dict.fromkeys(THREADS, graphs.chat(dice, saver))
        apps |= {"sub": graphs.with_subgraph(saver), "asked": graphs.asking(saver), "answered": graphs.asking(saver)}
        apps |= {"failed": graphs.failing(saver), "sent": graphs.fanning_out(saver)}
        for thread in THREADS:
            graphs.talk(apps[thread], dice, thread)
        for thread in ("sub", "asked", "answered", "sent"):
            apps[thread].invoke({"messages": [HumanMessage("Go on.")]}, config(thread))
        apps["answered"].invoke(Command(resume="Yes."), config("answered"))
        with pytest.raises(RuntimeError, match="full"):
            apps["failed"].invoke({"messages": [HumanMessage("Go on.")]}, config("failed"))
        store = stack.enter_context(persistkit.open(address))
        yield Written(address, saver, store, apps)


def theirs(messages: list[BaseMessage]) -> list[tuple[Any, ...]]:
    """Return what LangGraph says of messages, each call at the place of the one that asked for it."""
    results = {message.tool_call_id: message for message in messages if isinstance(message, ToolMessage)}
    said: list[tuple[Any, ...]] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            continue
        usage: Any = (message.usage_metadata or {}) if isinstance(message, AIMessage) else {}
        role = ROLES.get(message.type, message.type)
        said.append((role, message.content, message.id, usage.get("input_tokens"), usage.get("output_tokens")))
        for call in message.tool_calls if isinstance(message, AIMessage) else []:
            found = results[str(call["id"])]
            said.append((call["name"], call["args"], call["id"], found.id, found.content, found.status == "success"))
    return said


def ours(messages: tuple[Message, ...]) -> list[tuple[Any, ...]]:
    """Return the same of records."""
    said: list[tuple[Any, ...]] = []
    for one in messages:
        if one.role == "tool":
            result = '{"rows": 3}' if one.result == {"rows": 3} else one.result if one.ok else one.error
            said.append((one.tool, one.arguments, one.call_id, one.id, result, one.ok))
        else:
            said.append((one.role, one.text, one.id, one.input_tokens, one.output_tokens))
    return said


def plain(value: Any) -> Any:
    """Return LangGraph's value as the plain data it is to be read as; every array as a list."""
    named = {"$class": f"{type(value).__module__}.{type(value).__name__}"}
    if isinstance(value, BaseModel):
        return named | plain(value.model_dump())
    if is_dataclass(value) and not isinstance(value, type):
        return named | {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return named | {"value": value.value}
    if isinstance(value, Send):
        return named | {"args": plain([value.node, value.arg])}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def test_every_message_is_there_in_order(written: Written) -> None:
    """Messages, calls with arguments and results, ids and tokens are those of get_state, in its order."""
    sessions = {session.id: session for session in read_sessions(written.store, {})}
    assert sessions.keys() == written.apps.keys()
    for thread, app in written.apps.items():
        expected = theirs(app.get_state(config(thread)).values["messages"])
        found = ours(sessions[thread].messages)
        if thread == "failed":  # what was not merged into a state has no id yet
            expected[-1], found[-1] = expected[-1][:2], found[-1][:2]
        assert found == expected
        told = [message for step in sessions[thread].steps for message in step.messages]
        assert sorted(map(id, told)) == sorted(map(id, sessions[thread].messages))
    assert sum(len(session.messages) for session in sessions.values()) > 60


def test_every_checkpoint_is_a_value_of_plain_data(written: Written) -> None:
    """Each checkpoint with its state, metadata and parent, and each write, is what LangGraph gives, as plain data."""
    rows = dict(written.store.items())
    checkpoints = {row["checkpoint_id"]: row for row in rows.values() if row["table"] == "checkpoints"}
    writes: dict[str, list[Any]] = {}
    for row in rows.values():
        if row["table"] == "writes":
            writes.setdefault(row["checkpoint_id"], []).append([row["task_id"], row["channel"], plain(row["value"])])
    count = 0
    for found in written.saver.list(None):
        name = found.config["configurable"]
        row = checkpoints[name["checkpoint_id"]]
        assert [row["thread_id"], row["checkpoint_ns"]] == [name["thread_id"], name["checkpoint_ns"]]
        assert plain(row["checkpoint"]) == plain(found.checkpoint)
        assert row["metadata"] == found.metadata
        parent = found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None
        assert row["parent_checkpoint_id"] == parent
        expected = [plain(list(write)) for write in found.pending_writes]
        assert sorted(writes.get(name["checkpoint_id"], []), key=repr) == sorted(expected, key=repr)
        count += 1
    assert count == len(checkpoints) > 60


def test_a_checkpoint_is_a_step(written: Written) -> None:
    """The steps of a thread are its checkpoints, as many as list() gives; the state is under their keys."""
    for session in read_sessions(written.store, {}):
        steps = [step for step in session.steps if step.key is not None]
        listed = list(written.saver.list({"configurable": {"thread_id": session.id}}))
        assert session.details["checkpoints"] == len(steps) == len(listed)
        assert [step.number for step in steps if not step.namespace] == [
            found.metadata["step"] for found in reversed(listed) if not found.config["configurable"]["checkpoint_ns"]
        ]
        for step in steps:
            row = written.store[str(step.key)]
            assert row["metadata"]["step"] == step.number
            assert step.time is not None
            assert abs(step.time - datetime.fromisoformat(row["checkpoint"]["ts"])) < timedelta(seconds=10)


def test_a_run_that_is_not_finished_says_why(written: Written) -> None:
    """A question to a person, and a step that raised, are told; what was written beside the error is a step."""
    frame = unfinished_frame(written.store).set_index("session")
    assert frame["status"].to_dict() == {"asked": "interrupted", "failed": "failed"}
    assert "May I send it?" in frame["reason"]["asked"]
    assert "the disk is full" in frame["reason"]["failed"]
    last = read_session(written.store, "failed").steps[-1]
    assert (last.key, last.error) == (None, "RuntimeError('the disk is full')")
    assert last.name == ("fail, work" if written.has_paths else None)
    assert [message.text for message in last.messages] == ["worked"]
    assert read_session(written.store, "answered").status == "finished"


def test_nodes_and_subgraphs_have_their_names(written: Written) -> None:
    """A step names the nodes that ran, those of a fan-out and of a subgraph too, where LangGraph stores them."""
    if not written.has_paths:
        assert {step.name for step in read_session(written.store, "sent").steps} == {None}
        return
    assert [step.name for step in read_session(written.store, "sent").steps] == [None, "__start__", "plan", "work"]
    steps = read_session(written.store, "sub").steps
    names = [(step.name, bool(step.namespace)) for step in steps if step.number > 0]
    assert names == [("look", True), ("find", True), ("search", False), ("answer", False)]
    assert all(step.namespace.startswith("search:") for step in steps if step.namespace)


def test_an_item_of_memory_is_a_key(written: Written) -> None:
    """The long-term store's items are there, apart from the thread that is called store, and have a time."""
    assert runtime_of(written.store) == "langgraph"
    (entry,) = written.store.engine.entries("store/")
    assert entry.key == "store/users.alice/a%2Fb"
    assert entry.modified is not None
    assert written.store[entry.key]["value"] == {"likes": "tea"}
    assert "%73tore//" in {key[:9] for key in written.store.keys("%73tore/")}


def test_the_listing_is_true(written: Written) -> None:
    """Sizes are those of the values, prefixes find what starts with them, and a key that is not there is missing."""
    keys = written.store.keys()
    entries = {entry.key: entry.size for entry in written.store.engine.entries()}
    values = written.store.engine.batch_load(keys)
    assert entries == {key: len(value or b"") for key, value in zip(keys, values, strict=True)}
    assert written.store.engine.key_count() == len(keys)
    for prefix in ("t", "thread-1", "thread-1/", "thread-1//", "user%2F", "100%25//", "store/u", "%73", keys[3], "no/"):
        assert written.store.keys(prefix) == [key for key in keys if key.startswith(prefix)]
    assert "\udcff//a" not in keys
    for key in ("thread-1", "thread-1//no", f"{keys[0]}/", "100%//no", "store//", "a/b/c/d/e", "a/b/c/d/1"):
        assert key not in keys
        assert key not in written.store


def test_new_rows_show_up(written: Written) -> None:
    """What a writer at work commits is read, and the change token tells of it."""
    app = graphs.chat(random.Random(2), written.saver)
    before = written.store.engine.change_token()
    known = len(written.store)
    graphs.talk(app, random.Random(3), "thread-0")
    assert written.store.engine.change_token() != before
    assert len(written.store) > known
    assert ours(read_session(written.store, "thread-0").messages) == theirs(
        app.get_state(config("thread-0")).values["messages"]
    )


def test_a_copy_keeps_every_row(written: Written, tmp_path: Path) -> None:
    """Copied to files the rows are the same bytes, and the tables are the same."""
    with persistkit.open(tmp_path / "copy", create=True, fsync=False) as copy:
        written.store.copy_to(copy, progress=False)
        assert copy.compare(written.store).empty
        assert sessions_frame(copy).equals(sessions_frame(written.store))


def test_delta_channels_are_replayed(tmp_path: Path) -> None:
    """A channel that keeps only what changed reads as the whole: its snapshot, and what was written since."""
    delta = pytest.importorskip("langgraph.channels.delta", reason="this LangGraph has no delta channels")
    from langgraph.graph.message import _messages_delta_reducer

    with graphs.saver(tmp_path / "delta.sqlite") as saver:
        for often in (2, 100):
            dice = random.Random(often)
            channel = Annotated[list[Any], delta.DeltaChannel(_messages_delta_reducer, snapshot_frequency=often)]
            app = graphs.chat(dice, saver, channel)
            for number in range(2):
                thread = f"{often}-{number}"
                graphs.talk(app, dice, thread)
                graphs.talk(app, dice, thread)
                with persistkit.open(tmp_path / "delta.sqlite") as store:
                    session = read_session(store, thread)
                assert ours(session.messages) == theirs(app.get_state(config(thread)).values["messages"])


def test_a_fork_tells_its_own_messages(tmp_path: Path) -> None:
    """After a step back and another answer the messages are those of the new branch; both branches are steps."""
    with graphs.saver(tmp_path / "fork.sqlite") as saver:
        app = graphs.chat(random.Random(4), saver)
        app.invoke({"messages": [HumanMessage("Go on.")], "turn": 0, "turns": 2}, config("fork"))
        earlier = next(
            state.config
            for state in app.get_state_history(config("fork"))
            if state.values["messages"][-1].type == "tool"
        )
        app.update_state(earlier, {"messages": [HumanMessage("No: another way.")]}, as_node="act")
        app.invoke(None, config("fork"))
        with persistkit.open(tmp_path / "fork.sqlite") as store:
            session = read_session(store, "fork")
        assert ours(session.messages) == theirs(app.get_state(config("fork")).values["messages"])
        assert session.details["checkpoints"] == len(list(saver.list(config("fork"))))
        told = [message.text for step in session.steps for message in step.messages if message.role == "user"]
        assert told == ["Go on.", "No: another way."]
