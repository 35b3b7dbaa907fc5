"""A thousand threads of LangGraph's and a thousand sessions of the OpenAI Agents SDK's, message by message."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

import persistkit
from persistkit.agents.readers import read_sessions

sys.path.append(str(Path(__file__).parent.parent / "agents"))  # where the graphs and the comparisons are

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

THREADS = 1_000


def test_every_message_of_a_thousand_threads(tmp_path: Path) -> None:
    """Messages, calls, their order and the number of checkpoints are those of get_state and list."""
    import graphs
    from test_langgraph import ours, theirs

    dice = random.Random(20)
    path = tmp_path / "checkpoints.sqlite"
    with graphs.saver(path) as saver:
        app = graphs.chat(dice, saver)
        for number in range(THREADS):
            graphs.talk(app, dice, f"thread-{number}")
        with persistkit.open(path) as store:
            skipped: dict[str, str] = {}
            sessions = {session.id: session for session in read_sessions(store, skipped)}
        assert skipped == {}
        assert len(sessions) == THREADS
        for name, session in sessions.items():
            assert ours(session.messages) == theirs(app.get_state(graphs.config(name)).values["messages"])
            assert session.details["checkpoints"] == len(list(saver.list(graphs.config(name))))


def test_every_item_of_a_thousand_sessions(tmp_path: Path) -> None:
    """Items and their order are those of get_items."""
    from test_openai import conversation, items_of, joined, write

    dice = random.Random(21)
    path = tmp_path / "sessions.sqlite"
    given = write(path, {f"session-{number}": conversation(dice) for number in range(THREADS)})
    with persistkit.open(path) as store:
        skipped: dict[str, str] = {}
        for session in read_sessions(store, skipped):
            assert items_of(session.messages) == joined(given.pop(session.id))
    assert (given, skipped) == ({}, {})
