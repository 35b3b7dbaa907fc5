"""ListingsContract: what is stored, shown truly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from persistkit.backend import Entry, PersistenceBackend
from persistkit.errors import ListingNotSupportedError
from persistkit.filenames import filename_for
from persistkit.testing.contract import Contract, lists

__all__ = ["ListingsContract"]


def __dir__() -> list[str]:
    return __all__


_PREFIXES: Final = ("", "A", "A_", "A_%", "*", "[", "[a]", "?", "\\", "a/", "é", "missing")
_PREFIXED: Final = (
    "A_%1",
    "A_x",
    "Ab",
    "a_%1",
    "AB1",
    "*",
    "*x",
    "[",
    "[a]b",
    "a",
    "?q",
    "\\d",
    "a/b",
    "a//",
    "é",
    "e",
)


class ListingsContract(Contract):
    """A listing shows every key, once, in the order of its bytes; a prefix is literal text."""

    async def test_a_listing_shows_key_size_time_and_filename(self, backend: PersistenceBackend) -> None:
        """An entry tells the true key, the size, when it was saved and the hashed filename."""
        if not await _listing_is_tested(backend):
            return
        sizes = {"session:1": 3, "日本語": 0, "": 70_000}
        began = datetime.now(UTC) - timedelta(seconds=5)
        await backend.batch_save({key: b"x" * size for key, size in sizes.items()})
        entries = {entry.key: entry async for entry in backend.entries()}
        assert {key: entry.size for key, entry in entries.items()} == sizes
        for key, entry in entries.items():
            assert key is not None
            assert isinstance(entry, Entry)
            assert entry.filename == filename_for(key)
            assert not entry.ambiguous
            if entry.modified is not None:
                assert entry.modified.utcoffset() == timedelta(0)
                assert began <= entry.modified <= datetime.now(UTC) + timedelta(seconds=5)

    async def test_a_prefix_is_literal_text(self, backend: PersistenceBackend) -> None:
        """A prefix is what the key starts with, never a pattern, a path or another letter case."""
        if not await _listing_is_tested(backend):
            return
        await backend.batch_save(dict.fromkeys(_PREFIXED, b"value"))
        for prefix in _PREFIXES:
            expected = sorted(key for key in _PREFIXED if key.startswith(prefix))
            assert await backend.list_keys(prefix) == expected
            assert sorted([entry.key or "" async for entry in backend.entries(prefix)]) == expected

    async def test_keys_are_listed_in_the_order_of_their_bytes(self, backend: PersistenceBackend) -> None:
        """Keys come sorted by their UTF-8 bytes, not by a language and not by UTF-16."""
        if not await _listing_is_tested(backend):
            return
        ordered = ["", "A", "B", "a", "a/b", "ab", "é", "\uffee", "🦀", "🦀a"]
        await backend.batch_save(dict.fromkeys(reversed(ordered), b"value"))
        assert await backend.list_keys() == ordered

    async def test_an_empty_backend_lists_nothing(self, backend: PersistenceBackend) -> None:
        """A listing of nothing is empty, and no error."""
        if not await _listing_is_tested(backend):
            return
        assert await backend.list_keys() == []
        assert [entry async for entry in backend.entries("a")] == []
        assert await backend.key_count() == 0

    async def test_a_listing_during_writes_shows_what_stays(self, backend: PersistenceBackend) -> None:
        """While others save and delete, a listing shows each key that was there all along exactly once."""
        if not await _listing_is_tested(backend):
            return
        await backend.batch_save({f"stays:{number:04}": b"value" for number in range(1500)})
        done = asyncio.Event()

        async def disturb() -> None:
            number = 0
            while not done.is_set():
                number += 1
                await backend.batch_save({f"comes:{number}": b"value", "stays:0700": b"again"})
                await backend.batch_delete([f"comes:{number - 1}"])
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(disturb())
            seen = [entry.key or "" async for entry in _yielding(backend.entries())]
            done.set()
        stayed = sorted(key for key in seen if key.startswith("stays:"))
        assert stayed == [f"stays:{number:04}" for number in range(1500)]

    async def test_a_listing_can_be_left_early(self, backend: PersistenceBackend) -> None:
        """A listing that is not read to its end holds nothing up."""
        if not await _listing_is_tested(backend):
            return
        await backend.batch_save({f"key:{number}": b"value" for number in range(50)})
        for _ in range(20):
            listing = backend.entries()
            await anext(aiter(listing))
            close = getattr(listing, "aclose", None)
            if close is not None:
                await close()
        await backend.save("key:1", b"after")
        await self._check(backend, "key:1", b"after")


async def _listing_is_tested(backend: PersistenceBackend) -> bool:
    """Tell whether the backend lists; where it does not, see that it says so."""
    if lists(backend):
        return True
    with pytest.raises(ListingNotSupportedError):
        await backend.list_keys()
    with pytest.raises(ListingNotSupportedError):
        await backend.key_count()
    return False


async def _yielding(entries: AsyncIterator[Entry]) -> AsyncIterator[Entry]:
    async for entry in entries:
        await asyncio.sleep(0)
        yield entry
