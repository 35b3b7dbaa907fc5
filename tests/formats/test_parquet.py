"""Tables come back equal, labels, dtypes and cells included, or are refused."""

from __future__ import annotations

import io
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import dateutil.tz  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from described import described
from faults.parquet import written
from hypothesis import assume, given
from hypothesis import strategies as st

from persistkit.errors import FormatError
from persistkit.formats import decode, encode


class Text(str):
    """Text that is more than text."""


def table(**columns: object) -> pd.DataFrame:
    """Return a DataFrame of the given columns."""
    return pd.DataFrame(columns)


def noted(frame: pd.DataFrame, **attrs: object) -> pd.DataFrame:
    """Return a DataFrame with attributes."""
    frame.attrs.update(attrs)
    return frame


def indexed(*values: object, **options: Any) -> pd.DataFrame:
    """Return a DataFrame over an index of the given values."""
    return pd.DataFrame({"a": range(len(values))}, index=pd.Index(values, **options))


REFUSED: list[tuple[object, str]] = [
    (table(a=[1, {"x": object()}]), r"^\$\.a\[1\]\.x: object is not kept; store text"),
    (table(a=pd.Series(["x", pd.NA, 1], dtype=object)), r"^\$\.a\[1\]: .*store None"),
    (table(a=[Text("x"), 1]), r"^\$\.a\[0\]: .*store str"),
    (pd.DataFrame([[1]], columns=pd.Index([object()], dtype=object)), r"^\$\.columns\.values\[0\]: object is not kept"),
    (table(a=np.array([1], "c16")), "Parquet"),
    (table(a=pd.arrays.SparseArray([0, 1])), "Parquet"),
    (table(a=pd.Series([0], dtype=pd.ArrowDtype(pa.time32("s")))), r"\$\.a: its cells"),
    (table(a=pd.array([0], "timestamp[s][pyarrow]")), r"\$\.a: its cells"),
    (pd.DataFrame([1, 2], index=pd.MultiIndex.from_arrays([[1, None], [1, 2]])), r"\$\.index"),
    (pd.DataFrame([1], index=pd.RangeIndex(1, name=Text("x"))), r"\$\.index\.names\[0\]: .*Text is not kept"),
    (pd.DataFrame([1], columns=pd.Index(["a"], name=Text("x"))), r"\$\.columns\.names\[0\]: .*Text is not kept"),
    (pd.Series([1], name=pd.Timestamp("2026-01-01", tz=dateutil.tz.tzoffset(None, 3600))), "time zone"),
    (noted(table(a=[1]), x={"y": Text("z")}), r"\$\.attrs\.x\.y: .*Text is not kept"),
    (table(a=[1]).set_flags(allows_duplicate_labels=False), "allows_duplicate_labels"),
]

