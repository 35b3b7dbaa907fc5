"""The store: a mapping of typed values, its tables, its reprs, and read only."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import re
import shutil
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import persistkit
from persistkit import Entry, FilePersistenceBackend, MemoryPersistenceBackend, PersistenceBackend, Store
from persistkit.blocking import BlockingBackend
from persistkit.card import card
from persistkit.errors import FormatError, MissingKeyError, ReadOnlyError, StorageError
from persistkit.frames import findings_frame
from persistkit.operations import BytesLike
from persistkit.progress import SHOWN_AFTER_SECONDS


class NoListing(PersistenceBackend):
    """A user's own backend of three methods: it cannot list."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    async def save(self, key: str, value: BytesLike) -> None:
        """Keep the value."""
        self._values[key] = bytes(value)

    async def load(self, key: str) -> bytes | None:
        """Give the value back."""
        return self._values.get(key)

    async def delete(self, key: str) -> None:
        """Forget the value."""
        self._values.pop(key, None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in a directory."""
    return persistkit.open(tmp_path / "results", create=True, fsync=False)


def raw(store: Store, key: str) -> bytes:
    """Return the very file of a key."""
    backend = store.backend
    assert isinstance(backend, FilePersistenceBackend)
    return backend.path_for(key).read_bytes()


def test_values_are_there_when_the_store_is_opened_again(tmp_path: Path) -> None:
    """A dict, an array and a DataFrame come back equal from another store on the same directory."""
    frame = pd.DataFrame({"loss": [0.5, 0.25]}, index=pd.Index([1, 2], name="epoch"))
    with persistkit.open(tmp_path / "new", create=True) as first:
        first["run/1"] = {"loss": 0.25}
        first["run/1/weights"] = np.arange(3)
        first["run/1/history"] = frame
    with persistkit.open(tmp_path / "new") as second:
        assert second["run/1"] == {"loss": 0.25}
        assert second["run/1/weights"].tolist() == [0, 1, 2]
        pd.testing.assert_frame_equal(second["run/1/history"], frame)
        assert raw(second, "run/1") == b'{"loss":0.25}'


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


def test_a_missing_key_names_itself_and_a_near_one(store: Store) -> None:
    """KeyError names the key and suggests the one that was meant, for reading and for deleting."""
    store["session:1"] = 1
    with pytest.raises(KeyError, match=r"sesion:1.*did you mean 'session:1'"):
        store["sesion:1"]
    with pytest.raises(KeyError, match="sesion:1"):
        del store["sesion:1"]


def test_a_miss_lists_nothing(tmp_path: Path) -> None:
    """Asking for what is not there costs no listing: a near key is looked for when the error is shown."""
    store = Store(NoListing())
    store["run/1"] = 1
    assert (store.get("run/2"), store.get("run/2", 5), store.pop("run/2", 6), "run/2" in store) == (None, 5, 6, False)
    for ask in (lambda: store["run/2"], lambda: store.__delitem__("run/2"), lambda: store.load_many(["run/2"])):
        with pytest.raises(KeyError, match=r"^run/2: not in this store; keys\(\) lists what is there$") as caught:
            ask()
        assert caught.value.args == ("run/2",)
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), MissingKeyError)  # noqa: S301 - our own
    gone = persistkit.open(tmp_path / "gone", create=True)
    gone["run/1"] = 1
    with pytest.raises(KeyError) as caught:
        gone["run/2"]
    shutil.rmtree(tmp_path / "gone")
    assert "run/2: not in this store" in str(caught.value)


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


def test_a_loaded_array_is_the_callers_own_whatever_the_backend_keeps() -> None:
    """A backend that keeps and gives the very buffer it was handed does not see what is done to a loaded array."""

    class Keeping(NoListing):
        async def save(self, key: str, value: BytesLike) -> None:
            self._values[key] = value  # type: ignore[assignment]

    store = Store(Keeping())
    store["array"] = np.arange(3)
    for loaded in (store["array"], store.load_many(["array"])["array"]):
        loaded[:] = 7
        assert store["array"].tolist() == [0, 1, 2]


def test_glob_crosses_separators_and_minds_case(store: Store) -> None:
    """``*`` matches across ``/`` and ``:``, and letters match only themselves."""
    store.update(dict.fromkeys(["run/1:a", "run/2:b", "Run/3"], 0))
    assert store.glob("run*") == ["run/1:a", "run/2:b"]
    assert store.glob("*[13]*") == ["Run/3", "run/1:a"]


def test_many_values_go_and_come_in_batches(store: Store) -> None:
    """Batches store and load every value, those past the first batch too."""
    values = {f"n:{n:04}": n for n in range(1201)}
    store.update(values)
    assert len(store) == 1201
    assert store.load_many(reversed(list(values))) == values
    with pytest.raises(KeyError, match="n:9999"):
        store.load_many(["n:0000", "n:9999"])


def test_update_takes_what_a_dict_takes_a_batch_at_a_time(store: Store) -> None:
    """Mappings, pairs, things with keys and named values go in; a generator is stored while it still makes values."""

    class Keyed:
        def keys(self) -> list[str]:
            return ["keyed"]

        def __getitem__(self, key: str) -> str:
            return key.upper()

    def pairs() -> Iterator[tuple[str, int]]:
        for n in range(2_000):
            yield f"n:{n % 1_500:04}", n
        stored.append(len(store.keys("n:")))

    stored: list[int] = []
    store.update({"mapping": 1})
    store.update(Keyed(), named=2)
    store.update(pairs())
    assert 1_000 < stored[0] <= 1_500
    assert (store["mapping"], store["keyed"], store["named"], store["n:0001"]) == (1, "KEYED", 2, 1501)
    with pytest.raises(FormatError, match="store 'bad'"):
        store.update({"good": 1, "bad": {1, 2}})
    assert "good" not in store


def test_load_many_takes_keys_twice_and_refuses_one_text(store: Store) -> None:
    """A repeated key is loaded once; one text is not taken for its letters."""
    store["a"] = 1
    assert store.load_many(["a", "a"]) == {"a": 1}
    with pytest.raises(TypeError, match="several keys"):
        store.load_many("a")


def test_a_bar_shows_when_it_takes_long(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Quick work is silent, however many keys; slow work shows how far it is, however few, and cleans up."""
    values = {f"n:{n:04}": n for n in range(700)}
    assert SHOWN_AFTER_SECONDS == 1.0
    monkeypatch.setattr("persistkit.progress.SHOWN_AFTER_SECONDS", 60.0)  # a loaded disk takes seconds for this
    store.update(values)
    store.load_many(values)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("persistkit.progress.SHOWN_AFTER_SECONDS", 0.0)
    store.update(values)
    assert "storing:" in (shown := capsys.readouterr().err)
    assert "/700" in shown
    store.load_many(list(values)[:70])
    assert re.search(r"loading: +91%.* 64/70", shown := capsys.readouterr().err)
    assert shown.endswith("\r")


def test_bytes_are_exact(store: Store) -> None:
    """put_bytes and get_bytes keep what would load as something else, and damage stays readable as bytes."""
    store.put_bytes("k", b'{"a":')
    assert (store.get_bytes("k"), raw(store, "k")) == (b'{"a":', b'{"a":')
    with pytest.raises(FormatError, match=r"load 'k': damaged json.*get_bytes"):
        store["k"]
    with pytest.raises(FormatError, match=r"store 'j': \$\.a: JSON has no nan"):
        store["j"] = {"a": float("nan")}
    assert "j" not in store
    assert store.format_of("k") == "damaged json"


def test_works_inside_a_running_loop(store: Store) -> None:
    """In a notebook an event loop runs already; the store works there."""

    async def cell() -> Any:
        store["k"] = 1
        return store["k"]

    assert asyncio.run(cell()) == 1


def test_to_frame_filters_and_names_formats(store: Store) -> None:
    """The table filters by prefix and glob and can name every value's format."""
    store.update({"a:1": 1, "a:2": np.zeros(1), "b": b"\xff"})
    frame = store.to_frame(formats=True)
    assert dict(zip(frame["key"], frame["format"], strict=True)) == {"a:1": "json", "a:2": "npy", "b": "bytes"}
    assert store.to_frame(prefix="a")["key"].tolist() == ["a:1", "a:2"]
    assert store.to_frame(glob="*2")["key"].tolist() == ["a:2"]


def test_values_frame_flattens_and_reports_what_it_left_out(store: Store) -> None:
    """Objects become rows with dotted columns; damaged and other values are named with their reason."""
    store.update({"r1": {"loss": 0.5, "data": {"split": {"test": 1}}}, "r2": {"loss": 0.25, "tags": ["x"]}, "r3": [1]})
    store.put_bytes("r4", b'{"loss":')
    store.put_bytes("r5", b'{"t":"\\ud800"}')
    store.put_bytes("r6", b'{"a.b":1,"a":{"b":2}}')
    frame = store.values_frame("r*")
    assert frame.index.tolist() == ["r1", "r2", "r5"]
    assert list(frame.columns) == ["loss", "data.split.test", "tags", "t"]
    assert frame["loss"].tolist()[:2] == [0.5, 0.25]
    assert set(frame.attrs["skipped"]) == {"r3", "r4", "r6"}
    assert "damaged" in frame.attrs["skipped"]["r4"]


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        ([1, 2], "int64"),
        ([2**53 + 1, None], "Int64"),
        ([2**63 - 1, ...], "Int64"),
        ([..., -(2**63), 2**63], "object"),
        ([2**64 - 1, None], "object"),
        ([10**400, None], "object"),
        ([True, ..., False], "boolean"),
        ([1, 0.5, None], "float64"),
        ([2**53 + 1, 0.5], "object"),
        ([0.5, ...], "float64"),
        (["x", None], "str"),
        (["x", 1], "object"),
        ([1, True], "object"),
        ([[1], ...], "object"),
        ([None, ...], "object"),
    ],
)
def test_values_frame_alters_no_cell(store: Store, cells: list[Any], dtype: str) -> None:
    """Whatever a column holds and lacks, each cell equals what json reads; a gap (here ...) and null are missing."""
    rows = {f"r{n}": {"row": n} if cell is ... else {"row": n, "a": cell} for n, cell in enumerate(cells)}
    store.update(rows)
    frame = store.values_frame()
    assert frame["a"].dtype == dtype
    for key, cell in frame["a"].items():
        expected = json.loads(raw(store, str(key))).get("a")
        assert pd.isna(cell) if expected is None else cell == expected


