"""Tables of what an engine holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dict_engine import Listing

import persistkit
from persistkit import Entry, Store, to_frame
from persistkit.engines.memory import MemoryEngine
from persistkit.errors import FormatError
from persistkit.frames import entries_frame, findings_frame
from persistkit.keys import filename_for

TEXT = str(pd.Series(["a"]).dtype)  # what this version of pandas makes of text
DTYPES = {
    "key": TEXT,
    "size": "int64",
    "modified": "datetime64[us, UTC]",
    "filename": TEXT,
    "hash": TEXT,
    "ambiguous": "bool",
}
MOMENT = datetime(2026, 3, 18, 10, 2, 4, 462001, tzinfo=UTC)


def test_one_row_per_stored_value_sorted_by_key() -> None:
    """Every value is one row with its true key, size, time, filename and hash, sorted by key."""
    engine = MemoryEngine()
    engine.batch_save({"b": b"12", "a/b": b"12345", "": b""})
    frame = to_frame(engine)
    assert frame["key"].tolist() == ["", "a/b", "b"]
    assert frame["size"].tolist() == [0, 5, 2]
    assert frame["filename"].tolist()[1] == "a_b-000000000b8855f7.bin"
    assert frame["hash"].tolist() == [filename_for(key)[-20:-4] for key in ["", "a/b", "b"]]
    assert abs(frame["modified"][0] - pd.Timestamp.now("UTC")) < pd.Timedelta(seconds=60)
    assert not frame["ambiguous"].any()
    assert to_frame(Store(engine)).equals(frame)
    assert to_frame(persistkit.EngineBackend(engine)).equals(frame)


def test_what_is_not_known_is_missing() -> None:
    """A missing key, after all known ones, or time changes no dtype, and neither does it when there is no row."""
    named = Entry("z", 1, MOMENT, "z-000000000002b61f.bin")
    unknown = Entry(None, 7, None, "_-00000000000000ff.bin")
    frame = to_frame(Listing(unknown, named))
    assert frame["key"].isna().tolist() == frame["modified"].isna().tolist() == [False, True]
    assert frame["hash"].tolist() == ["000000000002b61f", "00000000000000ff"]
    assert frame["modified"][0] == pd.Timestamp(MOMENT)
    for entries in ([], [named], [unknown, named]):
        assert to_frame(Listing(*entries)).dtypes.astype(str).to_dict() == DTYPES


ODD_SIZES = [(-1, 0), (2**63, 2**63 - 1), (10**400, 2**63 - 1), (None, 0), ("12", 0), (float("nan"), 0)]
ODD_TIMES = [
    (datetime(2026, 3, 18, 10, 2, 4, 462001), pd.Timestamp(MOMENT)),
    (MOMENT.astimezone(timezone(timedelta(hours=-9))), pd.Timestamp(MOMENT)),
    (datetime.max.replace(tzinfo=timezone(timedelta(hours=-9))), None),
    (datetime.min.replace(tzinfo=timezone(timedelta(hours=9))), None),
    ("yesterday", None),
]


@pytest.mark.parametrize(("size", "shown"), ODD_SIZES, ids=repr)
def test_odd_sizes_break_no_table(size: Any, shown: int) -> None:
    """A size that cannot be is shown as the nearest that can, or 0, beside healthy ones; sums work too."""
    entries = [Entry("odd", size, MOMENT), Entry("z", 5, MOMENT)]
    frame = entries_frame(entries)
    assert (frame["size"].tolist(), str(frame["size"].dtype)) == ([shown, 5], "int64")
    usage = Store(Listing(*entries)).usage()
    assert dict(zip(usage["prefix"], usage["size"], strict=True)) == {"odd": shown, "z": 5}


@pytest.mark.parametrize(("modified", "shown"), ODD_TIMES, ids=repr)
def test_odd_times_break_no_table(modified: Any, shown: pd.Timestamp | None) -> None:
    """A time of another zone, of none, or out of the calendar is shown in UTC or is missing, beside healthy ones."""
    for others in ([], [Entry("a", 5, MOMENT)], [Entry("a", 5, MOMENT), Entry("b", 5, None)]):
        frame = entries_frame([*others, Entry("odd", 1, modified)])
        assert frame.dtypes.astype(str).to_dict() == DTYPES
        found: Any = frame.set_index("key").loc["odd", "modified"]
        assert pd.isna(found) if shown is None else found == shown


def test_a_filename_that_is_not_utf8_is_shown_escaped() -> None:
    """A name on disk with bytes that are no UTF-8 is a row like any other, its odd bytes escaped."""
    frame = entries_frame([Entry(None, 1, MOMENT, "\udcff-00000000000000ff.bin")])
    assert frame["filename"].tolist() == ["\\udcff-00000000000000ff.bin"]


def test_values_frame_flattens_and_reports_what_it_left_out(store: Store) -> None:
    """Objects become rows with dotted columns; all other values are named with their reason."""
    store.update({"r1": {"loss": 0.5, "data": {"split": {"test": 1}}}, "r2": {"loss": 0.25, "tags": ["x"]}, "r3": [1]})
    store.put_bytes("r4", b'{"loss":')
    store.put_bytes("r5", b'{"t":"\\ud800"}')
    store.put_bytes("r6", b'{"a.b":1,"a":{"b":2}}')
    frame = store.values_frame("r*")
    assert frame.index.tolist() == ["r1", "r2", "r5"]
    assert list(frame.columns) == ["loss", "data.split.test", "tags", "t"]
    assert frame["loss"].tolist()[:2] == [0.5, 0.25]
    assert set(frame.attrs["skipped"]) == {"r3", "r4", "r6"}
    assert frame.attrs["skipped"]["r4"] == "no JSON object, but text"


def test_values_frame_raises_or_gives_the_bytes_when_asked_to(store: Store) -> None:
    """What is no JSON object stops the table with its key, or is a row with its bytes, as asked."""
    store.update({"r1": {"loss": 0.5}, "r2": "text"})
    with pytest.raises(FormatError, match=r"load 'r2' as a row: no JSON object, but text"):
        store.values_frame("r*", errors="raise")
    frame = store.values_frame(errors="bytes")
    assert frame["bytes"].tolist()[1] == b"text"
    assert (frame["loss"].tolist()[0], frame.attrs["skipped"]) == (0.5, {})


def test_names_that_are_not_text_are_columns_as_text(store: Store) -> None:
    """Objects whose keys are numbers or times make columns too, and what JSON has no word for is a cell."""
    store.update({"r1": {1: "a", "by": {(2, 3): 0.5}}, "r2": {"at": pd.Timestamp(0), "where": Path("a")}})
    frame = store.values_frame()
    assert list(frame.columns) == ["1", "by.(2, 3)", "at", "where"]
    assert frame["where"].tolist()[1] == Path("a")
    assert frame.attrs["skipped"] == {}
    store["frame"] = frame
    pd.testing.assert_frame_equal(store["frame"], frame)


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
        (["x", None], TEXT),
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
        expected = json.loads(store.get_bytes(str(key))).get("a")
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


def test_findings_become_a_table(tmp_path: Path) -> None:
    """What ``check`` finds is a table of pinned dtypes, empty or not, also through a read-only store."""
    (tmp_path / ".persistkit-00000000000000000000000000000000.tmp").write_bytes(b"x")
    store = persistkit.open(tmp_path, read_only=True)
    found = store.engine.check()  # type: ignore[attr-defined]  # files have one
    frame = findings_frame(found)
    assert len(frame) == len(found)
    assert frame.dtypes.astype(str).to_dict() == findings_frame([]).dtypes.astype(str).to_dict()


def test_snapshots_among_sessions_are_told(store: Store) -> None:
    """A table that has sessions and their snapshots says so; one of either alone, or of other keys, does not."""
    store.update({"session:1": {"n": 2}, "session:1:step:1": {"n": 1}, "session:1:step:2": {"n": 2}, "session:2": {}})
    note = store.values_frame("session:*").attrs["note"]
    assert note.startswith("2 of these 4 rows are snapshots of sessions that have a row too")
    for pattern in ("session:*:step:*", "session:?"):
        assert "note" not in store.values_frame(pattern).attrs
