"""Graphs for LangGraph that run offline, with a die for a model; what they store is read back in the tests."""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, TypedDict

import numpy as np
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

__all__ = ["Conversation", "asking", "chat", "failing", "fanning_out", "saver", "talk", "with_subgraph"]

TOOLS: Final = ("search_web", "read_file", "run_sql", "send_mail")
WORDS: Final = ("harbour", "invoice", "lantern", "quarter", "Zürich", "東京", "pump", "ledger", "naïve", "🚢", "tide")


class Plan(BaseModel):
    """A model of pydantic's in a state."""

    goal: str
    steps: list[str] = []


@dataclass
class Budget:
    """A dataclass in a state."""

    tokens: int
    dollars: float


class Mood(enum.Enum):
    """An enum in a state."""

    CALM = "calm"
    WORRIED = "worried"


class Conversation(TypedDict, total=False):
    """A state as people have it. Any: LangGraph takes what it is given."""

    messages: Annotated[list[Any], add_messages]
    plan: Any
    budget: Any
    mood: Any
    scores: Any
    turn: int
    turns: int


def saver(path: Path) -> AbstractContextManager[SqliteSaver]:
    """Open LangGraph's own writer of a SQLite file."""
    return SqliteSaver.from_conn_string(str(path))


def chat(dice: random.Random, writer: Any, messages: Any = None) -> Any:
    """Return a graph of a model that calls tools, and of the tools, some of which fail."""

    def say(count: int) -> str:
        return " ".join(dice.choice(WORDS) for _ in range(count))

    def think(state: Any) -> dict[str, Any]:
        turn = state.get("turn", 0)
        if turn >= state.get("turns", 1):
            usage = {"input_tokens": dice.randrange(900), "output_tokens": dice.randrange(99), "total_tokens": 1000}
            answer = AIMessage(say(9), usage_metadata=usage)
            return {"messages": [answer], "turn": turn + 1, "mood": Mood.CALM, "scores": np.arange(3) * 0.5}
        calls = [
            {
                "name": dice.choice(TOOLS),
                "args": {"query": say(3), "limit": dice.randrange(9)},
                "id": f"call_{dice.getrandbits(40):x}",
            }
            for _ in range(dice.choice((1, 1, 2)))
        ]
        plan = Plan(goal=say(3), steps=[say(2)])
        state_of_mind = {"plan": plan, "budget": Budget(dice.randrange(9999), 0.25), "mood": Mood.WORRIED}
        return {"messages": [AIMessage(say(4), tool_calls=calls)], "turn": turn + 1, **state_of_mind}

    def act(state: Any) -> dict[str, Any]:
        return {
            "messages": [
                ToolMessage(
                    dice.choice((say(6), '{"rows": 3}', "error: timed out")),
                    tool_call_id=call["id"],
                    name=call["name"],
                    status=dice.choice(("success", "success", "error")),
                )
                for call in state["messages"][-1].tool_calls
            ]
        }

    state: Any = Conversation
    if messages is not None:  # another reducer
        state = TypedDict("Conversation", {**Conversation.__annotations__, "messages": messages}, total=False)  # type: ignore[misc, no-redef]
    graph: Any = StateGraph(state)
    graph.add_node("think", think)
    graph.add_node("act", act)
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", _after_thought, ["act", END])
    graph.add_edge("act", "think")
    return graph.compile(checkpointer=writer)


def _after_thought(state: Any) -> str:
    return "act" if getattr(state["messages"][-1], "tool_calls", None) else END


def talk(app: Any, dice: random.Random, thread: str) -> None:
    """Ask once or twice in a thread."""
    for _ in range(dice.choice((1, 1, 2))):
        said: Sequence[BaseMessage] = [SystemMessage("You are terse."), HumanMessage(dice.choice(WORDS) * 3)]
        app.invoke({"messages": said, "turn": 0, "turns": dice.randrange(4)}, config(thread))


def config(thread: str) -> Any:
    """Return how LangGraph names a thread."""
    return {"configurable": {"thread_id": thread}}


def graph_of(writer: Any, nodes: dict[str, Any], *edges: tuple[str, str]) -> Any:
    """Return a graph of these nodes; a text for a node is what the model says there."""
    graph: Any = StateGraph(Conversation)
    for name, node in nodes.items():
        graph.add_node(name, partial(_said, node) if isinstance(node, str) else node)
    for edge in edges:
        graph.add_edge(*edge)
    return graph.compile(checkpointer=writer)


def _said(text: str, _: Any) -> dict[str, Any]:
    return {"messages": [AIMessage(text)]}


def with_subgraph(writer: Any) -> Any:
    """Return a graph one of whose nodes is a graph."""
    inner = graph_of(None, {"look": "looking", "find": "found"}, (START, "look"), ("look", "find"))
    return graph_of(writer, {"search": inner, "answer": "done"}, (START, "search"), ("search", "answer"))


def asking(writer: Any) -> Any:
    """Return a graph that waits for a person."""

    def ask(_: Conversation) -> dict[str, Any]:
        return {"messages": [HumanMessage(interrupt("May I send it?"))]}

    return graph_of(writer, {"draft": "a draft", "ask": ask}, (START, "draft"), ("draft", "ask"))


def failing(writer: Any) -> Any:
    """Return a graph of two nodes that run together, one of which raises."""

    def fail(_: Conversation) -> dict[str, Any]:
        raise RuntimeError("the disk is full")

    return graph_of(writer, {"work": "worked", "fail": fail}, (START, "work"), (START, "fail"))


def fanning_out(writer: Any) -> Any:
    """Return a graph that sends two tasks to one node."""

    def plan(_: Conversation) -> Command[Any]:
        return Command(update={"turn": 1}, goto=[Send("work", {"goal": goal}) for goal in ("a", "b")])

    return graph_of(writer, {"plan": plan, "work": "worked"}, (START, "plan"))