def test_values_frame_keeps_columns_whose_names_look_alike(store: Store) -> None:
    """A name that pandas cannot hold is shown escaped, beside the one that reads the same."""
    store.put_bytes("r", rb'{"\ud800":1,"\\ud800":2}')
    frame = store.values_frame()
    assert (frame.columns.tolist(), frame.values.tolist()) == (["\\ud800", "\\ud800"], [[1, 2]])


def test_values_frame_is_bounded(store: Store) -> None:
    """Names that are data make no table: too wide, too empty or too long, they are left out and the reason is said."""
    store["a"] = {f"column {n}": n for n in range(9_000)}
    store["b"] = {f"other {n}": n for n in range(2_000)}
    store["c"] = {"x" * 600: {"y" * 600: 1}}
    store.update({f"d{n:04}": {"column 1": n} for n in range(2_000)})
    frame = store.values_frame()
    assert frame.shape[1] == 9_000
    assert "11,000 columns" in frame.attrs["skipped"]["b"]
    assert "1,201 characters" in frame.attrs["skipped"]["c"]
    assert "empty but for" in frame.attrs["skipped"]["d1999"]
    assert len(frame) + len(frame.attrs["skipped"]) == 2_003
    assert store.values_frame("d*").shape == (2_000, 1)


def test_values_frame_of_nothing_is_empty(store: Store) -> None:
    """No value gives an empty table with its report."""
    frame = store.values_frame("x*")
    assert (len(frame), frame.attrs["skipped"], frame.index.name) == (0, {}, "key")


