"""The store: a mapping of typed values, reading what others wrote, and read only."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dict_engine import DictEngine

import persistkit
from persistkit import Store
from persistkit.arguments import BytesLike
from persistkit.engines.files import FileEngine
from persistkit.engines.memory import MemoryEngine
from persistkit.errors import FormatError, ReadOnlyError
from persistkit.progress import SHOWN_AFTER_SECONDS

CUT_ARRAY = b"\x93NUMPY\x01\x00cut here"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in a directory."""
    return persistkit.open(tmp_path / "results", create=True, fsync=False)


def raw(store: Store, key: str) -> bytes:
    """Return the very file of a key."""
    engine = store.engine
    assert isinstance(engine, FileEngine)
    return engine.path_for(key).read_bytes()


def test_it_is_a_mapping_over_sorted_known_keys(store: Store) -> None:
    """Iteration, len, in, get, pop and del behave as a mapping's."""
    store.update({"b": 2, "a:1": 1}, c=3)
    assert (list(store), len(store)) == (["a:1", "b", "c"], 3)
    assert "b" in store
    assert 3 not in store  # type: ignore[comparison-overlap]
    assert (store.get("x"), store.get("x", 0), store.pop("b")) == (None, 0, 2)
    assert dict(store) == {"a:1": 1, "c": 3}
    assert store.keys(prefix="a") == ["a:1"]
    store.clear()
    assert len(store) == 0


def test_large_values_come_back_typed_and_are_the_callers_own(tmp_path: Path) -> None:
    """A value of many megabytes is what it was, whatever its key, and no two loads of it share their memory."""
    store = persistkit.open(tmp_path, create=True)
    array = np.arange(1_000_000.0)
    values = {
        "array": array,
        "session:1/step:2": array,
        "text": "größe" * 1_000_000,
        "bytes": bytes(5_000_000) + b"\xff",
    }
    store.update(values)
    store["table"] = pd.DataFrame({"a": array})
    loaded = persistkit.open(tmp_path, read_only=True)
    for key in ("array", "session:1/step:2"):
        first, second = loaded[key], loaded[key]
        first[:] = 0
        assert np.array_equal(second, array)
    assert [loaded[key] for key in ("text", "bytes")] == [values["text"], values["bytes"]]
    pd.testing.assert_frame_equal(loaded["table"], pd.DataFrame({"a": array}))
    with pytest.raises(KeyError):
        loaded["session:1/step:3"]


def test_a_loaded_array_is_the_callers_own_whatever_the_engine_keeps() -> None:
    """An engine that keeps and gives the very buffer it was handed does not see what is done to a loaded array."""

    class Keeping(DictEngine):
        def _save(self, key: str, value: BytesLike) -> None:
            self.stored[key] = bytearray(value)  # type: ignore[assignment]  # what a driver may keep

        def _batch_load(self, keys: list[str]) -> list[bytes | None]:
            return [self.stored[key] for key in keys]

    store = Store(Keeping())
    store["array"] = np.arange(3)
    for loaded in (store["array"], store.load_many(["array"])["array"]):
        loaded[:] = 7
        assert store["array"].tolist() == [0, 1, 2]


