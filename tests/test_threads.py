"""Threads and event loops: with our own engines there are none, unless somebody awaits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

USED = """
import asyncio.base_events, sys, threading

import persistkit
from persistkit.background import BackendEngine

loops, threads = [], []

def counted(kind, method, made):
    original = getattr(kind, method)
    def count(self, *arguments, **options):
        made.append(type(self).__name__)
        return original(self, *arguments, **options)
    setattr(kind, method, count)

counted(asyncio.base_events.BaseEventLoop, "__init__", loops)
counted(threading.Thread, "start", threads)

def use(store):
    store["run/1"] = {"loss": 0.25}
    store["run/2"] = [1, 2]
    assert store["run/1"] == {"loss": 0.25}
    assert "run/2" in store and "run/3" not in store
    assert sorted(store) == ["run/1", "run/2"] and len(store) == 2
    assert dict(store.items()) == {"run/1": {"loss": 0.25}, "run/2": [1, 2]}
    with store.engine.open_writer("stream") as file:
        file.write(bytes(100_000))
    with store.engine.open_reader("stream") as file:
        assert file.read(3) == bytes(3)
    assert store.engine.add("added", b"1") and store.engine.replace("added", b"2", b"1")
    assert store.engine.read_range("stream", 5, 5) == bytes(5)
    store.engine.change_token()
    store.to_frame()
    del store["run/1"]

def use_batches(store):
    store.update({f"step/{number}": number for number in range(600)}, progress=False)
    assert len(list(store.values())) == 603
    store.engine.batch_delete(store.engine.list_keys())
    assert len(store) == 0

with persistkit.open(sys.argv[1], **({"create": True} if sys.argv[2] == "create" else {})) as store:
    if sys.argv[2] == "background":
        class Held(persistkit.EngineBackend):
            async def save(self, key, value):
                await super().save(key, value)
        store = persistkit.Store(Held(store.engine))
    store.engine.batch_delete(store.engine.list_keys())
    use(store)
    singles = list(threads)
    use_batches(store)
    left = threading.active_count() - 1
print(len(loops), len(singles), len(threads), left)
"""


def threads_and_loops(address: object, how: str) -> list[int]:
    """Use a store in its own interpreter; count the loops, the threads of single calls and of all, and those left."""
    command = [sys.executable, "-c", USED, str(address), how]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=dict(os.environ))
    assert (run.returncode, run.stderr) == (0, "")
    return [int(word) for word in run.stdout.split()]


def test_memory_starts_no_thread() -> None:
    """Values in memory need no thread and no event loop; the control sees those of a backend that must be awaited."""
    assert threads_and_loops("memory:", "") == [0, 0, 0, 0]
    loops, singles, _, left = threads_and_loops("memory:", "background")
    assert (loops, left) == (1, 1)
    assert singles > 0


@pytest.mark.parametrize("place", ["files", "sqlite", "valkey", "postgresql"], indirect=True)
def test_an_engine_is_used_in_the_thread_of_its_caller(place: tuple[str, dict[str, Any]]) -> None:
    """C calls and blocking connections need no thread; a durable batch of files has several, which end with it."""
    address, _ = place
    loops, singles, in_batches, left = threads_and_loops(address, "create")
    assert (loops, singles, left) == (0, 0, 0)
    assert in_batches == 0 or address.endswith("results")


WITHOUT = """
import _thread, io, sys, threading

def refused(*arguments, **options):
    raise RuntimeError("can't start new thread")

threading.Thread.start = _thread.start_new_thread = refused
_thread.start_joinable_thread = refused

import pandas as pd
import persistkit
from persistkit.errors import StorageError

for address in ("memory:", "files", "sqlite:///state.db"):
    with persistkit.open(address, create=True, **({"fsync": False} if address == "files" else {})) as store:
        store.update({f"run/{number:03d}": {"loss": number} for number in range(40)})
        store["table"] = table = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
        pd.testing.assert_frame_equal(store["table"], table)
        store.put_bytes("deep", b"[" * 5_000 + b"1" + b"]" * 5_000)
        assert store["deep"]
        assert len(store.to_frame()) == len(store) == 42
        assert store.values_frame(prefix="run/")["loss"].sum() == 780
        assert "42 keys" in store._repr_html_()
        browser = store.browse(read_only=False)
        assert browser.wait(0)
        browser.key = "run/007"
        assert browser.value == {"loss": 7}
        answer, _ = browser.handle({"op": "page", "id": 1, "view": 1, "offset": 0, "limit": 50, "query": "run"})
        assert answer["found"] == 40
        browser.close()
        with store.engine.lock("run"), store.engine.open_writer("stream") as file:
            file.write(b"12")
        store.engine.batch_delete(store.engine.list_keys())
        assert len(store) == 0

class Own(persistkit.EngineBackend):
    async def load(self, key):
        return None

for work in (
    lambda: persistkit.open("s3://bucket", endpoint="http://127.0.0.1:9", skip_signature="true")["x"],
    lambda: persistkit.Store(Own(store.engine))["x"],
):
    try:
        work()
    except StorageError as error:
        print(error)
"""


def test_everything_but_s3_and_own_backends_works_where_no_thread_starts(tmp_path: Path) -> None:
    """As in WebAssembly: files, memory, SQLite, tables, card and browser work; the others say what they lack."""
    command = [sys.executable, "-c", WITHOUT]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env=environment, cwd=tmp_path
    )
    assert (run.returncode, "Warning" in run.stderr) == (0, False), run.stderr
    first, second = run.stdout.splitlines()
    assert "it needs a thread" in first
    assert "it needs a thread" in second
