"""Two runs of an agent, compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rust_runs import session, step

import persistkit
from persistkit.agents import diff_sessions


def run(*steps: tuple[str, str, Any], **more: object) -> dict[str, Any]:
    """Return a session: thought, action and result of each step."""
    return session(
        *(step(action, json.dumps({"data": data, "ok": True}), said) for said, action, data in steps), **more
    )


SAME = ("Look.", 'search {"q": "shoes"}', [1, 2])


@pytest.mark.parametrize(
    ("second", "step", "sentence"),
    [
        (("Well.", 'search {"q": "shoes"}', [1, 2]), None, "The runs never part."),
        (("Look.", 'search {"q": "boots"}', [1, 2]), 2, "search(q='boots')"),
        (("Look.", 'search {"q": "shoes"}', [1]), 2, "had another result"),
    ],
)
def test_the_step_at_which_two_runs_part(second: tuple[str, str, Any], step: int | None, sentence: str) -> None:
    """Another call, other arguments or another result part two runs; another thought, and other times, do not."""
    store = persistkit.open("memory:")
    store["session:a"] = run(SAME, SAME)
    store["session:b"] = run(SAME, second, duration_ms=99)
    diff = diff_sessions(store, "a", "b")
    assert diff.step == step
    assert sentence in diff.notes[0]
    assert not diff.empty
    assert all(path.startswith("step 2.") for path in diff["path"])
    assert store.diff("session:a", "session:b").step == step


def test_a_run_that_ends_parts_from_the_other() -> None:
    """The step after the last common one is where they part; equal runs have no row."""
    store = persistkit.open("memory:")
    store["session:a"], store["session:b"], store["session:c"] = run(SAME), run(SAME, SAME), run(SAME)
    diff = diff_sessions(store, "a", "b")
    assert (diff.step, diff.notes[0].partition(", ")[0]) == (2, "The runs part at step 2: the left one has ended")
    assert diff_sessions(store, "a", "c").empty
    with pytest.raises(KeyError, match="no session 'lost' in memory:; sessions_frame"):
        diff_sessions(store, "a", "lost")


def test_sessions_of_another_runtime_are_compared() -> None:
    """What LangGraph stores is told apart by the same words; its steps have their own numbers."""
    support = Path(__file__).parents[2] / "notebooks" / "data" / "support.sqlite"
    diff = diff_sessions(persistkit.open(support), "ada/where-is-my-order", "ben/refund")
    assert diff.step == 0
    assert "left 'system: You answer the customers" in diff.notes[0]
    assert "step 0.messages[1].text" in diff["path"].tolist()
