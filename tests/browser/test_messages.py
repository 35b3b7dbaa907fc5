"""What a page may send and what a preview may meet: any message and any bytes, drawn by hypothesis."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from asking import OPERATIONS, Message, npy, opened, parquet
from hypothesis import example, given
from hypothesis import strategies as st

from persistkit.browser import KeyBrowser
from persistkit.browser.preview import Value, make_preview

REPEATED = pa.table({"t": ["text"] * 50, "n": list(range(50))})
STORED = [
    parquet(pa.table({"a": [[1, 2], None, []], "b": [{"c": "x"}, None, {"c": "y"}], "d": [b"", b"1", None]})),
    parquet(pa.Table.from_pandas(pd.DataFrame({"x": pd.Categorical(["a", "b"])}, index=pd.Index([3, 4], name="i")))),
    parquet(REPEATED, compression="zstd"),
    parquet(REPEATED, use_dictionary=False, column_encoding={"t": "DELTA_BYTE_ARRAY", "n": "DELTA_BINARY_PACKED"}),
    npy(np.arange(24).reshape(2, 3, 4)),
    npy(np.array([(1, "é")], dtype=[("ä", "i4"), ("b", "U2")])),
    npy(np.asfortranarray(np.eye(3))),
    b'{"a": [1, 2.5, "x", null, {"b": true}], "c": "\\ud83d\\ude00", "d": "{\\"e\\": [1]}"}',
    b'{"a": 1}\n{"b": [2]}\n',
    b"a,b\n1,2\n",
    b"\x89PNG\r\n\x1a\n",
]
edits = st.lists(st.tuples(st.integers(0, 5_000), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=6)
keys = st.sampled_from([None, "a.csv", "a.md", "a.jsonl", "a.svg"])


def look(data: bytes, key: str | None) -> None:
    """Show a value, whole and in part, in every way: always a preview of bounded size."""
    for part in (data, data[: len(data) // 2]):
        for view in (None, "json", "table", "image", "markdown", "text", "hex"):
            preview = make_preview(Value.of(part, key), view, row=60, places=[1, 5])
            assert len(json.dumps([preview.view, preview.note, preview.body], allow_nan=False)) < 1_000_000


@given(st.sampled_from(STORED), edits, keys)
def test_damaged_values_are_shown(value: bytes, changes: list[tuple[int, bytes, int]], key: str | None) -> None:
    """A value of any format with any bytes changed has a preview."""
    data = bytearray(value)
    for place, piece, cut in changes:
        start = place % (len(data) + 1)
        data[start : start + cut] = piece
    look(bytes(data), key)


@given(
    st.sampled_from([b"", b"PAR1", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b'{"', b"[", b"\x89PNG\r\n\x1a\n", b"RIFF"]),
    st.binary(),
    keys,
)
def test_any_bytes_are_shown(start: bytes, rest: bytes, key: str | None) -> None:
    """Whatever begins like a format is shown."""
    look(start + rest, key)


FIELDS = [
    "view", "id", "revision", "row", "rows", "on", "count", "query", "match", "folder", "sort", "descending", "limit",
    "offset", "follow", "following", "start", "bytes", "show", "first", "places", "path", "deep", "text", "all",
    "between", "code",
]  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
likely = st.integers(-1, 6) | st.sampled_from(
    ["a", "b/", "key", "size", "modified", "substring", "prefix", "glob", "json", "hex", "table", "[", "*?", [0, 1]]
)
messages = st.fixed_dictionaries(
    {"op": st.sampled_from(OPERATIONS) | json_values},
    optional=dict.fromkeys(FIELDS, likely | json_values) | {"revision": st.just(1) | json_values},
)
VALUES = {
    "a": b'{"x": [1, "[2]"]}',
    "b/c": b"\xff\x00",
    "b/d:e": b"text",
    "é*": STORED[0],
    "n": STORED[4],
    "png": b"\x89PNG\r\n\x1a\n",
}


def answers(browser: KeyBrowser, sent: list[Message]) -> None:
    """Send messages: each is answered by one that a page can read."""
    for message in sent:
        answer, buffers = browser.handle(message)
        assert set(answer) >= {"op", "view", "id"}
        rest = {name: item for name, item in answer.items() if name not in ("op", "view", "id", "folder", "query")}
        json.dumps(rest, allow_nan=False).encode()
        assert all(isinstance(buffer, bytes) for buffer in buffers)


@example([{"op": "folders", "folder": 5}])
@example([{"op": "page", "limit": float("inf")}])
@given(st.lists(messages, max_size=5))
def test_any_messages_are_answered_and_change_nothing(sent: list[Message]) -> None:
    """Whatever a page sends is answered; a browser that is read only changes nothing, and goes on working."""
    browser, engine = opened(VALUES)
    answers(browser, sent)
    assert dict(zip(VALUES, engine.batch_load(list(VALUES)), strict=True)) == VALUES
    page, _ = browser.handle({"op": "page", "query": "", "match": "substring"})
    assert page["found"] == len(VALUES)


@given(st.lists(messages, max_size=8))
def test_only_what_was_marked_is_ever_deleted(sent: list[Message]) -> None:
    """A browser that may delete deletes what was marked just before, and nothing else."""
    browser, engine = opened(VALUES, read_only=False)
    for message in sent:
        marked = set(browser.selected_keys)
        answers(browser, [message])
        assert browser.wait(timeout_seconds=30)
        gone = VALUES.keys() - set(engine.list_keys())
        assert gone <= (marked if message.get("op") == "delete" else set())
        engine.batch_save(VALUES)


@pytest.mark.parametrize("make", [lambda: float("nan"), lambda: 10**400, lambda: [[]] * 10, lambda: {"a": {}}])
def test_a_field_of_any_type_is_answered(make: Callable[[], object]) -> None:
    """Each field of each request may be anything."""
    browser, _ = opened(VALUES, read_only=False)
    for operation in OPERATIONS:
        for name in FIELDS:
            answers(browser, [{"op": operation, "row": 0, "revision": 1, name: make()}])
