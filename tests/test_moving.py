"""Renaming and moving: values get other keys; nothing is written over, nothing is lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import persistkit
from persistkit import Store
from persistkit.errors import InvalidKeyError, KeyCollisionError, MissingKeyError, PersistenceError
from persistkit.testing.sharing import run_threads


def test_a_value_gets_another_key(store_anywhere: Store) -> None:
    """On every engine the value is under its new key and gone from the old one, bytes and, where there is one, time."""
    store = store_anywhere
    store.put_bytes("run/1", b"\x00value")
    store["a"] = "another"
    before = store.to_frame(keys=["run/1"])["modified"]
    store.rename("run/1", "a>_ 日本")
    assert list(store) == ["a", "a>_ 日本"]
    assert store.get_bytes("a>_ 日本") == b"\x00value"
    if not store.address.startswith("s3:"):
        assert store.to_frame(keys=["a>_ 日本"])["modified"].equals(before)
    store.rename("a", "a")
    assert store["a"] == "another"


def test_what_is_there_is_never_written_over(store_anywhere: Store) -> None:
    """Another value under the new key, and a key that is not there, are errors that change nothing."""
    store = store_anywhere
    store.update({"a": 1, "b": 2})
    with pytest.raises(
        PersistenceError, match=r"rename 'a' to 'b': .* has another value under 'b'; nothing was written"
    ):
        store.rename("a", "b")
    with pytest.raises(MissingKeyError, match="c: not in this store"):
        store.rename("c", "d")
    assert dict(store) == {"a": 1, "b": 2}


def test_prefixes_move_with_all_below(store_anywhere: Store) -> None:
    """Every key below the one prefix is below the other, of views too; what only looks alike stays."""
    store = store_anywhere
    store.update({"run/1": 1, "run/2/x": 2, "run:1": 3, "ru": 4})
    assert store.move("run/", "old/run/") == 2
    assert dict(store) == {"old/run/1": 1, "old/run/2/x": 2, "run:1": 3, "ru": 4}
    assert store.view("old/").move("run/", "") == 2
    assert dict(store) == {"old/1": 1, "old/2/x": 2, "run:1": 3, "ru": 4}
    assert store.move("nothing", "else") == 0


@pytest.mark.parametrize(
    ("stored", "old", "new", "expected"),
    [
        (["a/x", "a/y"], "a/", "a/b/", ["a/b/x", "a/b/y"]),
        (["a/x", "a/b/y"], "a/", "a/b/", ["a/b/x", "a/b/y"]),
        (["a/b/x", "a/y"], "a/b/", "a/", ["a/x", "a/y"]),
        (["x", "y"], "", "all/", ["all/x", "all/y"]),
        (["all/x", "y"], "all/", "", ["x", "y"]),
        (["aa", "ab"], "a", "aa", ["aa", "aab"]),
        (["a"], "a", "a", ["a"]),
    ],
)
def test_prefixes_that_overlap(store: Store, stored: list[str], old: str, new: str, expected: list[str]) -> None:
    """What is below the new prefix already stays there; so all is right, and right when it is done again."""
    store.update({key: key for key in stored})
    for _ in range(2 if new.startswith(old) else 1):
        store.move(old, new)
        assert list(store) == expected
    assert sorted(store.values()) == sorted(stored)


def test_a_move_that_cannot_be_whole_does_nothing(store: Store) -> None:
    """A key that is taken, would be too long, or is to be moved itself refuses all of it before the first."""
    values = {"a/x": 1, "a/y": 2, "b/y": 3, "n/n/x": 4, "n/x": 5, "l/" + "k" * 1_000: 6}
    store.update(values)
    with pytest.raises(PersistenceError, match=r"'a/y' to 'b/y': .* \(the first of 1 such keys\)"):
        store.move("a/", "b/")
    with pytest.raises(PersistenceError, match="'n/n/x' to 'n/x': that one is to be moved too"):
        store.move("n/", "")
    with pytest.raises(InvalidKeyError):
        store.move("l/", "l" * 100)
    wrong: Any = 3
    with pytest.raises(TypeError, match="a prefix must be text"):
        store.move("a/", wrong)
    with pytest.raises(InvalidKeyError):
        store.rename("a/x", wrong)
    assert dict(store) == values


@pytest.mark.parametrize("place", ["files", "valkey", "s3"], indirect=True)
def test_an_interrupted_one_is_finished(store_anywhere: Store) -> None:
    """A value under both keys, as an interrupt leaves it, is under the new one alone when it is done again."""
    store = store_anywhere
    store.update({"a/1": 1, "b/1": 1, "a/2": 2, "c": 1})
    assert store.move("a/", "b/") == 2
    store.rename("c", "b/1")
    assert dict(store) == {"b/1": 1, "b/2": 2}


def test_a_shared_filename_refuses(tmp_path: Path) -> None:
    """Two keys of one filename are an error, and the value stays where it was."""
    store = persistkit.open(tmp_path, fsync=False)
    store.update({"a?>": 1, "b": 2})
    with pytest.raises(KeyCollisionError, match="choose another key"):
        store.rename("b", "a>_")
    assert dict(store) == {"a?>": 1, "b": 2}


@pytest.mark.parametrize("place", ["files", "sqlite", "postgresql", "valkey"], indirect=True)
def test_of_values_renamed_at_once_none_is_lost(store_anywhere: Store) -> None:
    """Threads rename different keys to the same one: one has it, the others keep their value."""
    store = store_anywhere
    store.update({f"from:{n}": n for n in range(4)})
    refused: list[int] = []
    lock = threading.Lock()

    def rename(number: int) -> None:
        try:
            store.rename(f"from:{number}", "to")
        except PersistenceError:
            with lock:
                refused.append(number)

    run_threads(*[lambda number=number: rename(number) for number in range(4)])
    assert len(refused) == 3
    assert sorted(store.values()) == [0, 1, 2, 3]
    assert store["to"] not in refused


@pytest.mark.parametrize("place", ["files", "sqlite", "postgresql", "valkey"], indirect=True)
def test_what_is_saved_while_it_is_renamed_is_there(store_anywhere: Store) -> None:
    """One thread renames a key again and again while another saves it: the last value is under one of its names."""
    engine = store_anywhere.engine
    saved = 0
    running = [True]

    def write() -> None:
        nonlocal saved
        try:
            for saved in range(1, 200):
                engine.save("old", b"%03d" % saved)
        finally:
            running.clear()

    def move() -> None:
        number = 0
        while running:
            number += engine.rename("old", f"new:{number}")

    engine.add("first", b"a lock is there from now on")
    run_threads(write, move)
    assert b"%03d" % saved in engine.batch_load(engine.list_keys())
