"""Pruning: what is old, beyond a number or beyond a size goes; nothing newer than what was looked at."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dict_engine import Listing

import persistkit
from persistkit import Entry, Store
from persistkit.testing.sharing import run_threads

NOW = datetime.now(UTC)


@pytest.fixture
def aged(tmp_path: Path) -> Store:
    """A directory with values of 100 bytes, one for each of the last ten days."""
    store = persistkit.open(tmp_path / "results", create=True, fsync=False)
    for day in range(10):
        store.put_bytes(f"run/{day}", b"x" * 100)
        moment = (NOW - timedelta(days=day, hours=1)).timestamp()
        os.utime(store.engine.path_for(f"run/{day}"), (moment, moment))  # type: ignore[attr-defined]
    return store


@pytest.mark.parametrize(
    ("rules", "first"),
    [
        ({"older_than": "5 days"}, 5),
        ({"older_than": "5d"}, 5),
        ({"older_than": "120 hours"}, 5),
        ({"older_than": "0.5 weeks"}, 4),
        ({"older_than": timedelta(days=3)}, 3),
        ({"older_than": pd.Timedelta(days=3)}, 3),
        ({"older_than": NOW - timedelta(days=3)}, 3),
        ({"older_than": (NOW - timedelta(days=3)).replace(tzinfo=None)}, 3),
        ({"older_than": "520 weeks"}, 10),
        ({"keep_last": 4}, 4),
        ({"keep_last": 0}, 0),
        ({"keep_last": 100}, 10),
        ({"max_bytes": 300}, 3),
        ({"max_bytes": 3.99e2}, 3),
        ({"max_bytes": 0}, 0),
        ({"keep_last": 6, "older_than": "2 days"}, 6),
        ({"keep_last": 2, "older_than": "6 days", "max_bytes": 400}, 6),
    ],
    ids=lambda given: "+".join(given) if isinstance(given, dict) else None,
)
def test_each_rule_lets_the_oldest_go(aged: Store, rules: dict[str, Any], first: int) -> None:
    """By age, number and size the oldest go, those under every rule alone; a dry run says the same and does nothing."""
    expected = [f"run/{day}" for day in range(first, 10)]
    told = aged.prune(**rules)
    assert (told["key"].tolist(), set(told["outcome"]) - {"goes"}, len(aged)) == (expected, set(), 10)
    done = aged.prune(**rules, dry_run=False)
    assert (done["key"].tolist(), set(done["outcome"]) - {"gone"}) == (expected, set())
    assert done["why"].tolist() == told["why"].tolist() or "older_than" in rules
    assert list(aged) == [f"run/{day}" for day in range(first)]


def test_on_every_engine_the_oldest_of_a_selection_go(store_anywhere: Store) -> None:
    """The newest of the selection and everything outside of it stay; without times all stays, and the table says so."""
    store = store_anywhere
    for key in ("run/1", "other", "run/2"):  # where times are whole seconds, the key decides
        store[key] = key
    times = store.to_frame(prefix="run/")["modified"]
    table = store.prune(prefix="run/", keep_last=1, dry_run=False, progress=False)
    if times.isna().all():
        assert table["why"].tolist() == ["when it was saved is not known"] * 2
        assert (table["outcome"].tolist(), len(store)) == (["stays"] * 2, 3)
    else:
        assert table[["key", "outcome", "why"]].values.tolist() == [["run/1", "gone", "not among the newest 1"]]
        assert list(store) == ["other", "run/2"]
    assert table.columns.tolist() == ["key", "size", "modified", "outcome", "why"]


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


@pytest.mark.parametrize("place", ["files", "sqlite", "postgresql"], indirect=True)
def test_two_writers_lose_nothing_to_pruning(store_anywhere: Store) -> None:
    """While all is pruned again and again, each value a writer saves last is there, of the same size too."""
    store = store_anywhere
    running = [2]

    def write(mine: str) -> None:
        try:
            for number in range(40):
                store.engine.save(f"{mine}:{number % 4}", b"%04d" % number)
        finally:
            running[0] -= 1

    def prune() -> None:
        while running[0]:
            store.prune(keep_last=0, glob="gone*", dry_run=False)
            store.prune(max_bytes=0, dry_run=False)

    store.engine.add("first", b"a lock is there from now on")
    began = datetime.now(UTC)
    run_threads(lambda: write("a"), lambda: write("b"), prune)
    table = store.prune(older_than=began)
    assert table.empty
    for key in store:
        assert store.engine.load(key) == b"%04d" % (36 + int(key[-1]))


def test_what_cannot_be_judged_stays_and_is_told() -> None:
    """Without a known time, or a key that is known for sure, nothing goes; the table has a row that says why."""
    old = NOW - timedelta(days=400)
    engine = Listing(
        Entry("old", 1, old),
        Entry("timeless", 1, None),
        Entry(None, 1, old, "a_b-0000000000000001.bin"),
        Entry("a>_", 1, old, ambiguous=True),
    )
    table = Store(engine).prune(older_than="1 day", dry_run=False)
    assert table[["key", "outcome"]].fillna("?").values.tolist() == [
        ["a>_", "stays"],
        ["old", "gone"],
        ["timeless", "stays"],
        ["?", "stays"],
    ]
    assert [why.partition(":")[0] for why in table["why"]][2:] == [
        "when it was saved is not known",
        "its key is not known",
    ]
    assert set(engine.stored) == {"timeless", "a>_"}


def test_what_was_changed_meanwhile_is_told(aged: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that somebody saves between the look and the removal stays, and the table says so."""
    look = type(aged.engine)._delete_unchanged

    def save_first(engine: Any, seen: dict[str, Entry]) -> dict[str, str]:
        aged.put_bytes("run/9", b"y" * 100)
        return look(engine, seen)

    monkeypatch.setattr(type(aged.engine), "_delete_unchanged", save_first)
    table = aged.prune(keep_last=8, dry_run=False).set_index("key")
    assert table["outcome"].to_dict() == {"run/8": "gone", "run/9": "stays"}
    assert "changed after it was listed" in table["why"]["run/9"]
    assert aged.get_bytes("run/9") == b"y" * 100


