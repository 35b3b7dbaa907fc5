"""Pruning: what is old, beyond a number or beyond a size goes; nothing newer than what was looked at."""

from __future__ import annotations

import threading

import pytest

from persistkit import Store
from persistkit.testing.sharing import run_threads


@pytest.mark.parametrize("place", ["files", "sqlite", "postgresql"], indirect=True)
def test_what_others_save_while_it_is_deleted_stays(store_anywhere: Store) -> None:
    """Threads save longer values while others delete the ones they saw: the longest of each key is there at the end."""
    engine = store_anywhere.engine
    keys = [f"key:{number}" for number in range(8)]
    engine.add("first", b"a lock is there from now on")
    stop = threading.Event()

    def write() -> None:
        try:
            for size in range(60):
                for key in keys:
                    engine.save(key, b"x" * size)
        finally:
            stop.set()

    def delete() -> None:
        while not stop.is_set():
            seen = list(engine.entries("key:"))
            engine.delete_unchanged(entry for entry in seen if entry.size < 59)

    run_threads(write, delete, delete)
    assert engine.batch_load(keys) == [b"x" * 59] * 8
