"""The tables of every runtime: the same columns and dtypes, whoever stored the runs; and the state of a step."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import pytest

import persistkit
from persistkit import Store, agents

Table: TypeAlias = Callable[[Store], pd.DataFrame]

TESTS = Path(__file__).parents[1]
SUPPORT = TESTS.parent / "notebooks" / "data" / "support.sqlite"
TABLES: list[Table] = [agents.sessions_frame, agents.messages_frame, agents.steps_frame, agents.unfinished_frame]

ITEMS = [
    {"role": "user", "content": "Send the invoice."},
    {"type": "function_call", "call_id": "c1", "name": "read_file", "arguments": '{"path": "a.csv"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "Ana,ana@example.org"},
    {"type": "function_call", "call_id": "c2", "name": "send_mail", "arguments": "{}"},
]


@pytest.fixture
def support() -> Store:
    """A file that LangGraph wrote; see make_support.py beside it."""
    return persistkit.open(SUPPORT)


@pytest.fixture
def stores(tmp_path: Path, support: Store) -> dict[str, Store]:
    """What each runtime stored."""
    path = tmp_path / "openai.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY, created_at TIMESTAMP, updated_at TIMESTAMP);"
        "CREATE TABLE agent_messages (id INTEGER PRIMARY KEY, session_id TEXT, message_data TEXT, created_at TEXT);"
        "INSERT INTO agent_sessions VALUES ('s', '2026-01-01 00:00:00', '2026-01-01 00:00:09');"
    )
    rows = [(json.dumps(item),) for item in ITEMS]
    connection.executemany("INSERT INTO agent_messages VALUES (NULL, 's', ?, '2026-01-01 00:00:00')", rows)
    connection.commit()
    connection.close()
    rust = persistkit.open(TESTS / "data" / "agent-state", read_only=True)
    return {"rust": rust, "langgraph": support, "openai": persistkit.open(path)}


def test_the_runtime_is_told_by_what_is_stored(stores: dict[str, Store]) -> None:
    """Nobody says which runtime it was, and every row names it."""
    for name, store in stores.items():
        assert agents.runtime_of(store) == name
        assert set(agents.sessions_frame(store)["runtime"]) == {name}


@pytest.mark.parametrize("table", TABLES)
def test_columns_and_dtypes_are_the_same_for_all(stores: dict[str, Store], table: Table) -> None:
    """Code for one runtime works for the others, and for a store without any run."""
    kinds = {name: table(store).dtypes.astype(str).to_dict() for name, store in stores.items()}
    kinds["nothing"] = table(persistkit.open("memory:")).dtypes.astype(str).to_dict()
    assert all(found == kinds["rust"] for found in kinds.values())
    assert all(len(table(store)) for store in stores.values())


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_documented(table: Table) -> None:
    """The docstring names each of them."""
    columns = table(persistkit.open("memory:")).columns
    text = f"{table.__doc__} {agents.messages_frame.__doc__}"
    assert [name for name in columns if f"``{name}``" not in text] == []


def test_sums_of_the_steps_are_those_of_the_sessions(stores: dict[str, Store]) -> None:
    """Steps, tool calls, failures and tokens agree between the tables, also where a step called several tools."""
    for store in stores.values():
        sessions = agents.sessions_frame(store).set_index("session").sort_index()
        steps = agents.steps_frame(store)
        by_session = steps.groupby("session")
        for tokens in ("input_tokens", "output_tokens"):
            assert by_session[tokens].sum().eq(sessions[tokens].fillna(0)).all()
        assert by_session["tool"].count().eq(sessions["tool_calls"]).all()
        assert by_session["error"].count().eq(sessions["errors"]).all()
        assert steps.groupby(["session", "namespace", "step"]).ngroups == sessions["steps"].sum()
        further = steps.duplicated(["session", "namespace", "step"])
        assert steps.loc[further, ["text", "thought", "duration_ms", "input_tokens"]].isna().all(axis=None)
    assert agents.steps_frame(stores["langgraph"]).duplicated(["session", "step"]).any()


def test_calls_without_an_answer_make_a_run_unfinished(stores: dict[str, Store]) -> None:
    """The table says why, in words, and where the last state is."""
    frame = agents.unfinished_frame(stores["openai"])
    assert frame[["session", "status", "last_tool"]].values.tolist() == [["s", "unfinished", "send_mail"]]
    frame = agents.unfinished_frame(stores["langgraph"]).set_index("session")
    assert frame["status"].to_dict() == {"ben/refund": "interrupted", "chen/invoice": "failed"}
    assert "Refund 27.90" in frame["reason"]["ben/refund"]
    assert frame["last_error"]["chen/invoice"] == "KeyError(9999)"
    for key in frame["last_key"]:
        assert agents.state_of(stores["langgraph"], str(key))["messages"]


def test_the_state_of_a_step_is_the_graph_s_own(support: Store) -> None:
    """The channels of the checkpoint, whose classes are nowhere here; LangGraph's own channels are left out."""
    steps = agents.steps_frame(support)
    ada = steps[steps["session"] == "ada/where-is-my-order"].drop_duplicates("key")
    states = [agents.state_of(support, str(key)) for key in ada["key"]]
    assert [len(state.get("messages", ())) for state in states] == [0, 2, 3, 5, 6, 7, 8, 8, 9, 10]
    assert states[3]["order"] == {
        "$class": "__main__.Order",
        "number": 1042,
        "product": "sea chart",
        "total": 34.5,
        "status": "shipped",
    }
    assert [state.get("budget") for state in states[1:4]] == [5000, 4557, 4557]
    assert all(set(state) <= {"messages", "order", "budget"} for state in states)
    with pytest.raises(KeyError):
        agents.state_of(support, "gone")