def test_usage_sums_by_prefix(store: Store) -> None:
    """Sizes and counts are summed by the first parts of the key, a key of fewer parts for itself."""
    for key in ["a:1", "a:2/x", "b/1", "c"]:
        store.put_bytes(key, b"1234" if key == "b/1" else b"1")
    rows = store.usage().values.tolist()
    assert rows == [["b/", 1, 4], ["a:", 2, 2], ["c", 1, 1]]
    assert store.usage(depth=2)["prefix"].tolist() == ["b/1", "a:1", "a:2/", "c"]
    with pytest.raises(ValueError, match="depth"):
        store.usage(depth=0)


def test_reprs_are_stable_escaped_and_bounded(store: Store) -> None:
    """The line and the card name the place; keys cannot inject HTML; many keys give no larger card."""
    assert repr(store) == f"Store({store.address!r})"
    store["<script>alert(1)</script>"] = 1
    html = store._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    backend = MemoryPersistenceBackend()
    BlockingBackend(backend).batch_save({f"key:{n}": b"1" for n in range(20_000)})
    tracemalloc.start()
    large = Store(backend)._repr_html_()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(large) < 5_000
    assert "20,000 keys" in large
    assert peak < 4_000_000


def test_the_card_of_a_million_keys_is_as_small_as_that_of_ten() -> None:
    """A million entries are counted in one pass, and eight of them shown."""
    moment = datetime(2026, 3, 18, 10, 2, 4, tzinfo=UTC)
    some = [Entry(f"run:{n}", 1024, moment, f"run_{n}-{n:016x}.bin") for n in range(1_000)]
    html = card("results", chain.from_iterable(repeat(some, 1_000)), 8, seconds=600)
    assert len(html) < 3_000
    assert "1,000,000 keys, 976.6 MiB, newest change 2026-03-18 10:02:04 UTC" in html
    assert "… and 999,992 more" in html


