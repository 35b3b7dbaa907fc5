"""Writes support.sqlite beside it, with LangGraph itself: an agent that answers the customers of a small shop.

There is no language model: what customers and the agent say, and its token counts, are the script below. The graph, the
tools, the failures, the times and every byte of the file are real. Needs langgraph and langgraph-checkpoint-sqlite.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from pydantic import BaseModel


class Order(BaseModel):
    """An order of the shop."""

    number: int
    product: str
    total: float
    status: str


class State(TypedDict, total=False):
    """What the graph remembers between its steps."""

    messages: Annotated[list[AnyMessage], add_messages]
    order: Order
    budget: int


ORDERS = {
    1042: Order(number=1042, product="sea chart", total=34.50, status="shipped"),
    1043: Order(number=1043, product="compass", total=79.00, status="paid"),
    1051: Order(number=1051, product="rope 20 m", total=27.90, status="delivered"),
}
tracked: list[str] = []


def find_order(number: int) -> dict[str, Any]:
    """Look an order up."""
    time.sleep(0.05)
    return ORDERS[number].model_dump()


def track_parcel(number: int) -> str:
    """Ask the carrier, who does not answer at first."""
    tracked.append(f"{number}")
    if len(tracked) % 2:
        time.sleep(2)
        raise TimeoutError("the carrier did not answer within 2 s")
    time.sleep(0.4)
    return "left the depot in Kiel at 14:10"


def search_manual(query: str) -> list[str]:
    """Search the shop's manual, which is short."""
    time.sleep(0.2)
    manual = ["Ropes are cut to length and cannot be returned.", "Charts are printed on demand in two days."]
    return [line for line in manual if query.lower() in line.lower()]


def refund(number: int, amount: float) -> str:
    """Pay money back, if a person agrees."""
    answer = interrupt({"question": f"Refund {amount:.2f} for order {number}?"})
    return f"refunded: {answer}"


TOOLS = {tool.__name__: tool for tool in (find_order, track_parcel, search_manual, refund)}


def call(tool: str, **arguments: object) -> dict[str, Any]:
    """Return a request for a tool."""
    return {"name": tool, "args": arguments}


# Thread -> turns; a turn is the customer's words, then the agent's: text, tokens read and written, tools.
SCRIPT: dict[str, list[tuple[str, list[tuple[Any, ...]]]]] = {
    "ada/where-is-my-order": [
        (
            "Where is my order 1042?",
            [
                ("I look it up.", 412, 31, call("find_order", number=1042), call("track_parcel", number=1042)),
                ("The carrier did not answer. I ask again.", 655, 24, call("track_parcel", number=1042)),
                ("Your sea chart left the depot in Kiel at 14:10 and comes today.", 731, 38),
            ],
        ),
        ("Thank you!", [("You are welcome.", 790, 6)]),
    ],
    "ben/refund": [
        (
            "The rope of order 1051 is too short. I want my money back.",
            [
                ("I look it up.", 398, 22, call("find_order", number=1051)),
                ("I ask for the refund.", 540, 29, call("refund", number=1051, amount=27.90)),
            ],
        ),
    ],
    "chen/invoice": [
        ("请把订单 9999 的发票寄给我。", [("我来查一下订单。", 420, 25, call("find_order", number=9999))]),
    ],
    "dora/compass": [
        (
            "Can the compass of order 1043 be engraved?",
            [
                ("I search the manual.", 405, 20, call("search_manual", query="engraved")),
                ("Nothing. I try another word.", 466, 24, call("search_manual", query="engraving")),
                ("Nothing. I try another word.", 529, 24, call("search_manual", query="compass")),
                ("Nothing. I try the order.", 590, 27, call("find_order", number=1043)),
                ("I search once more.", 702, 24, call("search_manual", query="personal")),
                ("I am sorry, the manual does not say.", 764, 17),
            ],
        ),
    ],
    "emil/returns": [
        (
            "Can I return a rope?",
            [
                ("I search the manual.", 397, 19, call("search_manual", query="rope")),
                ("No: ropes are cut to length and cannot be returned.", 448, 21),
            ],
        ),
    ],
}


def make_graph(saver: SqliteSaver) -> Any:
    """Return the agent, whose model says what the script says."""

    def model(state: State) -> State:
        said = sum(isinstance(message, AIMessage) for message in state["messages"])
        text, read, written, *calls = SPOKEN[said]
        time.sleep(written / 50)
        usage = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
        requests = [{**request, "id": f"call_{said}_{n}"} for n, request in enumerate(calls)]
        return {
            "messages": [AIMessage(text, tool_calls=requests, usage_metadata=usage)],  # type: ignore[typeddict-item]
            "budget": state["budget"] - read - written,
        }

    def tools(state: State) -> State:
        results: list[AnyMessage] = []
        changes: State = {}
        for request in state["messages"][-1].tool_calls:  # type: ignore[union-attr]
            about = {"tool_call_id": request["id"], "name": request["name"]}
            try:
                result = TOOLS[request["name"]](**request["args"])
                if request["name"] == "find_order":
                    changes["order"] = Order(**result)
                results.append(ToolMessage(json.dumps(result, ensure_ascii=False), **about))
            except TimeoutError as error:
                results.append(ToolMessage(f"TimeoutError: {error}", status="error", **about))
        return {"messages": results, **changes}

    def route(state: State) -> str:
        return "tools" if state["messages"][-1].tool_calls else END  # type: ignore[union-attr]

    graph = StateGraph(State)
    graph.add_node("model", model)
    graph.add_node("tools", tools)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", route)
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=saver)


SPOKEN: list[tuple[Any, ...]] = []

if __name__ == "__main__":
    path = Path(__file__).with_name("support.sqlite")
    path.unlink(missing_ok=True)
    with SqliteSaver.from_conn_string(str(path)) as saver:
        for thread, turns in SCRIPT.items():
            SPOKEN[:] = [words for _, turn in turns for words in turn]
            for number, (question, _) in enumerate(turns):
                first = [SystemMessage("You answer the customers of a small shop for sailors.")] if not number else []
                start = {"messages": [*first, HumanMessage(question)], **({} if number else {"budget": 5_000})}
                try:
                    make_graph(saver).invoke(start, {"configurable": {"thread_id": thread}})
                except KeyError as error:
                    print(f"{thread}: {error!r}")
