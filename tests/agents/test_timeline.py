"""The timeline's answers to its page, on what the Rust runtime wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rust_runs import step

import persistkit
from persistkit import Store, agents
from persistkit.errors import FormatError

SESSION = "7b8444d1-8e31-4041-87dd-aeb784b28054"


def answer(timeline: agents.Timeline, op: str, **content: object) -> dict[str, Any]:
    """Return what the page gets for a request, once it has been JSON."""
    message, buffers = timeline.handle({"op": op, "id": 1, "view": 2, **content})
    assert buffers == []
    told: dict[str, Any] = json.loads(json.dumps(message))
    return told


def test_each_step_shows_its_thought_call_and_result(sample: Store) -> None:
    """The page is given what the stored JSON says, read by itself."""
    timeline = agents.timeline(sample, SESSION)
    steps = json.loads(sample.get_bytes(f"session:{SESSION}"))["steps"]
    for position, stored in enumerate(steps):
        shown = answer(timeline, "step", position=position)
        thought, done = shown["messages"]
        assert (thought["role"], thought["text"]) == ("reasoning", stored["thought"])
        assert dict(shown["facts"])["Duration"]
        if "FINAL_ANSWER" in stored["action"]:
            assert done["text"] == stored["action"].removeprefix("FINAL_ANSWER ")
            continue
        tool, _, arguments = stored["action"].partition(" ")
        said = json.loads(stored["observation"])
        assert (done["tool"], json.loads(done["arguments"])) == (tool, json.loads(arguments))
        assert (done["failure"], done["kind"]) == (said.get("error"), said.get("kind", ""))
        assert done["outcome"] == ("succeeded" if said["ok"] else "failed")
    assert timeline.session.answer == steps[-1]["action"].removeprefix("FINAL_ANSWER ")


def test_the_run_that_ended_last_is_shown_by_default(sample: Store) -> None:
    """Without a session it is the last row of the table, finished or not."""
    assert agents.timeline(sample).session.id == agents.sessions_frame(sample)["session"].iloc[-1]


def test_the_step_stays_within_the_run(sample: Store) -> None:
    """A position beyond either end becomes the first or the last; a request for one that is not there is an error."""
    timeline = agents.timeline(sample, SESSION)
    timeline.step = 99
    assert timeline.step == 5
    timeline.step = -3
    assert timeline.step == 0
    for position in (6, "x", None):
        assert answer(timeline, "step", position=position)["error"].startswith("not a request")


def test_reading_again_shows_the_steps_that_came_meanwhile() -> None:
    """An agent at work beside us adds steps; a run that is gone is said to be."""
    store = persistkit.open("memory:")
    store["loop:a:step:1"] = [step()]
    timeline = agents.timeline(store, "a")
    store["loop:a:step:2"] = [step(), step(thought="second")]
    assert "error" not in answer(timeline, "refresh")
    assert repr(timeline) == "Timeline('a': 2 steps, 2 tool calls)"
    assert answer(timeline, "step", position=1)["messages"][0]["text"] == "second"
    store.clear()
    assert "no session" in answer(timeline, "refresh")["error"]


def test_saved_output_shows_the_steps_escaped() -> None:
    """Without a kernel a table of the steps is there; what a model said is text in it, never markup."""
    store = persistkit.open("memory:")
    hostile = "<script>alert(1)</script>\x1b[31m"
    store["loop:a:step:1"] = [step("FINAL_ANSWER " + hostile, thought=hostile)]
    data, _ = agents.timeline(store, "a")._repr_mimebundle_()
    assert "<script" not in data["text/html"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;␛[31m" in data["text/html"]
    assert data["text/plain"] == "Timeline('a': 1 step)"


def test_long_and_deep_values_are_cut() -> None:
    """A result of megabytes reaches the page as its first characters, and is said to be cut."""
    store = persistkit.open("memory:")
    store["loop:a:step:1"] = [step('run {"a": 1}', "[" * 5_000 + "]" * 5_000, "x" * 50_000)]
    timeline = agents.timeline(store, "a")
    thought, call = answer(timeline, "step", position=0)["messages"]
    assert thought["text"].endswith("x\n… 30,000 more characters")
    assert len(call["result"]) == 10_000
    assert len(timeline._repr_mimebundle_()[0]["text/html"]) < 2_000


def test_errors_name_the_session_and_the_way_on(sample: Store) -> None:
    """A wrong id, a damaged session and a store of other things are told apart."""
    with pytest.raises(KeyError, match=r"no session 'x' in .*sessions_frame\(store\) lists"):
        agents.timeline(sample, "x")
    store = persistkit.open("memory:")
    with pytest.raises(KeyError, match="no session is stored in memory:"):
        agents.timeline(store)
    store.put_bytes("session:cut", b'{"session_id":')
    with pytest.raises(FormatError, match="session:cut"):
        agents.timeline(store, "cut")
    other = persistkit.open("memory:")
    other["run/1"] = {"loss": 0.5}
    with pytest.raises(ValueError, match="nothing of an agent runtime"):
        agents.timeline(other)
    assert agents.runtime_of(other) is None