FRAMES = [
    table(),
    pd.DataFrame(columns=["a", "b"]),
    pd.DataFrame(index=[1, 2, 3]),
    pd.DataFrame(index=pd.RangeIndex(1, 7, 2, name=("x", 1)), columns=pd.Index([], dtype=object, name=3)),
    table(a=[1, 2], b=["x", None], c=[1.5, np.nan], d=[True, False]),
    table(a=pd.Categorical(["x", "y"], categories=["z", "y", "x"], ordered=True)),
    table(a=pd.date_range("2026", periods=2, tz="Europe/Berlin"), b=pd.timedelta_range("1D", periods=2)),
    table(a=pd.period_range("2026", periods=2, freq="M"), b=pd.interval_range(0, 2)),
    table(a=pd.array([1, None], dtype="Int64"), b=pd.array([True, None], dtype="boolean")),
    table(a=[b"1", b"2"]),
    pd.DataFrame([[1, 2]], columns=[0, 1]),
    pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")], names=["x", None])),
    pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None])),
    pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "x"], name="a")),
    pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(10, 14, 2, name="r")),
    pd.DataFrame({"__index_level_0__": [1, 2]}, index=[3, 4]),
    # Categories of any kind, with gaps, unused ones and none at all
    table(a=pd.Categorical([3, None, 1], categories=[3, 2, 1], ordered=True), b=[1, 2, 3]),
    table(a=pd.cut(pd.Series([1, 2, 9]), 2), b=pd.Series(np.array([3, "NaT", 1], "M8[ms]")).astype("category")),
    table(a=pd.Categorical([None]), b=pd.Categorical([None], categories=["x"]), c=pd.Categorical([True])),
    table(a=pd.Categorical(pd.Index(["x", "y"], dtype=object)), b=pd.Categorical([0.5, 1.5], categories=[1.5, 0.5])),
    pd.DataFrame({"a": [1, 2]}, index=pd.CategoricalIndex([5, 6])),
    # Units of time
    table(a=np.array(["200000-01-01", "NaT"], "M8[s]"), b=np.array([1, 2], "m8[s]"), c=np.array([0, 1], "M8[ms]")),
    table(a=pd.date_range("2026", periods=2, unit="s", tz="Asia/Kolkata"), b=np.array([0, 1], "M8[ns]")),
    indexed(0, 1, dtype="M8[s]"),
    # Text as objects, with one kind of gap; what Arrow keeps as objects
    table(a=pd.Series(["x", None], dtype=object), b=pd.Series(["x", np.nan], dtype=object)),
    table(a=pd.Series(["x", pd.NA], dtype=object), b=pd.Series(["x", "y"], dtype=object)),
    table(a=[Decimal("1.10"), None], b=[date(2026, 1, 1), None], c=pd.Series([True, None], dtype=object)),
    table(a=pd.array(["x", None], pd.StringDtype("python")), b=pd.array(["x", None], pd.StringDtype("pyarrow"))),
    # Lists, dicts and mixed objects
    table(a=[[1], [2.5, None]], b=[{"x": 1, "y": [{}]}, None]),
    table(a=pd.Series([1, "x", None, np.nan, (1, 2), {3}, b"4", 5.0, True], dtype=object)),
    table(a=pd.Series([1, 2], dtype=object), b=pd.Series(["x", 1.5], dtype=object)),
    table(a=pd.Series(["x", None, np.nan], dtype=object)),
    table(a=[np.arange(2), np.eye(2)], b=[datetime(2026, 1, 1), pd.Timestamp(0, tz="UTC")], c=[UUID(int=1), Path("a")]),
    table(a=[Decimal("-0.0"), None], b=[time(1, fold=1), None], c=[time(1), time(2)]),
    table(a=[Decimal("NaN"), Decimal("1.5")], b=pd.Series([np.float64(1), np.int8(2)], dtype=object)),
    table(a=[Decimal("1.5"), Decimal("2.25")]),
    table(a=pd.Series([[n % 3] * 20 for n in range(2_000)])),
    pd.DataFrame({"a": [1, 2]}, index=pd.Index([(1, 2), "x"], dtype=object, tupleize_cols=False)),
    # Arrow's own dtypes
    table(a=pd.array(["x", None], "string[pyarrow]"), b=pd.array([1, None], "int64[pyarrow]")),
    table(a=pd.Series([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))), b=[1, 2]),
    # Labels: numbers, gaps, doubles, dates, periods, intervals, text as objects, names of any kind
    pd.DataFrame([[1, 2]], columns=["a", "a"]),
    pd.DataFrame([[1, 2, 3]], columns=pd.Index(["a", None, 1], dtype=object)),
    pd.DataFrame([[1, 2]], columns=pd.Index(["a", "b"], dtype=object, name=("x", 1))),
    pd.DataFrame([[1, 2]], columns=pd.RangeIndex(4, 0, -2, name="n")),
    pd.DataFrame([[1, 2]], columns=pd.period_range("2026", periods=2, freq="M")),
    pd.DataFrame([[1, 2]], columns=pd.interval_range(0, 2), index=pd.interval_range(4, 5)),
    pd.DataFrame([[1, 2]], columns=pd.date_range("2026", periods=2, tz="UTC")),
    pd.DataFrame([[1, 2]], columns=pd.CategoricalIndex(["b", "a"], ordered=True)),
    pd.DataFrame([[1]], columns=pd.Index(["\ud800"], dtype=object)),
    pd.DataFrame({"a": pd.Series(["x"], dtype=object), "a.b": pd.Series(["y"], dtype=object), "a.c": [1]}),
    indexed("x", "y", dtype=object, name=3),
    indexed(1, "x", dtype=object, name=date(2026, 1, 1)),
    pd.DataFrame([[1, 2]], columns=pd.Index([date(2026, 1, 1), np.int64(3)], dtype=object)),
    indexed({"a": 1}, None, dtype=object),
    indexed(1, None, dtype="Int64"),
    indexed(1, 2, name=("x", 1)),
    pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(2, name=0)),
    pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_arrays([[1, 2], ["x", None]], names=["a", "a"])),
    pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_arrays([[1]], names=["one"])),
    table(g=["a", "b"], x=[1, 2]).groupby("g").agg({"x": ["min", "max"]}),
    table(x=[1, 2, 3]).groupby(pd.cut(pd.Series([1, 2, 9]), 2), observed=False).sum(),
]

