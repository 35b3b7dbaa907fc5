"""The browser asked as a page asks it, without a kernel."""

from __future__ import annotations

import json
from typing import Any

from persistkit.browser import KeyBrowser
from persistkit.engine import Engine
from persistkit.engines.memory import MemoryEngine

__all__ = ["Message", "ask", "listed", "opened"]

Message = dict[str, Any]  # JSON of the page


def opened(values: dict[str, bytes], **options: Any) -> tuple[KeyBrowser, Engine]:
    """Return a listed browser over values in memory, and their engine."""
    engine = MemoryEngine()
    engine.batch_save(values)
    return listed(engine, **options), engine


def listed(engine: Engine, **options: Any) -> KeyBrowser:
    """Return a browser over an engine, its listing complete."""
    browser = KeyBrowser(engine, **options)
    assert browser.wait(timeout_seconds=10)
    return browser


def ask(browser: KeyBrowser, op: str, **content: Any) -> Message:
    """Ask as a page asks, and read the answer as a page reads it."""
    answer, _ = browser.handle({"op": op, "view": 1, "id": 2, "revision": 1, **content})
    assert (answer["op"], answer["view"], answer["id"]) == (op, 1, 2)
    json.dumps(answer).encode()
    return answer
