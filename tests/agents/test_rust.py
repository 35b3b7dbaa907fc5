"""The Rust runtime's sessions, steps and unfinished runs as tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rust_runs import session, step

import persistkit
from persistkit import Store
from persistkit.agents import messages_frame, redundant_keys, sessions_frame, steps_frame, unfinished_frame
from persistkit.agents.rust import shutdown_time
from persistkit.errors import FormatError

DATA = Path(__file__).parents[1] / "data"


def test_every_session_is_one_row(sample: Store) -> None:
    """The rows of finished sessions are those of the raw files, totals, answers and failures included."""
    frame = sessions_frame(sample)
    keys = [key for key in json.loads((DATA / "agent-state.keys.json").read_text()) if key.startswith("session:")]
    finished = [key for key in keys if ":step:" not in key]
    assert frame["status"].value_counts().to_dict() == {"finished": len(finished), "unfinished": 3}
    rows = frame.set_index("session")
    for key in finished:
        value = json.loads(sample.get_bytes(key))
        row = rows.loc[value["session_id"]]
        assert (row["runtime"], row["agent"], row["steps"]) == ("rust", value["agent_id"], len(value["steps"]))
        assert row["duration_ms"] == value["duration_ms"]
        assert row["answer"] == value["steps"][-1]["action"].split(" ", 1)[1].strip()
        assert row["errors"] == sum('"ok":false' in step["observation"] for step in value["steps"])
        assert row["details"] == {
            "memory_hits": value["memory_hits"],
            "graph_entities": value["graph_lookups"],
            "checkpoint_errors": value["checkpoint_errors"],
        }
    assert frame.attrs["skipped"] == {}
    assert frame["ended"].is_monotonic_increasing


def test_steps_are_rows_with_tools_and_arguments(sample: Store) -> None:
    """A step is one row, of finished and unfinished runs; its tool, arguments, result and error are taken apart."""
    frame = steps_frame(sample)
    assert frame.groupby("session").size().to_dict() == sessions_frame(sample).set_index("session")["steps"].to_dict()
    for name, rows in frame[frame["status"] == "finished"].groupby("session"):
        stored = json.loads(sample.get_bytes(f"session:{name}"))["steps"]
        assert rows["thought"].tolist() == [raw["thought"] for raw in stored]
        assert rows["duration_ms"].tolist() == [raw["step_duration_ms"] for raw in stored]
        for row, raw in zip(rows.itertuples(), stored, strict=True):
            if row.role != "tool":
                assert raw["action"] == f"FINAL_ANSWER {row.text}"
                continue
            said = json.loads(raw["observation"])
            tool, _, arguments = raw["action"].partition(" ")
            assert (row.tool, row.arguments, row.ok) == (tool, json.loads(arguments), said["ok"])
            assert (
                row.result == said.get("data")
                if row.ok
                else (row.error, row.error_kind) == (said["error"], said["kind"])
            )


def test_the_state_of_each_step_can_be_loaded(sample: Store) -> None:
    """The key of a step leads to what was stored after it."""
    for row in steps_frame(sample).itertuples():
        state = sample[str(row.key)]
        assert len(state if row.status == "unfinished" else state["steps"]) == row.step


def test_messages_are_thoughts_calls_and_answers_in_order(sample: Store) -> None:
    """A thought is one message, a tool call with its result another, the answer the last."""
    frame = messages_frame(sample)
    steps = steps_frame(sample)
    assert frame["role"].value_counts().to_dict() == {
        "reasoning": len(steps),
        "tool": (steps["role"] == "tool").sum(),
        "assistant": (steps["role"] == "assistant").sum(),
    }
    first = frame[frame["session"] == frame["session"].iloc[0]]
    assert first["position"].tolist() == list(range(1, len(first) + 1))
    assert first["role"].tolist()[-2:] == ["reasoning", "assistant"]


def test_unfinished_runs_show_their_last_known_state(sample: Store) -> None:
    """Runs with checkpoints and no session are there, with their highest checkpoint and why."""
    frame = unfinished_frame(sample).sort_values("session", ignore_index=True)
    assert frame["session"].str[:8].tolist() == ["000f49c8", "606a0deb", "e28af604"]
    assert frame["last_step"].tolist() == [3, 6, 6]
    assert frame["last_error"][1] == "tool 'calculator' timed out after 5s"
    assert frame["reason"][1].endswith("; its last call, of calculator, failed")
    assert len(sample[frame["last_key"][1]]) == 6


def test_snapshots_that_a_session_repeats_are_redundant(sample: Store) -> None:
    """All snapshots of the sample are, half of its bytes; one that differs or has no session is not."""
    keys = redundant_keys(sample)
    sizes = sample.to_frame().set_index("key")["size"]
    assert sorted(keys) == [key for key in sample if key.startswith("session:") and ":step:" in key]
    assert 0.45 < sizes[keys].sum() / sizes.sum() < 0.55
    other = persistkit.open("memory:")
    other.update({key: sample[key] for key in sample.keys("session:")})
    other.modify(keys[0], lambda value: {**value, "memory_hits": 99})
    lost = keys[-1].partition(":step:")[0]
    del other[lost]
    assert redundant_keys(other) == [key for key in keys[1:] if not key.startswith(f"{lost}:")]


def test_shutdown_time_keeps_nanoseconds(sample: Store, store: Store) -> None:
    """The shutdown is a Timestamp with every digit; what is no time is refused, what is absent is missing."""
    assert shutdown_time(sample) == pd.Timestamp("2026-03-20T14:05:09.123456789Z")
    with pytest.raises(KeyError, match="runtime:shutdown"):
        shutdown_time(store)
    for text in (b"soon", b"", b"2026-03-20T14:05:09", b"\xff"):
        store.put_bytes("runtime:shutdown", text)
        with pytest.raises(FormatError, match="runtime:shutdown"):
            shutdown_time(store)


def test_optional_and_unknown_fields_and_large_counters(store: Store) -> None:
    """Missing optional fields are missing cells, unknown fields are ignored, u64 beyond int64 stays exact."""
    store["session:s"] = session(step(later=1), graph_lookups=2**64 - 1, more="x")
    frame = sessions_frame(store)
    assert frame["details"][0]["graph_entities"] == 2**64 - 1
    assert frame["answer"].isna().all()
    assert steps_frame(store)["duration_ms"].isna().all()
    assert frame.attrs["skipped"] == {}


@pytest.mark.parametrize(
    "damage",
    [
        {"duration_ms": None},
        {"duration_ms": 1.0},
        {"duration_ms": -1},
        {"duration_ms": 2**64},
        {"duration_ms": True},
        {"agent_id": 3},
        {"steps": None},
        {"steps": [1]},
        {"steps": [{"thought": "t"}]},
    ],
    ids=str,
)
def test_what_rust_would_refuse_is_left_out_and_named(store: Store, damage: dict[str, object]) -> None:
    """A session the runtime itself could not read is skipped with its reason; the others stay."""
    store["session:bad"] = session(step(), **damage)
    store["session:good"] = session(step())
    frame = sessions_frame(store)
    assert len(frame) == 1
    assert list(frame.attrs["skipped"]) == ["session:bad"]


def test_damaged_files_are_named_and_odd_arguments_stay(store: Store) -> None:
    """A cut file is named; arguments and observations that are no JSON objects stay as the text they are."""
    store.put_bytes("session:cut", b'{"session_id":')
    store["session:s"] = session(
        step("run ls -la"), step("stop"), step("FINAL_answer 42", "FINAL_answer 42"), step("x {}", "plain")
    )
    frame = steps_frame(store)
    assert set(frame.attrs["skipped"]) == {"session:cut"}
    assert frame["tool"].fillna("").tolist() == ["run", "stop", "", "x"]
    assert frame["arguments"].tolist() == ["ls -la", {}, None, {}]
    assert frame["result"].tolist() == [1, 1, None, "plain"]
    assert frame["ok"].isna().tolist() == [False, False, True, True]
    assert sessions_frame(store)["answer"].tolist() == ["42"]


def test_an_empty_answer_is_not_a_missing_one(store: Store) -> None:
    """A run that ended with an empty answer has one; a run without a final step has none."""
    store["session:a"] = session(step(), step("FINAL_ANSWER", "FINAL_ANSWER"))
    store["session:b"] = session(step())
    frame = sessions_frame(store).set_index("session")
    assert (frame.loc["a", "answer"], frame["answer"].isna().tolist()) == ("", [False, True])


def test_a_damaged_checkpoint_falls_back_to_the_one_before(store: Store) -> None:
    """Gaps and a damaged highest checkpoint leave the highest readable one, and the damage is named."""
    store["loop:x:step:2"] = [step(), step()]
    store["loop:x:step:10"] = [step() for _ in range(10)]
    store.put_bytes("loop:x:step:11", b'[{"thought":')
    store["loop:done:step:1"] = [step()]
    store["session:done"] = session(step())
    frame = unfinished_frame(store)
    assert frame[["session", "last_step", "steps"]].values.tolist() == [["x", 10, 10]]
    assert list(frame.attrs["skipped"]) == ["loop:x:step:11"]


@pytest.mark.parametrize("make", [sessions_frame, messages_frame, steps_frame, unfinished_frame, Store.values_frame])
def test_our_own_tables_can_be_stored(sample: Store, store: Store, make: Callable[[Store], pd.DataFrame]) -> None:
    """Each table that we make of a store is a value that comes back, dicts in its cells and attributes included."""
    frame = make(sample)
    store["table"] = frame
    pd.testing.assert_frame_equal(store["table"], frame)
    assert store["table"].attrs == frame.attrs
