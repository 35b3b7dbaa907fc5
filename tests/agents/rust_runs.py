"""Steps and sessions as the Rust runtime stores them."""

from __future__ import annotations

from typing import Any

__all__ = ["session", "step"]


def step(
    action: str = "search {}", observation: str = '{"data":1,"ok":true}', thought: str = "t", **more: object
) -> dict[str, Any]:
    """Return a step."""
    return {"thought": thought, "action": action, "observation": observation, **more}


def session(*steps: dict[str, Any], **more: object) -> dict[str, Any]:
    """Return a finished session."""
    counts = {"memory_hits": 0, "graph_lookups": 0, "duration_ms": 5}
    return {"session_id": "s", "agent_id": "a", "steps": list(steps), **counts, **more}