def test_the_card_of_a_store_without_end_comes_in_time_and_says_what_it_has_seen() -> None:
    """Nobody waits for millions of keys to be counted: after its seconds the card is there, and says it is partial."""
    html = card("results", repeat(Entry("run:1", 1024, None, "")), 8, seconds=0.01)
    assert re.search(r"at least [\d,]+000 keys, .* counted for 0.01 seconds; len\(store\) counts all", html)
    assert re.search(r"… and at least [\d,]+992 more", html)


def test_the_card_escapes_whatever_a_key_or_an_address_holds() -> None:
    """Markup, quotes, controls, direction overrides, lone surrogates and long keys cannot leave their place."""
    keys = ["<img src=x onerror=alert(1)>", "\"'&", "\u202etxt.exe", "\x1b[31m", "\udcff", "x" * 1_000, ""]
    entries = [Entry(key, 1, None, "") for key in keys] + [Entry(None, 1, None, "<b>-0.bin")]
    html = card("<i>results</i>", entries, 20)
    assert not re.search("<img|<i>|<b>|\u202e|\x1b|\udcff|x{100}", html)
    assert "<em>(empty key)</em>" in html
    assert "&lt;b&gt;-0.bin (key not known)" in html
    html.encode()


def test_the_card_of_what_cannot_be_listed_says_why(tmp_path: Path) -> None:
    """A store that is gone, or cannot list, has a card with the reason instead of a traceback."""
    store = persistkit.open(tmp_path / "a<b", create=True)
    shutil.rmtree(tmp_path / "a<b")
    assert re.search("a&lt;b.*the directory does not exist", store._repr_html_())
    assert "NoListing cannot list its keys" in Store(NoListing())._repr_html_()


def test_browse_shows_the_store_and_deletes_only_where_the_store_may() -> None:
    """The browser shows the store's keys, copies ``store[...]``, and never deletes from a store opened read only."""
    backend = MemoryPersistenceBackend()
    Store(backend).update({"run/1": 1, "run/2": 2})
    browser = Store(backend).browse()
    assert browser.wait(timeout_seconds=30)
    assert "2 keys" in repr(browser)
    answer, _ = browser.handle({"op": "select", "view": 1, "id": 1, "revision": 1, "row": 0})
    assert (browser.read_only, answer["details"]["line"]) == (True, "store['run/1']")
    assert not Store(backend).browse(read_only=False).read_only
    assert Store(backend, read_only=True).browse(read_only=False).read_only


