"""The index of the browser: order, pages, searches and folders, against plain Python on the same keys."""

from __future__ import annotations

import fnmatch
import gc
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistkit.browser.index import IndexBuilder, KeyIndex, Query
from persistkit.entry import Entry

START = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = st.lists(st.text(st.sampled_from("ab:/_*é日😀"), max_size=24), unique=True, max_size=60)


def index_of(*keys: str) -> KeyIndex:
    """Return the index of values whose size is the key's place and whose time falls with it."""
    return KeyIndex.of(Entry(key, n, START - timedelta(hours=n)) for n, key in enumerate(keys))


def found(index: KeyIndex, query: Query) -> list[str | None]:
    """Return the keys that fit a query."""
    return [index.entry(row).key for row in index.rows(query)]


@given(KEYS)
def test_every_key_is_found_at_its_row(keys: list[str]) -> None:
    """Row numbers follow the UTF-8 bytes of the keys, and every key is found at its row."""
    index = index_of(*keys)
    assert found(index, Query()) == sorted(keys)
    assert [index.find(key) for key in sorted(keys)] == list(range(len(keys)))
    assert index.find("not there") is None


def test_numbers_in_keys_sort_as_numbers() -> None:
    """``step:2`` comes before ``step:10``, in every view of the keys, and zeros before a number do not count."""
    keys = ["step:10", "step:2", "step:2:x", "step:1", "step:02", "step", "run:9/b", "run:10/a", "run:9/a"]
    index = index_of(*keys)
    expected = ["run:9/a", "run:9/b", "run:10/a", "step", "step:1", "step:02", "step:2", "step:2:x", "step:10"]
    assert found(index, Query()) == expected
    assert found(index, Query(descending=True)) == expected[::-1]
    assert found(index, Query("step:", "prefix")) == expected[4:]
    same_size = KeyIndex.of(Entry(key, 1, None) for key in keys)
    assert found(same_size, Query(sort="size", descending=True)) == expected


@pytest.mark.parametrize(
    ("text", "match", "expected"),
    [
        ("plot", "substring", ["Plot:b", "plot:a"]), ("Plot", "substring", ["Plot:b"]), ("B pl", "substring", []),
        ("b pl", "substring", ["Plot:b"]), (" plot  a ", "substring", ["plot:a"]), (" ", "substring", None),
        ("pl", "prefix", ["Plot:b", "plot:a"]), ("P", "prefix", ["Plot:b"]), ("p*", "glob", ["Plot:b", "plot:a"]),
        ("P*", "glob", ["Plot:b"]), ("", "glob", None), ("", "prefix", None),
    ],
)  # fmt: skip
def test_case_counts_where_it_is_typed_and_words_in_any_order(
    text: str, match: str, expected: list[str] | None
) -> None:
    """Lower case finds both, an upper-case letter only itself; of several words each must be there."""
    keys = ["Plot:b", "loss", "plot:a"]
    assert found(index_of(*keys), Query(text, match)) == (keys if expected is None else expected)


@given(KEYS, st.text(st.sampled_from("ab:/é😀"), max_size=4))
def test_searches_agree_with_plain_python(keys: list[str], text: str) -> None:
    """Substring and prefix find exactly what Python's own ``in`` and ``startswith`` find."""
    index = index_of(*keys)
    assert found(index, Query(text)) == [key for key in sorted(keys) if text in key]
    assert found(index, Query(text, "prefix")) == [key for key in sorted(keys) if key.startswith(text)]


@given(
    KEYS, st.text(st.sampled_from("ab:*?[]!é"), min_size=1, max_size=7) | st.text(st.sampled_from("ab*?"), min_size=1)
)
def test_globs_agree_with_fnmatch(keys: list[str], pattern: str) -> None:
    """A glob finds exactly what ``fnmatch.fnmatchcase`` finds, whatever stands in pattern and keys."""
    expected = [key for key in sorted(keys) if fnmatch.fnmatchcase(key, pattern)]
    assert found(index_of(*keys), Query(pattern, "glob")) == expected


