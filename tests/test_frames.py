"""Tables of what a backend holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pandas as pd
import pytest

from persistkit import Entry, MemoryPersistenceBackend, PersistenceBackend, to_frame
from persistkit.filenames import djb2
from persistkit.frames import entries_frame
from persistkit.operations import BytesLike

DTYPES = {"key": "str", "size": "int64", "modified": "datetime64[us, UTC]", "filename": "str", "hash": "str"}
MOMENT = datetime(2026, 3, 18, 10, 2, 4, 462001, tzinfo=UTC)


class ThreeMethods(PersistenceBackend):
    """A user's own backend without a blocking core; ``entries`` hands out what it was given."""

    def __init__(self, *entries: Entry) -> None:
        self._entries = entries

    async def save(self, key: str, value: BytesLike) -> None:
        """Not used here."""
        raise NotImplementedError

    async def load(self, key: str) -> bytes | None:
        """Not used here."""
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        """Not used here."""
        raise NotImplementedError

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Hand out the given entries."""
        for entry in self._entries:
            if entry.key is None or entry.key.startswith(prefix):
                yield entry


async def test_one_row_a_stored_value_sorted_by_key() -> None:
    """Every value is one row with its true key, size, time, filename and hash, sorted by key."""
    backend = MemoryPersistenceBackend()
    await backend.batch_save({"b": b"12", "a/b": b"12345", "": b""})
    frame = await to_frame(backend)
    assert frame["key"].tolist() == ["", "a/b", "b"]
    assert frame["size"].tolist() == [0, 5, 2]
    assert frame["filename"].tolist()[1] == "a_b-000000000b8855f7.bin"
    assert frame["hash"].tolist() == [f"{djb2(key):016x}" for key in ["", "a/b", "b"]]
    assert abs(frame["modified"][0] - pd.Timestamp.now("UTC")) < pd.Timedelta(seconds=60)


async def test_prefix_is_literal_text() -> None:
    """A prefix selects the keys that start with it and is no pattern."""
    backend = MemoryPersistenceBackend()
    await backend.batch_save({"a*b": b"", "axb": b"", "a*": b""})
    assert (await to_frame(backend, "a*"))["key"].tolist() == ["a*", "a*b"]


async def test_dtypes_are_pinned_also_when_empty() -> None:
    """An empty table has the columns and dtypes of a full one, so that code on it never branches."""
    full = MemoryPersistenceBackend()
    await full.save("k", b"v")
    for backend in (MemoryPersistenceBackend(), full):
        frame = await to_frame(backend)
        assert frame.dtypes.astype(str).to_dict() == DTYPES


async def test_unknown_keys_are_missing_and_come_last() -> None:
    """An entry whose key cannot be known is a row with a missing key after all known ones."""
    named = Entry("z", 1, MOMENT, "z-000000000002b61f.bin")
    unknown = Entry(None, 7, MOMENT, "_-00000000000000ff.bin")
    frame = await to_frame(ThreeMethods(unknown, named))
    assert frame["key"].isna().tolist() == [False, True]
    assert frame["hash"].tolist() == ["000000000002b61f", "00000000000000ff"]
    assert frame["modified"].tolist() == [pd.Timestamp(MOMENT)] * 2
    assert frame.dtypes.astype(str).to_dict() == DTYPES


async def test_engines_without_times_give_nat() -> None:
    """Where the engine keeps no time the column keeps its dtype and holds NaT."""
    frame = await to_frame(ThreeMethods(Entry("k", 1, None, "k-000000000002b610.bin")))
    assert frame["modified"].isna().all()
    assert frame.dtypes.astype(str).to_dict() == DTYPES


async def test_a_prefix_that_is_not_text_is_refused() -> None:
    """A prefix of another type is a TypeError before anything is listed."""
    with pytest.raises(TypeError, match="prefix must be text"):
        await to_frame(MemoryPersistenceBackend(), 3)  # type: ignore[arg-type]


def test_a_filename_that_is_not_utf8_is_shown_escaped() -> None:
    """A name on disk with bytes that are no UTF-8 is a row like any other, its odd bytes escaped."""
    frame = entries_frame([Entry(None, 1, MOMENT, "\udcff-00000000000000ff.bin")])
    assert frame["filename"].tolist() == ["\\udcff-00000000000000ff.bin"]
