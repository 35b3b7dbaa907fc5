"""Searching values: every place where a text is, and nothing else; quick, and never for ever."""

from __future__ import annotations

import json
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import persistkit
from persistkit import Store

TEXT = st.text('aAbé"\\/K\u212a\u017f \u0130🦀', max_size=5)
VALUES = st.recursive(
    TEXT | st.integers(0, 20) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def found(store: Store, text: str, **options: Any) -> list[list[str]]:
    """Return the rows of a search."""
    rows: list[list[str]] = store.search(text, **options).values.tolist()
    return rows


def test_places_are_told_on_every_engine(store_anywhere: Store) -> None:
    """JSON, lines, text, tables and JSON in texts tell where the text is; arrays and images are skipped and counted."""
    store = store_anywhere
    store["json"] = {"a": [{"note": "no needle, é"}], "needle": 1, "odd key": {"x": "needle"}}
    store["inside"] = {"observation": json.dumps({"data": ["needle"], "ok": True})}
    store.put_bytes("lines.jsonl", b'{"a": 1}\n{"a": "needle"}\n')
    store["text"] = "first\nhere a needle\n"
    store["table"] = pd.DataFrame({"needles": ["hay", "needle"], "n": [1, 2]})
    store["array"] = np.arange(3)
    store.put_bytes("image", b"\x89PNG\r\n\x1a\nneedle\xff")
    frame = store.search("needle")
    assert frame.values.tolist() == [
        ["inside", "$.observation → $.data[0]", "needle"],
        ["json", "$.needle (name)", "needle"],
        ["json", "$.a[0].note", "no needle, é"],
        ["json", "$['odd key'].x", "needle"],
        ["lines.jsonl", "$[1].a", "needle"],
        ["table", "column 'needles' (name)", "needles"],
        ["table", "column 'needles', row 1", "needle"],
        ["text", "line 2", "here a needle"],
    ]
    assert frame.attrs == {
        "complete": True,
        "searched": 5,
        "skipped": {"arrays": 1, "binary": 1, "damaged": 0},
    }
    assert found(store, '"ok": true') == [["inside", "$.observation", '{"data": ["needle"], "ok": true}']]
    assert found(store, r"ne+d\w+s$", regex=True) == [["table", "column 'needles' (name)", "needles"]]
    assert len(store.search("needle", prefix="t", glob="*e*")) == 3
    assert len(store.search("needle", keys=["text", "gone"])) == 1


def test_case_counts_where_it_is_used(store: Store) -> None:
    """Without an upper-case letter case is ignored; ``case`` decides otherwise."""
    store.update({"a": "Müller", "b": "müller", "c": "MÜLLER"})
    assert [row[0] for row in found(store, "müller")] == ["a", "b", "c"]
    assert [row[0] for row in found(store, "Müll")] == ["a"]
    assert [row[0] for row in found(store, "müller", case=True)] == ["b"]
    assert [row[0] for row in found(store, "MÜLLER", case=False)] == ["a", "b", "c"]
    for expression in ("m.l+e", r"m\Sl+e", r"(?P<name>m.l+e)"):
        assert [row[0] for row in found(store, expression, regex=True)] == ["a", "b", "c"]
    assert found(store, r"\w[a-z]lLER", regex=True) == []


def test_the_labels_of_a_table_are_searched(store: Store) -> None:
    """Index and names of its levels tell where the text is; the numbers of rows without labels are no places."""
    store["named"] = pd.DataFrame({"n": [1, 2]}, index=pd.Index(["x", "needle"], name="needles"))
    store["series"] = pd.Series([1.5], index=["needle"], name="loss")
    store["two"] = pd.DataFrame({"n": [1]}, index=pd.MultiIndex.from_tuples([("a", "needle")], names=["run", "step"]))
    store["plain"] = pd.DataFrame({"n": [0.5] * 8})
    assert [row[:2] for row in found(store, "needle")] == [
        ["named", "index 'needles' (name)"],
        ["named", "index 'needles', row 1"],
        ["series", "index, row 0"],
        ["two", "index 'step', row 0"],
    ]
    assert found(store, "7") == []


def test_lines_end_where_editors_end_them(store: Store) -> None:
    """A text with other separators in it is found, and lines are counted by their line ends."""
    store["text"] = "a\x0cb\nc\u2028d\r\nlast\n"
    store["json"] = {"x": "one\nc\u2028d"}
    assert found(store, "c\u2028d") == [["json", "$.x line 2", "c\u2028d"], ["text", "line 2", "c\u2028d"]]
    assert found(store, "^last$", regex=True) == [["text", "line 3", "last"]]
    assert found(store, "^$", regex=True) == []


def leaves(value: Any) -> list[str]:
    """Return the texts of a value, with names and numbers."""
    if isinstance(value, str):
        inner = []
        if value[:1] in ("{", "["):
            with suppress(ValueError):
                inner = leaves(json.loads(value))
        return [value, *inner]
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in leaves(item))]
    if isinstance(value, list):
        return [text for item in value for text in leaves(item)]
    return [json.dumps(value)]


