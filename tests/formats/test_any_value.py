"""Any value of any kind that is kept, stored here and loaded in another process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from described import described
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import persistkit
from persistkit.errors import FormatError
from persistkit.formats import decode, encode, format_of

BERLIN = ZoneInfo("Europe/Berlin")
EAST = timezone(timedelta(hours=5, minutes=30, seconds=7))

texts = st.text(max_size=8) | st.sampled_from(["\ud800", "a\udfff\ud800", "[1]", "42"])
finite = st.integers() | st.floats() | texts | st.binary(max_size=8) | st.booleans()
zones: Any = st.none() | st.sampled_from([UTC, EAST, BERLIN, ZoneInfo("America/New_York")])
scalars = (
    finite | st.none() | st.complex_numbers() | st.decimals().filter(lambda number: not number.is_snan())
    | st.uuids() | st.dates() | st.timedeltas()
    | st.datetimes(timezones=zones, allow_imaginary=True) | st.times(timezones=zones)
    | st.text(st.characters(exclude_characters="\0"), max_size=6).map(Path)
    | st.builds(range, st.integers(), st.integers(), st.integers(1, 9))
    | st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=zones).map(pd.Timestamp)
    | st.timedeltas(timedelta(-9999), timedelta(9999)).map(pd.Timedelta)
)  # fmt: skip
numpy_values = npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
keys = scalars | st.tuples(scalars) | st.frozensets(finite, max_size=3)
values = st.recursive(
    scalars | numpy_values | numpy_values.filter(lambda array: array.size > 0).map(lambda array: array.flat[0]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.just("$py") | keys, inner, max_size=4)
        | st.sets(keys, max_size=4)
        | st.fixed_dictionaries({"$py": st.sampled_from(["set", "dict", "date", "tuple"]), "value": inner})
    ),
    max_leaves=12,
)
open_once = cache(persistkit.open)


def described_once_loaded(addresses: list[str], key: str) -> list[str]:
    """Load from each store, and describe what that gives."""
    return [described(open_once(address)[key]) for address in addresses]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[persistkit.Store]:
    """A directory, and a SQLite file."""
    path = tmp_path_factory.mktemp("stores")
    addresses = [str(path / "results"), f"sqlite:///{path}/state.db"]
    return [persistkit.open(addresses[0], create=True, fsync=False), persistkit.open(addresses[1], create=True)]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[ProcessPoolExecutor]:
    """Another process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield pool


@given(value=values, key=st.sampled_from(["run", "log.jsonl"]))
def test_any_value_comes_back_in_another_process(
    elsewhere: ProcessPoolExecutor, stores: list[persistkit.Store], value: Any, key: str
) -> None:
    """Nested values of every kind that is kept come back equal and of the same type in another process."""
    for store in stores:
        try:
            store[key] = value
        except FormatError as error:
            if "NaN is in it twice" in str(error):
                return
            raise
    loaded = elsewhere.submit(described_once_loaded, [store.address for store in stores], key).result()
    assert loaded == [described(value)] * len(stores)


@given(st.binary(max_size=40))
def test_any_bytes_come_back_as_the_same_bytes(data: bytes) -> None:
    """Bytes are bytes again whatever they look like; no content makes decode fail in another way than damaged."""
    assert described(decode(bytes(encode(data)))) == described(data)
    try:
        value = decode(data)
    except FormatError:
        return
    if format_of(data) == "json":
        assert described(value) == described(json.loads(data.decode().removeprefix("\ufeff")))
