"""Diff: where two values differ."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import persistkit
from persistkit import diff_values
from persistkit.diff import Diff

NAN = math.nan
ABSENT = object()


def rows_of(diff: Diff) -> list[tuple[Any, ...]]:
    """Return the rows as tuples, what one side lacks as ``ABSENT``."""
    return [tuple(ABSENT if cell is pd.NA else cell for cell in row) for row in diff.itertuples(index=False, name=None)]


def strictly(value: Any) -> str:
    """Return a text that two values share when they are equal and of the same types, whatever the order of keys."""
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{key!r}:{strictly(item)}" for key, item in value.items())) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(strictly, value)) + "]"
    return f"{type(value).__name__} {value + 0 if isinstance(value, float) else value!r}"


SINGLES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.0, 1.0, NAN, math.inf])
    | st.text("ab", max_size=3)
)
TREES = st.recursive(
    SINGLES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("pqr 0"), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(TREES, TREES)
def test_every_difference_of_trees_is_a_row_and_every_row_is_one(left: Any, right: Any) -> None:
    """Equal trees give no row; each row names what is on its sides, which differ; no rows are less than the others."""
    diff = diff_values(left, right)
    assert diff.empty == (strictly(left) == strictly(right))
    for _, one, other, change in rows_of(diff):
        assert (one is ABSENT, other is ABSENT) == (change == "added", change == "removed")
        assert one is ABSENT or other is ABSENT or strictly(one) != strictly(other)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5) | st.text("xy", max_size=1), max_size=9), st.data())
def test_the_rows_of_a_list_lead_from_one_side_to_the_other(left: list[Any], data: Any) -> None:
    """Whoever removes, changes and inserts what the rows say has the other list: nothing is missed."""
    right = data.draw(st.permutations(left)) if data.draw(st.booleans()) else data.draw(st.lists(st.integers(0, 5)))
    made: list[Any] = []
    place = 0
    diff = rows_of(diff_values(left, right))
    touched = {int(path[2:-1]): (other, change) for path, _, other, change in diff if change != "added"}
    alone = [(int(path[2:-1]), other) for path, _, other, change in diff if change == "added"]
    for place, item in enumerate(left):
        while alone and alone[0][0] == len(made):
            made.append(alone.pop(0)[1])
        if place not in touched:
            made.append(item)
        elif touched[place][1] != "removed":
            made.append(touched[place][0])
    made += [item for _, item in alone]
    assert strictly(made) == strictly(right)
    assert len(diff) <= max(len(left), len(right)) + min(len(left), len(right))


@pytest.mark.parametrize(
    ("left", "right", "rows"),
    [
        ({"a": 1, "odd key": [NAN]}, {"odd key": [NAN], "a": 1}, []),
        (1, 1.0, [("$", 1, 1.0, "type int, float")]),
        ([True, "1"], [1, 1], [("$[0]", True, 1, "type bool, int"), ("$[1]", "1", 1, "type str, int")]),
        ({"odd key": None}, {}, [("$['odd key']", None, ABSENT, "removed")]),
        ({1: "a"}, {"1": "a"}, [("$[1]", "a", ABSENT, "removed"), ("$['1']", ABSENT, "a", "added")]),
        ((1, 2), (1, 3), [("$[1]", 2, 3, "changed")]),
        ({"s": {1, 2}}, {"s": {2, 3}}, [("$.s item 1", 1, ABSENT, "removed"), ("$.s item 3", ABSENT, 3, "added")]),
        (b"abcdef", b"abXYZef", [("$[2:4]", b"cd", b"XYZ", "changed")]),
        (b"abc", b"abbc", [("$[2:2]", ABSENT, b"b", "added")]),
        (Decimal("NaN"), Decimal("NaN"), []),
        (Decimal("1.0"), Decimal("1.00"), []),
        (0.0, -0.0, []),
        (complex(0, NAN), complex(1, NAN), [("$", complex(0, NAN), complex(1, NAN), "changed")]),
        (Path("a"), Path("b"), [("$", Path("a"), Path("b"), "changed")]),
        ("a\nb\nc", "a\nB\nx\nc\n", [("$ line 2", "b", "B", "changed"), ("$ line 3", ABSENT, "x", "added"),
                               ("$ line 5", ABSENT, "", "added")]),
    ],
)  # fmt: skip
def test_each_kind_of_value_has_its_rows(left: Any, right: Any, rows: list[tuple[Any, ...]]) -> None:
    """Dicts by key, lists aligned, sets by item, texts by line, bytes by what lies between; types count."""
    assert str(rows_of(diff_values(left, right))) == str(rows)


def test_times_of_another_zone_differ() -> None:
    """One moment in two zones is a difference, as it is for a store, which keeps the zone; equal times are none."""
    moment = datetime(2026, 11, 25, 14, tzinfo=UTC)
    other = moment.astimezone(timezone(timedelta(hours=1)))
    assert moment == other
    assert rows_of(diff_values([moment], [other])) == [("$[0]", moment, other, "changed")]
    assert diff_values([moment], [moment.replace()]).empty
    assert diff_values(pd.NaT, pd.NaT).empty


def test_an_inserted_item_is_one_difference() -> None:
    """What one list of objects has in addition shifts nothing; the item that changed is compared with its like."""
    left = [{"id": number, "text": f"step {number}", "ok": True} for number in range(50)]
    right = [dict(item) for item in left]
    right[20]["ok"] = False
    right.insert(20, {"id": 99, "text": "new", "ok": True})
    assert rows_of(diff_values(left, right)) == [
        ("$[20]", ABSENT, right[20], "added"),
        ("$[20].ok", True, False, "changed"),
    ]


def test_arrays_say_where_how_many_and_how_far() -> None:
    """The cells that differ are rows, NaN is equal to NaN, and the note has the count and the largest difference."""
    left = np.arange(600.0).reshape(20, 30)
    left[0, 0] = NAN
    right = left.copy()
    assert diff_values(left, right).empty
    right[3, 4] += 0.5
    right[19, 29] -= 7
    diff = diff_values({"w": left}, {"w": right})
    assert rows_of(diff) == [("$.w[3, 4]", 94.0, 94.5, "changed"), ("$.w[19, 29]", 599.0, 592.0, "changed")]
    assert diff.notes == ["$.w: 2 of 600 elements differ, the largest difference is 7 at [19, 29]."]
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    assert "is 1.84467e+19 at [1]" in diff_values(np.array([1, low]), np.array([1, high])).notes[0]
    assert rows_of(diff_values(np.zeros(2, "f4"), np.zeros(2, "f8"))) == [("$ dtype", "float32", "float64", "changed")]
    assert rows_of(diff_values(np.zeros(2), np.zeros((2, 1)))) == [("$ shape", (2,), (2, 1), "changed")]
    odd = np.array([(1, NAN)], [("n", int), ("x", float)])
    assert diff_values(odd, odd.copy()).empty
    assert len(diff_values(odd, np.array([(2, NAN)], odd.dtype))) == 1
    assert diff_values(np.array(["2026-11-25", "NaT"], "M8[D]"), np.array(["2026-11-25", "NaT"], "M8[D]")).empty
    assert rows_of(diff_values(np.array(5), np.array(6))) == [("$", 5, 6, "changed")]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_cells_of_a_table_that_differ_are_rows(data: Any) -> None:
    """The rows are exactly the cells that a comparison one by one finds, by the labels of the rows."""
    cells = st.sampled_from([0.0, 1.0, 2.5, NAN])
    labels = data.draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=6))
    others = data.draw(st.permutations(labels))
    columns = st.lists(cells, min_size=len(labels), max_size=len(labels))
    left, right = (
        pd.DataFrame({name: data.draw(columns) for name in "xy"}, index=index, dtype=float)
        for index in (labels, others)
    )
    found = {(path, one, other) for path, one, other, _ in rows_of(diff_values(left, right)) if path != "$ rows"}
    expected = {
        (f"$.{name}[{label!r}]", left.loc[label, name], right.loc[label, name])
        for name in "xy" for label in labels
        if repr(left.loc[label, name]) != repr(right.loc[label, name])
    }  # fmt: skip
    assert str(sorted(found, key=str)) == str(sorted(((path, float(a), float(b)) for path, a, b in expected), key=str))


def test_tables_say_columns_dtypes_rows_and_nested_cells() -> None:
    """Columns and rows of one side, another dtype, another order, and what differs within a cell are rows."""
    left = pd.DataFrame({"k": [1, 2, 3], "s": ["a", "b", None], "o": [1, "x", {"q": 1}], "old": [1, 2, 3]})
    right = pd.DataFrame({"s": ["a", "b", None], "k": [1.0, 2.0, 4.0], "o": [1, "x", {"q": 2}], "new": [1, 2, 3]})
    assert rows_of(diff_values(left, right)) == [
        ("$.old", [1, 2, 3], ABSENT, "removed"),
        ("$.new", ABSENT, [1, 2, 3], "added"),
        ("$ columns", ["k", "s", "o"], ["s", "k", "o"], "order"),
        ("$.k dtype", "int64", "float64", "changed"),
        ("$.k[2]", 3, 4.0, "changed"),
        ("$.o[2].q", 1, 2, "changed"),
    ]
    assert rows_of(diff_values(left[["k"]], left[["k"]].drop(index=1))) == [("$[1]", {"k": 2}, ABSENT, "removed")]
    twice = pd.DataFrame({"k": [1, 2]}, index=["a", "a"])
    diff = diff_values(twice, twice.iloc[:1])
    assert rows_of(diff) == [("$['a']", {"k": 2}, ABSENT, "removed")]
    assert diff.notes == ["$: rows were compared by position: not each has a label of its own."]
    nullable = pd.Series([1, None], dtype="Int64", name="n")
    assert rows_of(diff_values(nullable, nullable.fillna(5).rename("m"))) == [
        ("$ name", "n", "m", "changed"),
        ("$[1]", ABSENT, 5, "changed"),
    ]


@dataclass
class Config:
    """A type of one's own."""

    lr: float
    layers: list[int]