SERIES = [
    pd.Series([1, 2]),
    pd.Series([1.5, None], index=["a", "b"], name="n"),
    pd.Series([], dtype="float64"),
    pd.Series([1], name=3),
    pd.Series(["x"], dtype="category"),
    pd.Series([1], name=("a", 1)),
    pd.Series([1], name=pd.Timestamp("2026-01-01", tz="Europe/Berlin")),
    pd.Series([1], name=pd.Timestamp("2026-01-01 00:00:00.000000001")),
    pd.Series([1], name=True),
    pd.Series([1], name="\ud800"),
    pd.Series([1], name=np.int64(3)),
    pd.Series([{"a": 1}, [2]]),
    pd.Series([1, 2], index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]), name="value"),
    pd.Series([1, 2], index=pd.Index([1, 2], name="value")),
]


def assert_same(back: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Assert that two tables are equal in everything but the frequency of an index, the types of cells included."""
    pd.testing.assert_frame_equal(back, frame, check_freq=False, check_exact=True, check_column_type=True)
    assert type(back.columns) is type(frame.columns)
    for after, before in ((back.index, frame.index), (back.columns, frame.columns)):
        assert [type(name) for name in after.names] == [type(name) for name in before.names]
        assert [type(label) for label in after] == [type(label) for label in before]
    for (_, cells), (_, wanted) in zip(back.items(), frame.items(), strict=True):
        assert list(map(described, cells)) == list(map(described, wanted))
    assert described(back.attrs) == described(frame.attrs)


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_would_change_is_refused_with_its_path(value: object, message: str) -> None:
    """A value that would come back changed is a FormatError that names where the culprit is."""
    with pytest.raises(FormatError, match=message):
        encode(value)


@pytest.mark.parametrize("frame", FRAMES, ids=range(len(FRAMES)))
def test_frames_come_back_with_index_and_dtypes(frame: pd.DataFrame) -> None:
    """A DataFrame comes back with its labels, index, dtypes, cells and attributes, types included."""
    before = frame.copy()
    before.attrs.update(source={"run": (1, {2})}, loss=np.float64(0.5))
    back = decode(bytes(encode(before)))
    assert_same(back, before)
    pd.testing.assert_frame_equal(before, frame)


@pytest.mark.parametrize("series", SERIES, ids=range(len(SERIES)))
def test_series_come_back_as_series(series: pd.Series[Any]) -> None:
    """A Series comes back as a Series, named or not."""
    series.attrs["source"] = "a run"
    back = decode(bytes(encode(series)))
    assert back.attrs == {"source": "a run"}
    pd.testing.assert_series_equal(back, series)
    assert type(back.name) is type(series.name)
    assert_same(back.to_frame("v"), series.to_frame("v"))


def test_a_table_can_be_changed_after_loading() -> None:
    """What was loaded is the caller's own: its cells can be set in place."""
    back = decode(bytes(encode(table(a=[1.5, 2.5], b=["x", "y"], c=pd.array(["u", "v"], "string[pyarrow]")))))
    back.loc[0, "a"] = 5.0
    back.iloc[1, 1] = "z"
    assert back.values.tolist() == [[5.0, "x", "u"], [2.5, "z", "v"]]


def test_a_table_without_troubles_is_plain_parquet_for_everybody(tmp_path: Path) -> None:
    """Without persistkit an ordinary table reads as it was, and any other with its labels as text."""
    frame = table(a=[1, 2], s=["x", None], t=pd.date_range("2026", periods=2), c=pd.Categorical(["u", "v"]))
    (tmp_path / "plain.parquet").write_bytes(encode(frame.set_index("t")))
    assert_same(pd.read_parquet(tmp_path / "plain.parquet"), frame.set_index("t"))
    (tmp_path / "odd.parquet").write_bytes(encode(pd.DataFrame([["x", 2]], columns=[("a", 1), None])))
    assert pd.read_parquet(tmp_path / "odd.parquet").to_dict("list") == {"('a', 1)": ["x"], "None": [2]}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zstd", "data_page_version": "2.0"},
        {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
        {"compression": "brotli", "row_group_size": 30_000, "data_page_size": 4_096},
    ],
)
def test_tables_of_other_writers_that_repeat_themselves_load(options: dict[str, object]) -> None:
    """What is bounded is the memory, not the repetition: many rows of few texts, in any encoding, come whole."""
    texts = [f"a text of some length that comes again, number {n % 50}" for n in range(100_000)]
    data = written(pa.table({"text": texts, "nested": [[n] for n in range(100_000)]}), **options)
    assert decode(data)["text"].tolist() == texts


