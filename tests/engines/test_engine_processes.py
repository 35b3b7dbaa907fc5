"""One engine or one place, several processes: counters are exact, and a forked child goes on with the engine."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from functools import partial
from multiprocessing import get_context
from typing import Any

import pytest
from children import in_child

from persistkit.engines import open_engine

PROCESSES = 4
TIMES = 25


def test_a_counter_raised_by_several_processes_is_exact(place: tuple[str, dict[str, Any]]) -> None:
    """All make the place at once; one adds the counter, and no step of any is lost, also where a key has an owner."""
    (address, options), key = place, "counter?>"
    script = f"""
from persistkit.engines import open_engine
engine = open_engine({address!r}, create=True, **{options!r})
print(engine.add({key!r}, b"0"), flush=True)
for _ in range({TIMES}):
    while True:
        value = engine.load({key!r})
        if engine.replace({key!r}, b"%d" % (int(value) + 1), value):
            break
"""
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    told = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert sorted(told) == ["False\n"] * (PROCESSES - 1) + ["True\n"]
    with open_engine(address, **options) as engine:
        assert engine.load(key) == b"%d" % (PROCESSES * TIMES)


@pytest.mark.parametrize("place", ["files", "sqlite", "postgresql", "valkey"], indirect=True)
def test_parent_and_child_go_on_using_one_engine(place: tuple[str, dict[str, Any]]) -> None:
    """A forked child opens a connection of its own, as a pickled engine does, and its writes outlive the parent's."""
    address, options = place
    said, heard = os.pipe(), os.pipe()
    with open_engine(address, create=True, **options) as engine:
        engine.save("parent", b"1")

        def child() -> None:
            assert engine.load("parent") == b"1"
            engine.save("child", b"2")
            os.write(said[1], b".")
            for _ in range(100):
                assert engine.load("child") == b"2"
            os.read(heard[0], 1)
            engine.save("later", b"3")

        process = get_context("fork").Process(target=child)
        process.start()
        os.read(said[0], 1)
        for _ in range(100):
            assert engine.load("parent") == b"1"
        assert engine.load("child") == b"2"
        engine.close()
        os.write(heard[1], b".")
        process.join(60)
        assert process.exitcode == 0
        assert engine.batch_load(["parent", "child", "later"]) == [b"1", b"2", b"3"]
        in_child(partial(pickle.loads(pickle.dumps(engine)).save, "last", b"4"))  # noqa: S301 - its own bytes
        assert engine.load("last") == b"4"
