"""What the OpenAI Agents SDK stored equals what its own interface says of it."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from agents import SQLiteSession
from agents.extensions.memory import AdvancedSQLiteSession
from agents.usage import Usage

import persistkit
from persistkit.agents import messages_frame, runtime_of, sessions_frame, steps_frame, unfinished_frame
from persistkit.agents.readers import read_session, read_sessions
from persistkit.agents.records import Message

WORDS = ("harbour", "invoice", "Zürich", "東京", "pump", "🚢")


def user(text: str) -> dict[str, Any]:
    """Return what a user says, as the SDK stores it."""
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    """Return what the agent says."""
    parts = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": f"msg_{text[:9]}", "role": "assistant", "status": "completed", "content": parts}


def thought(text: str) -> dict[str, Any]:
    """Return what the agent thinks."""
    return {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": text}]}


def call(name: str, arguments: dict[str, Any], call_id: str) -> dict[str, Any]:
    """Return a call of a tool."""
    item = {"type": "function_call", "call_id": call_id, "name": name, "id": f"fc_{call_id}", "status": "completed"}
    return {**item, "arguments": json.dumps(arguments)}


def result(call_id: str, output: Any) -> dict[str, Any]:
    """Return the result of a call."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def conversation(dice: random.Random) -> list[dict[str, Any]]:
    """Return items as a run leaves them: two calls together, in other orders, kinds that nobody knows yet."""
    items: list[dict[str, Any]] = []
    for turn in range(dice.randrange(1, 5)):
        items.append(user(" ".join(dice.choices(WORDS, k=4))))
        if dice.random() < 0.3:
            items.append(thought(" ".join(dice.choices(WORDS, k=3))))
        names = [f"call_{turn}_{n}" for n in range(dice.choice((0, 1, 2)))]
        items += [call(dice.choice(("search", "mail")), {"q": dice.choice(WORDS)}, name) for name in names]
        dice.shuffle(names)
        items += [result(name, dice.choice(('{"rows": 3}', "nothing found"))) for name in names]
        if dice.random() < 0.2:
            items.append({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "x"}})
        items.append(assistant(" ".join(dice.choices(WORDS, k=5))))
    return items


def items_of(messages: tuple[Message, ...]) -> list[Any]:
    """Return the items that messages were made of, each call followed by its result."""
    items: list[Any] = []
    for one in messages:
        if one.role == "tool":
            items.append((one.tool, one.arguments, one.call_id, one.result))
        else:
            items.append((one.role, one.text) if one.data is None else one.data)
    return items


def joined(items: list[Any]) -> list[Any]:
    """Return the SDK's items as ``items_of`` does."""
    results = {item["call_id"]: item["output"] for item in items if item.get("type") == "function_call_output"}
    found: list[Any] = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "function_call":
            output = results[item["call_id"]]
            output = json.loads(output) if output.startswith("{") else output
            found.append((item["name"], json.loads(item["arguments"]), item["call_id"], output))
        elif kind == "reasoning":
            found.append(("reasoning", item["summary"][0]["text"]))
        elif kind == "message":
            content = item["content"]
            found.append((item["role"], content if isinstance(content, str) else content[0]["text"]))
        elif kind != "function_call_output":
            found.append(item)
    return found


def write(path: Path, sessions: dict[str, list[dict[str, Any]]]) -> dict[str, list[Any]]:
    """Let the SDK store sessions, and return what it gives back of them."""

    async def work() -> dict[str, list[Any]]:
        given = {}
        for name, items in sessions.items():
            session = SQLiteSession(name, path)
            await session.add_items(items)  # type: ignore[arg-type]  # plain dicts are what is stored
            given[name] = await session.get_items()
            session.close()
        return given

    return asyncio.run(work())


