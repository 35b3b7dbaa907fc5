"""A store is a mapping in every respect: Python's own tests of mappings, and what they leave out."""

from __future__ import annotations

import sqlite3
import tomllib
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import persistkit
from persistkit import errors
from persistkit.errors import FormatError, InvalidKeyError, PersistenceError
from persistkit.store import Store

mapping_tests = pytest.importorskip("test.mapping_tests", reason="this Python comes without its tests")


class TestMappingProtocol(mapping_tests.BasicTestMappingProtocol):  # type: ignore[misc, name-defined]  # untyped
    """CPython's tests of any mapping, against a store in memory; its keys, which are text here, are the only change."""

    type2test = Store

    def _reference(self) -> dict[str, Any]:
        return {"1": 2, "key1": "value1", "key2": [1, 2, 3]}

    def _empty_mapping(self) -> Store:
        return persistkit.open("memory:")


@pytest.mark.parametrize("address", ["memory:", "results", "sqlite:///state.db"])
def test_update_stores_nothing_of_a_mapping_with_one_bad_value(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad value or key at the end of 2,000 leaves the store as it was, of mappings, lists and stores alike."""
    monkeypatch.chdir(tmp_path)
    store = persistkit.open(address, create=True)
    store["run/0001"] = "old"
    good = {f"run/{n:04}": {"loss": n} for n in range(2_000)}
    for bad in ({**good, "bad": print}, [*good.items(), ("bad", object())]):
        with pytest.raises(FormatError, match="store 'bad'"):
            store.update(bad)
    with pytest.raises(InvalidKeyError):
        store.update({**good, "x" * 1_025: 1})
    with pytest.raises(InvalidKeyError):
        store.view("p" * 1_000).update({**good, "x" * 25: 1})
    with pytest.raises(ValueError, match=r"pairs of key and value, not \('a', 2, 3\)"):
        store.update([*good.items(), ("a", 2, 3)])
    assert dict(store) == {"run/0001": "old"}


def test_update_on_sql_is_one_transaction(tmp_path: Path) -> None:
    """When the database refuses one of 3,000 rows, none is stored, not even those of batches before it."""
    store = persistkit.open(f"sqlite:///{tmp_path}/state.db", create=True)
    store["run/0000"] = "old"
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON persistkit WHEN NEW.key = CAST('run/2999' AS BLOB) "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    connection.close()
    with pytest.raises(PersistenceError, match="nothing of the batch"):
        store.update({f"run/{n:04}": n for n in range(3_000)})
    assert dict(store) == {"run/0000": "old"}


@pytest.mark.parametrize("address", ["results", "sqlite:///state.db"])
def test_a_large_update_waits_on_disk(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 350 MiB, made as they are asked for, no more than 256 and some are in memory, and all are stored."""
    monkeypatch.chdir(tmp_path)
    options: Any = {"fsync": False} if address == "results" else {}
    store = persistkit.open(address, create=True, **options)

    class Made(dict[str, str]):
        def keys(self) -> Any:
            return [f"run/{n:03}" for n in range(350)]

        def items(self) -> Any:
            return ((key, self[key]) for key in self.keys())

        def __getitem__(self, key: str) -> str:
            return key[-3:] * (1024 * 1024 // 3 + 1)

        def __len__(self) -> int:
            return 350

    tracemalloc.start()
    try:
        store.update(Made())
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(store) == 350
    assert {store[f"run/{n:03}"][:3] for n in range(350)} == {f"{n:03}" for n in range(350)}
    assert most < 320 * 1024 * 1024


def test_an_iterator_is_stored_batch_by_batch() -> None:
    """What a generator gave before its bad value is stored."""

    def pairs() -> Iterator[tuple[str, Any]]:
        yield from ((f"run/{n:04}", n) for n in range(2_000))
        yield "bad", print

    store = persistkit.open("memory:")
    with pytest.raises(FormatError, match="store 'bad'"):
        store.update(pairs())
    assert 1_000 < len(store) < 2_000


def test_stores_and_dicts_are_joined_by_a_bar(store: Store) -> None:
    """``|`` makes a dict, the right side winning; ``|=`` stores."""
    store["a"] = 1
    store |= {"b": 2}
    assert (dict(store), store | {"a": 3}) == ({"a": 1, "b": 2}, {"a": 3, "b": 2})
    assert {"a": 3, "c": 4} | store == {"a": 1, "b": 2, "c": 4}
    store |= [("a", 5)]
    assert store["a"] == 5
    with pytest.raises(TypeError):
        store | 3  # type: ignore[operator]


def test_pop_takes_its_default_by_name_too(store: Store) -> None:
    """As a dict's, and by name, None included."""
    assert (store.pop("a", default=3), store.pop("a", None), store.pop("a", 4)) == (3, None, 4)
    with pytest.raises(KeyError):
        store.pop("a")


def test_the_package_tells_its_version_and_errors(project: Path) -> None:
    """The version is the project's, and every error can be caught from the top."""
    told = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert persistkit.__version__ == told
    assert all(getattr(persistkit, name) is getattr(errors, name) for name in errors.__all__)
