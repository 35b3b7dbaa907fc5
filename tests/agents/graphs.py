"""Graphs for LangGraph that run offline, with a die for a model; what they store is read back in the tests."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypedDict

import numpy as np
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send, interrupt
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


@contextmanager
def saver(path: Path) -> Iterator[SqliteSaver]:
    """Open LangGraph's own writer of a SQLite file."""
    with SqliteSaver.from_conn_string(str(path)) as writer:
        yield writer


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


def with_subgraph(writer: Any) -> Any:
    """Return a graph one of whose nodes is a graph."""
    inner: Any = StateGraph(Conversation)
    inner.add_node("look", lambda _: {"messages": [AIMessage("looking")]})
    inner.add_node("find", lambda _: {"messages": [AIMessage("found")]})
    inner.add_edge(START, "look")
    inner.add_edge("look", "find")
    outer: Any = StateGraph(Conversation)
    outer.add_node("search", inner.compile())
    outer.add_node("answer", lambda _: {"messages": [AIMessage("done")]})
    outer.add_edge(START, "search")
    outer.add_edge("search", "answer")
    return outer.compile(checkpointer=writer)


def asking(writer: Any) -> Any:
    """Return a graph that waits for a person."""

    def ask(_: Conversation) -> dict[str, Any]:
        return {"messages": [HumanMessage(interrupt("May I send it?"))]}

    graph: Any = StateGraph(Conversation)
    graph.add_node("draft", lambda _: {"messages": [AIMessage("a draft")]})
    graph.add_node("ask", ask)
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "ask")
    return graph.compile(checkpointer=writer)


def failing(writer: Any) -> Any:
    """Return a graph of two nodes that run together, one of which raises."""

    def fail(_: Conversation) -> dict[str, Any]:
        raise RuntimeError("the disk is full")

    graph: Any = StateGraph(Conversation)
    graph.add_node("work", lambda _: {"messages": [AIMessage("worked")]})
    graph.add_node("fail", fail)
    graph.add_edge(START, "work")
    graph.add_edge(START, "fail")
    return graph.compile(checkpointer=writer)


def fanning_out(writer: Any) -> Any:
    """Return a graph that sends two tasks to one node."""
    graph: Any = StateGraph(Conversation)
    graph.add_node("plan", lambda _: {"turn": 1})
    graph.add_node("work", lambda state: {"messages": [AIMessage(f"worked on {state['goal']}")]})
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda _: [Send("work", {"goal": goal}) for goal in ("a", "b")], ["work"])
    return graph.compile(checkpointer=writer)