def test_every_flipped_byte_of_a_table_loads_or_is_named_damaged() -> None:
    """Any byte flipped is a table or a FormatError; in its end any bit: pyarrow alone would abort on some."""
    other, ours = written(pa.table({"a": [1, None], "b": [[1], [2, 3]]})), bytes(encode(table(a=[1, 2], b=["x", "y"])))
    end = other.rindex(b"PAR1") - int.from_bytes(other[-8:-4], "little") - 4
    flips = [(other, place, 1 << place % 8) for place in range(end, len(other))]
    flips += [(ours, place, 0xFF) for place in range(4, len(ours), 7)]
    refused = 0
    for whole, place, bits in flips:
        flipped = bytearray(whole)
        flipped[place] ^= bits
        try:
            decode(bytes(flipped))
        except FormatError:
            refused += 1
    assert refused > 110


def test_a_file_without_rows_is_an_empty_table() -> None:
    """A file whose writer was closed before any row came has its columns all the same."""
    sink = io.BytesIO()
    pq.ParquetWriter(sink, pa.schema([("a", pa.int64()), ("b", pa.string())])).close()
    back = decode(sink.getvalue())
    assert (list(back.columns), len(back)) == (["a", "b"], 0)


CELLS: dict[str, Any] = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "Int8": st.integers(-128, 127) | st.none(),
    "float64": st.floats(),
    "str": st.text(max_size=4) | st.none(),
    "object": st.text(st.characters(), max_size=2) | st.none() | st.integers() | st.binary(max_size=2),
    "category": st.integers(0, 3) | st.none(),
    "datetime64[s]": st.integers(-(10**9), 10**9),
    "datetime64[ns, Europe/Berlin]": st.integers(-(10**18), 10**18),
    "boolean": st.booleans() | st.none(),
}
LABELS = (
    st.text(st.characters(), max_size=3) | st.integers() | st.none() | st.tuples(st.text(max_size=1), st.integers())
)


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Draw a small table of columns and index of any of the dtypes, labelled by whatever people use."""
    rows = draw(st.integers(0, 4))
    dtypes = draw(st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=4))
    try:
        parts = [pd.Series(draw(st.lists(CELLS[dtype], min_size=rows, max_size=rows)), dtype=dtype) for dtype in dtypes]
    except UnicodeEncodeError:  # what pandas itself refuses is no table
        assume(False)
    columns = draw(st.lists(LABELS, min_size=len(parts), max_size=len(parts)))
    frame = pd.concat(parts, axis=1)
    frame.columns = pd.Index(columns, dtype=object, tupleize_cols=False)
    levels = draw(st.integers(0, len(parts)))
    if levels:
        index = pd.MultiIndex.from_arrays(parts[:levels]) if levels > 1 else pd.Index(parts[0])
        frame.index = index.set_names(draw(st.lists(LABELS, min_size=levels, max_size=levels)))
    return frame


@given(frames())
def test_the_law_holds_for_any_table(frame: pd.DataFrame) -> None:
    """Whatever table goes in comes back equal, types included, or is refused."""
    try:
        data = bytes(encode(frame))
    except FormatError:
        return
    assert_same(decode(data), frame)
