"""Opens values of strangers, each in a process of its own, and measures it: a program, told what to open by its input.

Each line of input is JSON, ``[way, key, path of a directory]``; each line of output tells the outcome, the seconds and
the mebibytes the process had at most.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from io import BytesIO

import ipywidgets  # type: ignore[import-untyped]  # noqa: F401 - here and not in each process: what is imported once is not measured
import numpy as np
import pandas as pd
import pyarrow.compute  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: F401

import persistkit
from persistkit import BlockingBackend, FilePersistenceBackend
from persistkit.browser import KeyBrowser
from persistkit.errors import FormatError

_MOST_BYTES = 3 * 1024**3
_MOST_SECONDS = 60
_ERROR_CHARACTERS = 2_000
_MESSAGE_CHARACTERS = 16_000_000
_KINDS = (None, "json", "text", "hex", "image", "table")


def in_store(key: str, base: str) -> str:
    """Load the value, name its format, and show the store."""
    with persistkit.open(base, read_only=True) as store:
        store.format_of(key)
        assert len(store._repr_html_()) < _MESSAGE_CHARACTERS
        store.to_frame(prefix=key, formats=True)
        try:
            return type(store[key]).__name__
        except FormatError as error:
            return "FormatError" if len(str(error)) < _ERROR_CHARACTERS else "violation: a long message"


def in_table(key: str, base: str) -> str:
    """Make a table of the content."""
    with persistkit.open(base, read_only=True) as store:
        frame = store.values_frame(key)
        repr(frame)
        return f"{len(frame)} row"


def in_browser(key: str, base: str) -> str:
    """Show the value in the browser, in each way there is, the first bytes and more."""
    browser = KeyBrowser(FilePersistenceBackend(base))
    assert browser.wait(timeout_seconds=30)
    row = next(row for row in browser.handle({"op": "page", "limit": 250})[0]["rows"] if row[1] == key)[0]
    shown = []
    for kind in _KINDS:
        for more in (False, True):
            request = {"op": "preview", "row": row, "revision": 1, "kind": kind, "more": more}
            answer, _ = browser.handle(request)
            assert len(json.dumps(answer, allow_nan=False)) < _MESSAGE_CHARACTERS
            shown.append(str(answer["preview"]["kind"] if "preview" in answer else answer["error"]))
    assert set(shown) <= {"json", "text", "hex", "image", "table"}, shown
    return shown[0]


def without_care(key: str, base: str) -> str:
    """The control: open the value as everybody does."""
    data = BlockingBackend(FilePersistenceBackend(base)).load(key) or b""
    if data.startswith(b"PAR1"):
        value: object = pd.read_parquet(BytesIO(data))
    elif data.startswith(b"\x93NUMPY"):
        value = np.load(BytesIO(data), allow_pickle=True)
    else:
        value = pd.json_normalize(json.loads(data))
    return str(value)


WAYS: dict[str, Callable[[str, str], str]] = {
    way.__name__: way for way in (in_store, in_table, in_browser, without_care)
}


def child(way: str, key: str, base: str, answer: int) -> None:
    """Open one value and write the outcome."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(_MOST_SECONDS)
    try:
        outcome = WAYS[way](key, base)
    except BaseException as error:
        outcome = f"violation: {type(error).__name__}: {str(error)[:300]}"
    os.write(answer, outcome.encode(errors="replace"))
    os._exit(0)


def measured(way: str, key: str, base: str) -> tuple[str, float, float]:
    """Open one value in a process of its own; outcome, seconds, mebibytes."""
    reading, writing = os.pipe()
    started = time.perf_counter()
    process = os.fork()
    if process == 0:
        child(way, key, base, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        outcome = answers.read().decode(errors="replace")
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - started
    if os.WIFSIGNALED(status):
        outcome = f"violation: killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return outcome or f"violation: exit {status}", seconds, usage.ru_maxrss / 1024


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(measured(*json.loads(line))), flush=True)