def test_labels_of_several_levels_and_no_place_at_all_are_written_plainly() -> None:
    """A row of a MultiIndex has the path of its labels; of an array without axes no place is named."""
    index = pd.MultiIndex.from_tuples([(1, "a"), (2, "b")])
    left, right = (pd.DataFrame({"x": values}, index=index) for values in ([1, 2], [1, 4]))
    diff = persistkit.diff_values(left, right)
    assert diff["path"].tolist() == ["$.x[(2, 'b')]"]
    assert diff.notes == ["$.x: 1 of 2 cells differ, the largest difference is 2 at [(2, 'b')]."]
    assert persistkit.diff_values(np.array(1), np.array(2)).notes == [
        "$: 1 of 1 elements differ, the largest difference is 1."
    ]


def test_a_store_compares_keys_and_values() -> None:
    """Text is a key, anything else a value; a missing key is the error of a missing key, a damaged value its bytes."""
    store = persistkit.open("memory:")
    store["run:1"], store["run:2"] = {"lr": 0.1}, {"lr": 0.2}
    assert rows_of(store.diff("run:1", "run:2")) == [("$.lr", 0.1, 0.2, "changed")]
    assert store.diff({"lr": 0.2}, "run:2").empty
    assert rows_of(store.diff(Config(0.1, [1, 2]), Config(0.1, [1, 3]))) == [("$.layers[1]", 2, 3, "changed")]
    with pytest.raises(persistkit.MissingKeyError, match="run:3"):
        store.diff("run:1", "run:3")
    store.put_bytes("damaged", b"\x93NUMPY broken")
    assert store.diff("damaged", b"\x93NUMPY broken").empty
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="a list that contains itself"):
        store.diff(circle, [[]])