def test_a_bar_shows_when_it_takes_long_and_is_wanted(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Quick work is silent, however many keys; slow work shows how far it is, however few, unless it is not wanted."""
    values = {f"n:{n:04}": n for n in range(700)}
    assert SHOWN_AFTER_SECONDS == 1.0
    for seconds, progress in ((60.0, True), (0.0, False)):  # a loaded disk takes seconds for this
        monkeypatch.setattr("persistkit.progress.SHOWN_AFTER_SECONDS", seconds)
        store.update(values, progress=progress)
        assert store.load_many(reversed(list(values)), progress=progress) == values
        assert capsys.readouterr().err == ""
    store.update(values)
    assert "storing:" in (shown := capsys.readouterr().err)
    assert "/700" in shown
    store.load_many(list(values)[:70])
    assert re.search(r"loading: +91%.* 64/70", shown := capsys.readouterr().err)
    assert shown.endswith("\r")
    with pytest.raises(TypeError, match=r"under that key: \{'progress': 0.5\}"):
        store.update(progress=0.5)  # type: ignore[arg-type]


def test_bytes_are_exact(store: Store) -> None:
    """put_bytes and get_bytes keep what would load as something else, and damage stays readable as bytes."""
    store.put_bytes("k", CUT_ARRAY)
    assert (store.get_bytes("k"), raw(store, "k")) == (CUT_ARRAY, CUT_ARRAY)
    with pytest.raises(FormatError, match=r"load 'k': .*; get_bytes\('k'\) gives the bytes$"):
        store["k"]
    with pytest.raises(FormatError, match=r"store 'j': \$\.a"):
        store["j"] = {"a": print}
    assert "j" not in store
    assert store.format_of("k") == "npy"


def test_a_value_is_read_as_the_format_that_is_asked_for(store: Store) -> None:
    """Load takes the format from the caller, else from content and key; what is not of it is an error with the key."""
    store.put_bytes("metrics.csv", b"epoch,loss\n1,0.5\n")
    store.put_bytes("log.jsonl", b'{"step": 1}\n')
    store.put_bytes("one", b'{"step": 1}\n')
    assert store.load("metrics.csv") == "epoch,loss\n1,0.5\n"
    assert store.load("metrics.csv", format="csv")["loss"].tolist() == [0.5]
    assert (store["log.jsonl"], store["one"]) == ([{"step": 1}], {"step": 1})
    assert (store.get("log.jsonl"), dict(store.items())["log.jsonl"]) == ([{"step": 1}], [{"step": 1}])
    assert (store.load("one", "jsonl"), store.load("one", "bytes")) == ([{"step": 1}], b'{"step": 1}\n')
    assert [store.format_of(key) for key in store] == ["jsonl", "text", "json"]
    with pytest.raises(FormatError, match=r"load 'metrics.csv': .*get_bytes"):
        store.load("metrics.csv", format="json")
    with pytest.raises(ValueError, match="jsonl"):
        store.load("one", format="yaml")
    with pytest.raises(KeyError, match="absent"):
        store.load("absent", format="json")


def test_one_damaged_value_does_not_stop_the_others(store: Store) -> None:
    """Bulk reads raise, leave it out, or give its bytes, as asked; another word is refused at once."""
    store.update({"a": 1, "c": [2]})
    store.put_bytes("b", CUT_ARRAY)
    for read in (store.items, lambda errors="raise": store.load_many(["a", "b", "c"], errors).items()):
        with pytest.raises(FormatError, match=r"load 'b'.*get_bytes"):
            dict(read())
        assert dict(read(errors="skip")) == {"a": 1, "c": [2]}
        assert dict(read(errors="bytes")) == {"a": 1, "b": CUT_ARRAY, "c": [2]}
    with pytest.raises(FormatError, match="load 'b'"):
        list(store.values())
    assert (list(store.values("skip")), list(store.values("bytes"))) == ([1, [2]], [1, CUT_ARRAY, [2]])
    wrong: Any = "ignore"
    for refuse in (store.items, store.values, lambda e: store.values_frame("*", e), lambda e: store.load_many([], e)):
        with pytest.raises(ValueError, match="'raise', 'skip' or 'bytes', not 'ignore'"):
            refuse(wrong)


def test_get_pop_and_equality_are_not_stuck_on_a_damaged_value(store: Store) -> None:
    """Get and pop give the bytes, never the default, for who saves that would destroy them; == compares the bytes."""
    store.put_bytes("a", CUT_ARRAY)
    assert store.get("a") == store.get("a", []) == CUT_ARRAY
    other = persistkit.open("memory:")
    other.put_bytes("a", CUT_ARRAY)
    assert store == other == store
    other.put_bytes("a", CUT_ARRAY[:-1])
    assert store != other
    assert store.pop("a", None) == CUT_ARRAY
    assert len(store) == 0
    store.put_bytes("b", CUT_ARRAY)
    assert store.popitem() == ("b", CUT_ARRAY)
    with pytest.raises(KeyError):
        store.popitem()


def test_stores_and_dicts_are_equal_when_their_values_are(store: Store) -> None:
    """Arrays, tables, NaN and the order of a dict's keys do not stand in the way; a store has no hash."""
    table = pd.DataFrame({"loss": [0.5, None]})
    values = {"a": {"x": 1, "y": 2}, "b": np.arange(3), "c": table, "d": np.array([np.nan, 1])}
    store.update(values)
    assert store == {**values, "a": {"y": 2, "x": 1}}
    assert persistkit.open("memory:") == {} != store
    assert store != {**values, "b": np.arange(4)}
    assert store != {**values, "a": print}
    assert store != 3
    assert (np.arange(3) in store.values(), np.arange(2) in store.values()) == (True, False)
    with pytest.raises(TypeError, match="unhashable"):
        hash(store)


def test_items_and_values_read_in_batches_and_leave_out_what_is_gone() -> None:
    """A key deleted after the listing is left out; the engine is asked for batches, neither for one key nor for all."""
    asked: list[int] = []

    class Counting(DictEngine):
        def _batch_load(self, keys: list[str]) -> list[bytes | None]:
            asked.append(len(keys))
            return [self.stored.get(key) for key in keys]

        def _load(self, key: str) -> bytes | None:
            raise AssertionError(f"{key} was asked for alone")

    store = Store(Counting())
    store.update({f"n:{n:04}": n for n in range(1_000)})
    items = iter(store.items())
    assert next(items) == ("n:0000", 0)
    del store.engine.stored["n:0999"]  # type: ignore[attr-defined]
    assert [value for _, value in items] == list(range(1, 999)) == list(store.values())[1:]
    assert (len(store.items()), len(store.values())) == (999, 999)
    assert 1 < max(asked) <= 200


def test_reading_all_values_keeps_few_large_ones_in_memory() -> None:
    """Where values are large the batches are as many of them as make 32 MiB, and grow again where they are small."""
    asked: list[int] = []

    class Counting(DictEngine):
        def _batch_load(self, keys: list[str]) -> list[bytes | None]:
            asked.append(max(len(self.stored[key]) for key in keys) * len(keys))
            return super()._batch_load(keys)

    engine = Counting()
    large = bytes(4 * 1024 * 1024) + b"\xff"
    engine.stored |= {f"b:{n:03}": large for n in range(300)} | {f"{c}:{n:03}": b"1" for c in "ac" for n in range(300)}
    assert sum(1 for _ in Store(engine).items()) == 900
    assert sum(size > 32 * 1024 * 1024 for size in asked) <= 2  # where small values end and large ones begin
    assert asked[-2] >= 64


def test_the_other_keys_of_a_filename_are_told(tmp_path: Path) -> None:
    """Where the Rust runtime stored ``a?>``, the table marks the guess, and alternatives gives the true key."""
    (tmp_path / "a__-000000000b8857e3.bin").write_bytes(b"value")
    store = persistkit.open(tmp_path, read_only=True)
    frame = store.to_frame()
    assert frame[["key", "ambiguous"]].values.tolist() == [["a>_", True]]
    assert (store.alternatives("a>_"), store.alternatives("run/1")) == (["a?>"], [])
    assert store["a?>"] == "value"


def test_the_table_can_name_formats(store: Store) -> None:
    """Every value's format is a column where it is asked for."""
    store.update({"a:1": 1, "a:2": np.zeros(1), "b": b"\xff"})
    frame = store.to_frame(formats=True)
    assert dict(zip(frame["key"], frame["format"], strict=True)) == {"a:1": "json", "a:2": "npy", "b": "bytes"}


def test_browse_shows_the_store_and_deletes_only_where_the_store_may() -> None:
    """The browser shows the store's keys, copies ``store[...]``, and never deletes from a store opened read only."""
    engine = MemoryEngine()
    Store(engine).update({"run/1": 1, "run/2": 2})
    browser = Store(engine).browse()
    assert browser.wait(timeout_seconds=30)
    assert "2 keys" in repr(browser)
    answer, _ = browser.handle({"op": "select", "view": 1, "id": 1, "revision": 1, "row": 0})
    assert (browser.read_only, answer["details"]["line"]) == (True, "store['run/1']")
    assert not Store(engine).browse(read_only=False).read_only
    assert Store(engine, read_only=True).browse(read_only=False).read_only


def test_file_urls_are_percent_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``file:`` URL, of one slash or three, leads to the same directory as its path, blanks and all."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "my results"
    persistkit.open(place, create=True)["k"] = 1
    for url in (place.as_uri(), place.as_uri().replace("///", "/")):
        assert persistkit.open(url, create=True)["k"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["my results"]


def test_read_only_refuses_every_write_on_every_path(tmp_path: Path) -> None:
    """No write gets through a read-only store: not typed, not by its engine, not by a copy or another store on it."""
    persistkit.open(tmp_path)["k"] = 1
    with pytest.raises(ValueError, match="opened read only is not made"):
        persistkit.open(tmp_path / "new", create=True, read_only=True)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir())
    store = persistkit.open(tmp_path, read_only=True)
    assert (store.read_only, repr(store)) == (True, f"Store({str(tmp_path)!r}, read_only=True)")
    engine: Any = store.engine
    writes: list[Callable[[], object]] = [
        lambda: store.update({"k": 2}),
        lambda: store.__setitem__("k", 2),
        lambda: store.__delitem__("k"),
        lambda: store.__delitem__("absent"),
        lambda: store.put_bytes("k", b"x"),
        lambda: store.pop("k"),
        lambda: store.pop("absent", None),
        lambda: store.setdefault("absent", 1),
        lambda: store.update({}),
        lambda: store.__setitem__("k", print),
        store.popitem,
        store.clear,
        lambda: store.add("absent", 1),
        lambda: store.modify("absent", print, 1),
        lambda: store.__ior__({"k": 2}),
        lambda: store.rename("k", "absent"),
        lambda: store.move("k", "absent"),
        lambda: store.prune(keep_last=0, dry_run=False),
        lambda: engine.save("k", b"x"),
        lambda: engine.delete("k"),
        lambda: engine.batch_save({"k": b"x"}),
        lambda: engine.batch_delete(["k"]),
        lambda: engine.add("new", b"x"),
        lambda: engine.replace("k", b"x", b"1"),
        lambda: engine.rename("k", "absent"),
        lambda: engine.open_writer("k").__enter__().write(b"x"),
        lambda: engine.check(repair=True),
        lambda: Store(engine).put_bytes("k", b"x"),
        lambda: Store(FileEngine(tmp_path), read_only=True).put_bytes("k", b"x"),
        lambda: pickle.loads(pickle.dumps(store)).put_bytes("k", b"x"),  # noqa: S301 - our own
        lambda: copy.deepcopy(store).put_bytes("k", b"x"),
        lambda: persistkit.open("memory:").copy_to(store, progress=False),
    ]
    for write in writes:
        with pytest.raises(ReadOnlyError, match="read only"):
            write()
    assert (store["k"], store.setdefault("k", 2)) == (1, 1)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir()) == before


def test_the_sample_directory_opens() -> None:
    """Every JSON value of the directory the Rust runtime wrote loads as json reads it."""
    store = persistkit.open(Path(__file__).parent / "data" / "agent-state", read_only=True)
    assert len(store) == 174
    for key, value in store.load_many(store.keys("session:")).items():
        assert value == json.loads(store.get_bytes(key))
