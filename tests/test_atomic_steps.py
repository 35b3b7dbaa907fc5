"""One step, whoever else writes: ``add``, ``setdefault`` and ``modify`` between threads and processes."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

import persistkit
from persistkit.errors import MissingKeyError

PROCESSES = 4
RAISE = {
    "modify": "store.modify(key, lambda n: n + 1, default=0)",
    "two steps": "store[key] = store.get(key, 0) + 1",
}


def counted(place: tuple[str, dict[str, Any]], how: str, times: int = 30) -> Any:
    """Return what a new counter is after several processes have raised it; Any: a number, one hopes."""
    (address, options), key = place, "counter?>"  # a key with an owner, on files and in buckets
    script = f"""
import sys, persistkit
store, key = persistkit.open({address!r}, create=True, **{options!r}), {key!r}
key in store
print(flush=True); sys.stdin.readline()
for _ in range({times}):
    {RAISE[how]}
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, "-c", script], **pipes) for _ in range(PROCESSES)]  # type: ignore[call-overload]
    for process in started:
        process.stdout.readline()
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        process.communicate(timeout=100)
    assert [process.returncode for process in started] == [0] * PROCESSES
    with persistkit.open(address, **options) as store:
        return store[key]


def test_a_counter_modified_by_several_processes_is_exact(place: tuple[str, dict[str, Any]]) -> None:
    """All make the place at once, one adds the counter, and every step of every process counts, on each engine."""
    assert counted(place, "modify") == PROCESSES * 30


def test_the_counter_would_notice_a_lost_step(tmp_path: Path) -> None:
    """Loading and storing in two steps loses some, so the test above can fail."""
    assert counted((str(tmp_path), {"fsync": False}), "two steps", times=150) < PROCESSES * 150


@pytest.mark.parametrize("address", ["memory:", "results", "sqlite:///state.db"])
def test_of_several_threads_one_sets_the_default(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads that ask at once get one and the same value, and one of eight adds."""
    monkeypatch.chdir(tmp_path)
    store = persistkit.open(address, create=True)
    for number in range(20):
        barrier = Barrier(8)

        def ask(thread: int, key: str = f"key/{number}", barrier: Barrier = barrier) -> tuple[Any, bool]:
            barrier.wait()
            return store.setdefault(key, thread), store.add(f"other/{key}", thread)

        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(ask, range(8)))
        assert {value for value, _ in told} == {store[f"key/{number}"]}
        assert [added for _, added in told].count(True) == 1


def test_modify_takes_a_default_and_tells_what_is_missing() -> None:
    """Without a default a missing key is an error; a default is copied, stays as it was, and may be None."""
    store = persistkit.open("memory:")
    with pytest.raises(MissingKeyError, match=r"^count:"):
        store.modify("count", lambda count: count + 1)
    default: list[int] = []
    assert store.modify("list", lambda values: (values.append(1), values)[1], default=default) == [1]
    assert (default, store["list"]) == ([], [1])
    assert store.modify("none", lambda value: [value], default=None) == [None]


def test_modify_begins_again_when_somebody_was_faster() -> None:
    """What another one stored while the function ran is not lost."""
    store = persistkit.open("memory:")
    store["count"] = 1
    seen = []

    def raised(count: int) -> int:
        seen.append(count)
        if len(seen) == 1:
            store["count"] = 10
        return count + 1

    assert store.modify("count", raised) == store["count"] == 11
    assert seen == [1, 10]