def test_sorting_keeps_ties_in_key_order() -> None:
    """Sizes and times sort both ways; values of one size stay in the order of their keys; no time comes first."""
    entries = [("b", 1, START), ("a", 1, START), ("c", 9, None), ("d", 0, START + timedelta(1))]
    index = KeyIndex.of(Entry(key, size, time) for key, size, time in entries)
    assert found(index, Query(sort="size")) == ["d", "a", "b", "c"]
    assert found(index, Query(sort="size", descending=True)) == ["c", "a", "b", "d"]
    assert found(index, Query(sort="modified")) == ["c", "a", "b", "d"]
    assert found(index, Query(sort="modified", descending=True)) == ["d", "a", "b", "c"]
    assert found(index, Query(descending=True)) == ["d", "c", "b", "a"]
    assert found(index, Query("a", sort="size")) == ["a"]


def test_entries_come_back_whole() -> None:
    """Every field of an entry survives the columns, unknown keys and odd file names included."""
    entries = [
        Entry("run:1", 5, START + timedelta(microseconds=123457)),
        Entry(None, 2**40, None, "x_y-0000000000000001.bin"),
        Entry("a?>", 0, START, ambiguous=True),
        Entry(None, 1, START, "\udcff_-0000000000000002.bin"),
    ]
    index = KeyIndex.of(entries)
    rows = [
        index.find(entry.filename if entry.key is None else entry.key, known=entry.key is not None) for entry in entries
    ]
    assert [index.entry(row) for row in rows if row is not None] == entries
    assert index.size_bytes == 2**40 + 6


@pytest.mark.parametrize("size", [-1, 2**80, "12", None, 1.5, b"9"])
@pytest.mark.parametrize("modified", [None, datetime(2026, 1, 1), datetime.max, "yesterday", 5])
def test_odd_sizes_and_times_are_listed(size: Any, modified: Any) -> None:
    """Whatever a damaged table tells of a value, it is listed, sorted and counted; a time without zone is UTC."""
    index = KeyIndex.of([Entry("odd", size, modified), Entry("plain", 3, START), Entry("plainer", 2**63, START)])
    for sort in ("size", "modified"):
        assert set(found(index, Query(sort=sort))) == {"odd", "plain", "plainer"}
    assert index.size_bytes >= 2**63 + 2
    assert index.level() == ([], None)
    if modified == datetime(2026, 1, 1):
        assert index.entry(0).modified == START


def test_folders_count_keys_and_sizes() -> None:
    """Folders end at ``:`` and ``/``; keys and sizes are those of everything below; a level can be read in parts."""
    index = index_of("s:1:a", "s:1:b", "s:2", "t/x/y", "plain", "s:")
    top, _ = index.level()
    assert [(folder.path, folder.keys, folder.leaf) for folder in top] == [("s:", 4, False), ("t/", 1, False)]
    assert top[0].size == 0 + 1 + 2 + 5
    assert [(folder.path, folder.leaf) for folder in index.level("s:")[0]] == [("s:1:", True)]
    _, following = index.level(limit=1)
    assert following is not None
    assert [folder.path for folder in index.level(following=following)[0]] == ["t/"]
    assert found(index, Query("a", folder="s:")) == ["s:1:a"]


def test_nul_finds_nothing_and_an_empty_index_answers() -> None:
    """No key holds NUL, so neither does a search across two keys; nothing listed is no error."""
    assert found(index_of("a", "b"), Query("a\0b")) == []
    empty = KeyIndex.of([])
    assert found(empty, Query("*", "glob")) == []
    assert empty.level() == ([], None)


@pytest.mark.parametrize("pattern", ["*a" * 300 + "b", "?" * 500 + "*" * 500, "[" * 900])
def test_no_pattern_is_slow(pattern: str) -> None:
    """Patterns that freeze a backtracking matcher are answered at once."""
    index = index_of(*("a" * 1000 + str(n) for n in range(50)))
    assert len(index.rows(Query(pattern, "glob"))) in (0, 50)


def test_a_key_costs_at_most_300_bytes() -> None:
    """100,000 keys of 24 bytes, all orders and some answers remembered, take less than 300 bytes each."""
    builder = IndexBuilder()
    gc.collect()
    tracemalloc.start()
    try:
        for n in range(100_000):
            builder.add(Entry(f"session:{n * 7919 % 100_000:08d}/{n:07d}", n, START, ""))
        index = builder.finish()
        for query in (Query(sort="size"), Query(sort="modified"), Query("7"), Query("*7", "glob"), Query(sort="key")):
            index.rows(query)
        used, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / 100_000 < 300
    assert peak / 100_000 < 400