def test_every_item_is_there_in_order(tmp_path: Path) -> None:
    """Messages, thoughts, calls with their results and unknown kinds are those of get_items, in its order."""
    dice = random.Random(1)
    names = [f"session-{n}" for n in range(8)] + ["user/1:chat", "sessions", "usage", "100%", "東京\n", "x" * 400]
    given = write(tmp_path / "sessions.sqlite", {name: conversation(dice) for name in names})
    with persistkit.open(tmp_path / "sessions.sqlite") as store:
        assert runtime_of(store) == "openai"
        sessions = {session.id: session for session in read_sessions(store, {})}
        assert sessions.keys() == given.keys()
        for name, items in given.items():
            assert items_of(sessions[name].messages) == joined(items)
            assert read_session(store, name) == sessions[name]
            assert sessions[name].status == "finished"
            assert [step.number for step in sessions[name].steps] == list(range(1, len(sessions[name].steps) + 1))
            assert tuple(one for step in sessions[name].steps for one in step.messages) == sessions[name].messages
        keys = [key for key in store if not key.startswith(("sessions/", "usage/"))]
        assert len(keys) == sum(map(len, given.values()))
        assert len(store.keys("%73essions/")) == len(given["sessions"])
        with persistkit.open(tmp_path / "copy", create=True, fsync=False) as copy:
            store.copy_to(copy, progress=False)
            assert items_of(read_session(copy, "x" * 400).messages) == joined(given["x" * 400])
            assert copy.keys() == store.keys()


def test_a_run_that_was_stopped_says_where(tmp_path: Path) -> None:
    """A call without a result, and a question without an answer, are unfinished runs with a reason."""
    items = {"called": [user("a"), call("mail", {}, "c1")], "asked": [user("a"), assistant("b"), user("c")]}
    write(tmp_path / "sessions.sqlite", items)
    with persistkit.open(tmp_path / "sessions.sqlite") as store:
        frame = unfinished_frame(store).set_index("session")
        assert "'mail'" in frame["reason"]["called"]
        assert "before the agent answered" in frame["reason"]["asked"]
        assert frame["status"].unique().tolist() == ["unfinished"]
        assert steps_frame(store)["tool"].dropna().tolist() == ["mail"]


def test_a_branch_and_its_tokens_are_told(tmp_path: Path) -> None:
    """Of an advanced session the main branch is told in its own order, and the last answer of a turn has its tokens."""
    path = tmp_path / "advanced.sqlite"

    async def work() -> list[Any]:
        session = AdvancedSQLiteSession(session_id="s", db_path=path, create_tables=True)
        turns: list[Any] = [[user("one"), assistant("first")], [user("two"), assistant("second")]]
        for number, items in enumerate(turns, 1):
            await session.add_items(items)
            usage = Usage(requests=1, input_tokens=10 * number, output_tokens=number, total_tokens=11 * number)
            await session.store_run_usage(_Run(usage))  # type: ignore[arg-type]  # of a run only this is read
        await session.create_branch_from_turn(2, "other")
        branched: Any = [user("three"), assistant("third")]
        await session.add_items(branched)
        given = list(await session.get_items(branch_id="main"))
        session.close()
        return given

    given = asyncio.run(work())
    with persistkit.open(path) as store:
        session = read_session(store, "s")
        assert items_of(session.messages) == joined(given)
        answers = [one for one in session.messages if one.role == "assistant"]
        assert [one.text for one in answers] == ["first", "second"]
        assert [(one.input_tokens, one.output_tokens) for one in answers] == [(10, 1), (20, 2)]
        assert session.details["branches"] == ["main", "other"]
        assert sessions_frame(store)["input_tokens"].tolist() == [30]


class _Run:
    """What of a run is read for its usage."""

    def __init__(self, usage: Usage) -> None:
        self.context_wrapper = self
        self.usage = usage


def test_an_item_that_is_no_json_is_named(tmp_path: Path) -> None:
    """A damaged item is left out, as the SDK leaves it out, and named; times are those of the rows."""
    path = tmp_path / "sessions.sqlite"
    write(path, {"s": [user("one"), assistant("two"), assistant("three")]})
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE agent_messages SET message_data = '{' WHERE id = 2")
        (stored,) = connection.execute("SELECT created_at FROM agent_messages WHERE id = 3").fetchone()
    with persistkit.open(path) as store:
        frame = messages_frame(store)
        assert frame["text"].tolist() == ["one", "three"]
        assert list(frame.attrs["skipped"]) == ["s/000000002"]
        assert str(frame["time"][1]) == f"{stored}+00:00"