@pytest.mark.parametrize(
    ("rules", "kind", "advice"),
    [
        ({}, ValueError, r"say what is to go: older_than='30 days'.*store\.clear\(\)"),
        ({"older_than": "6M"}, ValueError, "such as '30 days'.*not '6M'; for a date write a datetime"),
        ({"older_than": "30"}, ValueError, "such as '30 days'"),
        ({"older_than": "5 m"}, ValueError, r"\(w, d, h, min, s\)"),
        ({"older_than": "2026-01-01"}, ValueError, "write a datetime"),
        ({"older_than": 30}, TypeError, "such as '30 days'.*not int"),
        ({"older_than": timedelta(days=-1)}, ValueError, "an age above zero"),
        ({"older_than": timedelta(days=10**8)}, ValueError, "an age above zero"),
        ({"older_than": NOW + timedelta(days=1)}, ValueError, "a moment in the past"),
        ({"older_than": pd.NaT}, ValueError, "a moment in the past"),
        ({"older_than": "999999999999 days"}, ValueError, "an age above zero"),
        ({"keep_last": -1}, ValueError, "keep_last is a whole number from 0 on, not -1"),
        ({"keep_last": 1.5}, ValueError, "keep_last is a whole number from 0 on, not 1.5"),
        ({"keep_last": True}, ValueError, "keep_last is a whole number"),
        ({"max_bytes": "1 GB"}, ValueError, "max_bytes is a number from 0 on, not '1 GB'"),
        ({"max_bytes": float("nan")}, ValueError, "max_bytes is a number"),
    ],
    ids=lambda given: "+".join(given) if isinstance(given, dict) else None,
)
def test_a_rule_that_cannot_be_is_refused(aged: Store, rules: Any, kind: type[Exception], advice: str) -> None:
    """A mistaken rule says what to write, and nothing goes."""
    with pytest.raises(kind, match=advice):
        aged.prune(**rules, dry_run=False)
    assert len(aged) == 10


def test_numbers_of_numpy_are_numbers(aged: Store) -> None:
    """What pandas has counted or summed is a rule as an int is."""
    assert len(aged.prune(keep_last=np.int64(4))) == len(aged.prune(keep_last=4)) == 6  # type: ignore[arg-type]
    assert aged.prune(max_bytes=np.int64(0)).equals(aged.prune(max_bytes=0))  # type: ignore[arg-type]


def test_read_only_prunes_on_paper_alone(aged: Store) -> None:
    """A dry run works on what was opened read only."""
    assert len(Store(aged, read_only=True).prune(keep_last=4)) == 6