def test_a_diff_is_a_table_like_any_other() -> None:
    """Columns and types are those of any frame, what is selected is a plain DataFrame, and print shows the notes."""
    diff = diff_values({"a": np.zeros(3), "b": 1}, {"a": np.ones(3), "b": "1"})
    assert list(diff.columns) == ["path", "left", "right", "change"]
    assert type(diff[diff["path"] == "$.b"]) is pd.DataFrame
    assert diff.groupby("change").size().to_dict() == {"changed": 3, "type int, str": 1}
    assert str(diff).endswith("$.a: 3 of 3 elements differ, the largest difference is 1 at [0].")
    assert str(diff_values(1, 1)) == "No differences."
    assert list(diff_values(1, 1).dtypes.astype(str)) == ["str", "object", "object", "str"]


def test_large_values_answer_soon_and_say_what_was_cut() -> None:
    """Megabytes that differ everywhere, or repeat themselves, take seconds; the notes say what is not in the rows."""
    dice = random.Random(1)
    began = time.monotonic()
    many = diff_values([dice.random() for _ in range(20_000)], [dice.random() for _ in range(20_000)])
    assert len(many) == 10_000
    assert many.notes[-1] == "There are more than 10,000 differences; these are the first."
    coins, others = ([dice.randrange(2) for _ in range(20_000)] for _ in range(2))
    assert any("position by position" in note for note in diff_values(coins, others).notes)
    array = diff_values(np.zeros(10**6), np.ones(10**6))
    assert (len(array), array.notes[0].partition("; ")[2]) == (100, "the first 100 are rows.")
    deep: Any = [1]
    deeper: Any = [2]
    for _ in range(20_000):
        deep, deeper = [deep], [deeper]
    assert rows_of(diff_values(deep, deeper))[0][1:] == (1, 2, "changed")
    assert time.monotonic() - began < 30
    assert len(many._repr_html_()) < 1_000_000


def test_the_page_shows_what_values_contain_as_text() -> None:
    """Nothing of a path, a value or a name is markup, and what differs within a line is marked."""
    diff = diff_values({"<b>": "<script>one two three"}, {"<b>": "<script>one 2 three"}, names=("<i>", "\u202e"))
    page = diff._repr_html_()
    assert "<script>" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "\u202e" not in page
    assert ">two</del>" in page
    assert ">2</ins>" in page
    assert "No differences." in diff_values(1, 1)._repr_html_()
