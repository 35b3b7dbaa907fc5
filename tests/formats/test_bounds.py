"""Reading a table takes no more memory than is allowed, whatever the file claims; what we store ourselves is read."""

from __future__ import annotations

import json
import tracemalloc
from datetime import date
from itertools import product

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from faults import parquet as pqfile

from persistkit.errors import FormatError
from persistkit.formats import decode, encode


def test_a_table_that_needs_much_more_memory_than_its_size_is_refused_unless_asked_for() -> None:
    """A few bytes that describe 20 million cells are read with a raised limit only; stored by us they need none."""
    frame = pd.DataFrame({"a": np.zeros(20_000_000, "int64")})
    data = pqfile.written(frame)
    assert len(data) < 500_000
    with pytest.raises(FormatError, match="needs more than 268,435,456 bytes of memory; raise max_bytes"):
        decode(data)
    assert decode(data, max_bytes=2**30)["a"].sum() == 0
    assert decode(data, "parquet", max_bytes=2**30)["a"].sum() == 0
    with pytest.raises(FormatError, match="needs more than 1,000 bytes"):
        decode(bytes(encode(pd.DataFrame({"a": [1.5] * 100}))), max_bytes=1_000)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": np.zeros(20_000_000, "int64")}),
        pd.DataFrame({"a": np.full(20_000_000, np.nan)}),
        pd.DataFrame({"a": [date(2026, 1, 1)] * 1_100_000}),
        pd.DataFrame({"a": ["a text of a hundred characters".ljust(100)] * 1_300_000}),
        pd.DataFrame(index=pd.RangeIndex(20_000_000)),
    ],
    ids=["zeros", "gaps", "dates", "texts", "no columns"],
)
def test_a_table_that_repeats_itself_comes_back(frame: pd.DataFrame) -> None:
    """What was stored is read again without a raised limit, however few bytes it would fit."""
    pd.testing.assert_frame_equal(decode(bytes(encode(frame))), frame)


def test_a_small_file_of_repeated_text_is_read() -> None:
    """39 kB of Parquet by another writer, a million texts of eighty characters, fifty different ones, is healthy."""
    texts = [f"{n % 40:03} {'text' * 19}" for n in range(1_000_000)]
    data = pqfile.written(pd.DataFrame({"text": texts}))
    assert len(data) < 60_000
    assert decode(data)["text"].tolist() == texts


def test_text_that_is_stored_once_is_counted_as_often_as_it_occurs() -> None:
    """A text of 60 KB that a few bytes repeat a million times is refused, in a list as in a column."""
    text = pa.DictionaryArray.from_arrays(np.zeros(1_000_000, "i4"), ["x" * 60_000])
    for column in (text, pa.ListArray.from_arrays(np.arange(1_000_001, dtype="i4"), text)):
        data = pqfile.written(pa.table({"text": column}), store_schema=False, compression="zstd")
        assert len(data) < 10_000
        with pytest.raises(FormatError, match="needs more than 268,435,456 bytes"):
            decode(data)


def test_columns_that_share_their_bytes_are_damage() -> None:
    """A file whose columns are all the same few bytes would be unpacked many times over."""
    page = pqfile.page(bytes(24), 3)
    schema = [pqfile.element(b"r", children=9), *[pqfile.element(b"a", kind=pqfile.INT64)] * 9]
    group = pqfile.rows_of([pqfile.column(9 * len(page), 3)] * 9, 3)
    with pytest.raises(FormatError, match="columns overlap"):
        decode(pqfile.file(page * 9, schema, [group], 3))


def test_tables_within_the_metadata_share_the_bound() -> None:
    """Columns with categories of their own count together: what one of them may take, two may not."""
    labels = [pd.Index(np.arange(n, n + 400_000)) for n in range(2)]
    one, two = (
        pd.DataFrame({str(n): pd.Categorical.from_codes([0], labels[n]) for n in range(count)}) for count in (1, 2)
    )
    limit = 150_000_000
    assert decode(bytes(encode(one)), max_bytes=limit)["0"].cat.categories.equals(labels[0])
    with pytest.raises(FormatError, match="needs more than 150,000,000 bytes"):
        decode(bytes(encode(two)), max_bytes=limit)


def with_metadata(frame: pd.DataFrame, **metadata: object) -> bytes:
    """Return a table as Parquet with metadata of our own that says whatever it likes."""
    arrow = pa.Table.from_pandas(frame)
    about = {**arrow.schema.metadata, b"persistkit": json.dumps(metadata).encode()}
    return pqfile.written(arrow.replace_schema_metadata(about))


@pytest.mark.parametrize(
    ("where", "length"),
    [("index", 1_000_000), *product(["index", "columns", "categories"], [16_777_216, 10**15])],
)
def test_a_range_that_is_only_claimed_is_not_made(where: str, length: int) -> None:
    """A range of labels in our own metadata that the table does not have is refused before anything is made of it."""
    claimed = {"names": [None], "range": [0, length, 1]}
    frame = pd.DataFrame({f"c{n}": [0] for n in range(20)})
    cells = {"c0": {"kind": "codes", "categories": claimed, "ordered": False}}
    data = with_metadata(frame, **({"cells": cells} if where == "categories" else {where: claimed}))
    assert len(data) < 20_000
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=r"parquet|memory"):
            decode(data, max_bytes=100_000_000)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_schema_nested_too_deeply_is_refused_before_it_is_read() -> None:
    """A schema as deep as no stack is a FormatError; one of fifty levels is read."""
    for depth, refused in ((50, False), (100_000, True)):
        nodes = [pqfile.element(b"a", children=1, repetition=pqfile.OPTIONAL) for _ in range(depth)]
        schema = [pqfile.element(b"r", children=1), *nodes, pqfile.element(b"v", kind=pqfile.INT64)]
        data = pqfile.file(b"", schema, [], 0)
        if refused:
            with pytest.raises(FormatError, match="nested more than 100 levels deep"):
                decode(data)
        else:
            assert decode(data).empty