def escaped(data: str) -> str:
    """Return JSON with some letters of its texts escaped, as JSON allows."""
    return "".join(f"\\u{ord(letter):04x}" if letter in "AK" else letter for letter in data)


@given(st.dictionaries(TEXT, VALUES, max_size=3), TEXT.filter(bool), st.booleans())
def test_what_is_there_is_found_however_it_is_escaped(value: dict[str, Any], text: str, nested: bool) -> None:
    """A value is found exactly if one of its texts, names or numbers has the text, in each spelling of that JSON."""
    store = persistkit.open("memory:")
    whole = {"nested": json.dumps(value)} if nested else value
    expected = any(text in leaf for leaf in leaves(whole))
    for data in (
        json.dumps(whole),
        json.dumps(whole, ensure_ascii=False),
        escaped(json.dumps(whole, ensure_ascii=False, indent=1)),
    ):
        store.put_bytes("key", data.encode())
        assert bool(found(store, text, case=True)) == expected
        if expected:
            assert found(store, text, case=False)


def test_a_limit_is_told(store: Store) -> None:
    """More places than the limit make a table of so many rows that says it is not complete; as many do not."""
    store["key"] = ["hit"] * 5
    assert [(len(frame), frame.attrs["complete"]) for frame in (store.search("hit", limit=n) for n in (4, 5, 6))] == [
        (4, False),
        (5, True),
        (5, True),
    ]


def test_excerpts_are_short_and_whole_characters(store: Store) -> None:
    """A place in a long text is shown with what stands around it, beside any characters."""
    store["key"] = "🦀" * 1_000 + "needle" + "é" * 1_000
    ((_, _, excerpt),) = found(store, "needle")
    assert excerpt == "…" + "🦀" * 40 + "needle" + "é" * 74 + "…"
    store.put_bytes("lone", b'["\\ud800 needle"]')
    assert len(store.search("needle")) == 2


def test_deep_and_odd_values_are_searched(store: Store) -> None:
    """Deep nesting, JSON in JSON in JSON, tagged values and damaged ones neither raise nor hide a place."""
    store.put_bytes("deep", b"[" * 900 + b'"needle"' + b"]" * 900)
    text: Any = {"x": "needle"}
    for _ in range(5):
        text = {"x": json.dumps(text)}
    store["inside"] = text
    store["tagged"] = {"when": pd.Timestamp("2026-11-25"), "needle": {1: "x"}, "raw": b"needle", "of": {"needle"}}
    store.put_bytes("cut", b"PAR1needlePAR1")
    frame = store.search("needle").set_index("key")["where"]
    assert frame["deep"].startswith("$[0][0]") and len(frame["deep"]) <= 301  # noqa: PT018
    assert frame["inside"] == "$.x" + " → $.x" * 5
    assert sorted(frame["tagged"]) == ["$.needle (name)", "$.of[0]"]
    assert store.search("needle").attrs["skipped"]["damaged"] == 1
    assert found(store, "2026-11-25") == [["tagged", "$.when", "2026-11-25 00:00:00"]]


def test_no_expression_keeps_it_busy(store: Store) -> None:
    """An expression that takes other engines for ever is answered at once."""
    store["key"] = ["a" * 5_000 + "b"] * 20
    began = time.monotonic()
    assert store.search("(a+)+$", regex=True).empty
    assert len(store.search("(a|aa)+b", regex=True)) == 20
    assert time.monotonic() - began < 20


def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    """Searching 100 MB that is in the store one MB at a time takes a part of that."""
    store = persistkit.open(tmp_path, fsync=False)
    line = json.dumps({"text": "x" * 1_000_000})
    for number in range(100):
        store.put_bytes(f"key:{number}", line.encode())
    tracemalloc.start()
    try:
        assert store.search("xy").empty
        assert tracemalloc.get_traced_memory()[1] < 80_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "options", "kind", "advice"),
    [
        ("", {}, ValueError, "a text that is not empty"),
        (0.25, {}, TypeError, "takes a text, not float; numbers as they are stored: '0.25'"),
        ("\ud800", {}, ValueError, "valid Unicode, without lone surrogates"),
        ("(", {"regex": True}, ValueError, "search: .*RE2's expressions have no lookaround"),
        ("(?=x)", {"regex": True}, ValueError, "no lookaround and no backreferences"),
        ("x", {"limit": 0}, ValueError, "limit is a number of places from 1 on, not 0"),
    ],
)
def test_a_mistaken_search_says_what_to_write(text: Any, options: Any, kind: type[Exception], advice: str) -> None:
    """What cannot be searched for is refused with the next step."""
    with pytest.raises(kind, match=advice):
        persistkit.open("memory:").search(text, **options)