def test_a_write_without_a_value_is_named(tmp_path: Path) -> None:
    """A damaged row is left out of the tables, in words; the rest of its thread is there."""
    path = tmp_path / "damaged.sqlite"
    path.write_bytes(SUPPORT.read_bytes())
    connection = sqlite3.connect(path)
    connection.execute("UPDATE writes SET value = NULL WHERE rowid = (SELECT min(rowid) FROM writes)")
    connection.commit()
    connection.close()
    store = persistkit.open(path)
    frame = agents.sessions_frame(store)
    assert list(frame.attrs["skipped"].values()) == ["it has no value"]
    assert len(frame) == len(agents.sessions_frame(persistkit.open(SUPPORT)))


def test_the_timeline_shows_what_a_step_changed(support: Store) -> None:
    """The page gets the differences from the state before; a step that did not end has none."""
    timeline = agents.timeline(support, "ada/where-is-my-order")
    shown, _ = timeline.handle({"op": "changes", "position": 2})
    assert ["$.budget", "5000", "4557", "changed"] in shown["changes"]
    shown, _ = timeline.handle({"op": "changes", "position": 3})
    assert shown["changes"][0][0] == "$.order"  # before the messages, which the page shows anyway
    failed = agents.timeline(support, "chen/invoice")
    last = len(failed.session.steps) - 1
    assert failed.handle({"op": "changes", "position": last})[0]["changes"] is None
    assert failed.handle({"op": "step", "position": last})[0]["failure"] == "KeyError(9999)"


def test_values_that_json_cannot_hold_reach_the_page_as_text() -> None:
    """Arrays, bytes and NaN in a state are shown, and never stop the page."""
    store = persistkit.open("memory:")
    store["loop:a:step:1"] = [{"thought": "t", "action": "x {}", "observation": '{"data": NaN, "ok": true}'}]
    timeline = agents.timeline(store, "a")
    message, _ = timeline.handle({"op": "step", "position": 0})
    json.dumps(message)
    assert message["messages"][1]["result"] == "NaN"
    assert np.isnan(agents.messages_frame(store)["result"][1])
