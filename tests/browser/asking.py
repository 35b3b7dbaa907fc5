"""The browser asked as a page asks it, without a kernel; arrays and tables as other programs store them."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from pyarrow.parquet import write_table  # type: ignore[import-untyped]

from persistkit.browser import KeyBrowser
from persistkit.engine import Engine
from persistkit.engines.memory import MemoryEngine

__all__ = ["OPERATIONS", "Message", "ask", "listed", "npy", "opened", "parquet"]

Message = dict[str, Any]  # JSON of the page
OPERATIONS = [
    "page", "folders", "overview", "select", "preview", "node", "find", "copy", "download", "kinds", "code",
    "compare", "mark", "delete", "poll", "refresh",
]  # fmt: skip


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


def npy(values: np.ndarray[Any, Any]) -> bytes:
    """Return an array as a .npy file, one of objects as a pickle in it."""
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


def parquet(table: Any, **options: Any) -> bytes:
    """Return a table of pyarrow's as a Parquet file."""
    stream = io.BytesIO()
    write_table(table, stream, **options)
    return stream.getvalue()