def test_a_mistyped_path_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Opening what is not there names it, a near neighbour and the way to make it; nothing is made."""
    (tmp_path / "results").mkdir()
    with pytest.raises(StorageError, match=r"does not exist.*there is 'results'.*create=True"):
        persistkit.open(tmp_path / "reslts")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    with pytest.raises(StorageError, match=r"file:.*memory:"):
        persistkit.open("rediss3://host")


def test_file_urls_are_percent_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``file:`` URL, of one slash or three, leads to the same directory as its path, blanks and all."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "my results"
    persistkit.open(place, create=True)["k"] = 1
    for url in (place.as_uri(), place.as_uri().replace("///", "/")):
        assert persistkit.open(url, create=True)["k"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["my results"]


def test_read_only_refuses_every_write_on_every_path(tmp_path: Path) -> None:
    """No write gets through a read-only store: not typed, not by its backend, not by the blocking core."""
    persistkit.open(tmp_path)["k"] = 1
    with pytest.raises(ValueError, match="opened read only is not made"):
        persistkit.open(tmp_path / "new", create=True, read_only=True)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir())
    store = persistkit.open(tmp_path, read_only=True)
    backend, blocking = store.backend, BlockingBackend(store.backend)
    core: Any = backend.blocking_core

    async def write_chunks() -> None:
        async with backend.open_writer("k") as writer:
            await writer.write(b"x")

    def write_chunks_blocking() -> None:
        with blocking.open_writer("k") as writer:
            writer.write(b"x")

    writes: list[Any] = [
        lambda: store.update({"k": 2}),
        lambda: store.__setitem__("k", 2),
        lambda: store.__delitem__("k"),
        lambda: store.__delitem__("absent"),
        lambda: store.put_bytes("k", b"x"),
        lambda: store.pop("k"),
        lambda: store.pop("absent", None),
        lambda: store.setdefault("absent", 1),
        lambda: store.update({}),
        lambda: store.__setitem__("k", {1, 2}),
        store.popitem,
        store.clear,
        lambda: asyncio.run(backend.save("k", b"x")),
        lambda: asyncio.run(backend.delete("k")),
        lambda: asyncio.run(backend.batch_save({"k": b"x"})),
        lambda: asyncio.run(backend.batch_delete(["k"])),
        lambda: asyncio.run(write_chunks()),
        lambda: asyncio.run(backend.check(repair=True)),  # type: ignore[attr-defined]
        write_chunks_blocking,
        lambda: blocking.save("k", b"x"),
        lambda: core.save("k", b"x"),
        lambda: core.check(True),
        lambda: Store(backend).put_bytes("k", b"x"),
        lambda: pickle.loads(pickle.dumps(store)).put_bytes("k", b"x"),  # noqa: S301 - our own
        lambda: copy.deepcopy(store).put_bytes("k", b"x"),
        lambda: persistkit.open("memory:").copy_to(store, progress=False),
    ]
    for write in writes:
        with pytest.raises(ReadOnlyError, match="read only"):
            write()
    assert (store["k"], store.setdefault("k", 2)) == (1, 1)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir()) == before


def test_findings_become_a_table(tmp_path: Path) -> None:
    """What ``check`` finds is a table of pinned dtypes, empty or not, also through a read-only store."""
    (tmp_path / ".persistkit-00000000000000000000000000000000.tmp").write_bytes(b"x")
    store = persistkit.open(tmp_path, read_only=True)
    found = asyncio.run(store.backend.check())  # type: ignore[attr-defined]
    frame = findings_frame(found)
    assert len(frame) == len(found)
    assert frame.dtypes.astype(str).to_dict() == findings_frame([]).dtypes.astype(str).to_dict()


def test_the_sample_directory_opens() -> None:
    """Every JSON value of the directory the Rust runtime wrote loads as json reads it."""
    store = persistkit.open(Path(__file__).parent.parent / "notebooks" / "data" / "agent-state", read_only=True)
    assert len(store) == 174
    for key, value in store.load_many(store.keys("session:")).items():
        assert value == json.loads(store.get_bytes(key))
