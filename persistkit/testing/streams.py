"""StreamsContract: large values in chunks."""

from __future__ import annotations

from typing import Final

import pytest

from persistkit.backend import PersistenceBackend
from persistkit.testing.contract import Contract, lists

__all__ = ["StreamsContract"]


def __dir__() -> list[str]:
    return __all__


_MEBIBYTE: Final = 1024 * 1024
_LARGE: Final = bytes(range(256)) * (16 * _MEBIBYTE // 256)


class StreamsContract(Contract):
    """Chunks are read and written; what a writer took appears whole or not at all."""

    async def test_a_value_is_read_in_chunks(self, backend: PersistenceBackend) -> None:
        """A reader tells the size, gives the value in chunks and then nothing, and is None for a missing key."""
        await backend.save("key", _LARGE)
        async with backend.open_reader("key") as reader:
            assert reader is not None
            assert reader.size == len(_LARGE)
            chunks = [await reader.read(5)]
            while chunk := await reader.read(3 * _MEBIBYTE):
                chunks.append(chunk)
            assert await reader.read() == b""
        assert max(map(len, chunks)) <= 3 * _MEBIBYTE
        assert b"".join(chunks) == _LARGE
        async with backend.open_reader("key") as reader:
            assert reader is not None
            assert await reader.read() == _LARGE
        async with backend.open_reader("missing") as reader:
            assert reader is None

    async def test_a_value_is_written_in_chunks(self, backend: PersistenceBackend) -> None:
        """What a writer took appears, whole, when its block ends, and not before."""
        await backend.save("key", b"old")
        async with backend.open_writer("key") as writer:
            for start in range(0, len(_LARGE), 3 * _MEBIBYTE):
                await writer.write(memoryview(_LARGE)[start : start + 3 * _MEBIBYTE])
            assert await backend.load("key") == b"old"
        await self._check(backend, "key", _LARGE)
        async with backend.open_writer("empty"):
            pass
        await self._check(backend, "empty", b"")

    async def test_a_failing_writer_leaves_the_old_value(self, backend: PersistenceBackend) -> None:
        """An exception in a writer's block discards its chunks, and nothing of them is listed."""
        await backend.save("key", b"old")
        for key in ("key", "new"):
            with pytest.raises(ZeroDivisionError):
                await _write_and_fail(backend, key)
        await self._check(backend, "key", b"old")
        await self._check(backend, "new", None)
        if lists(backend):
            assert [entry.key async for entry in backend.entries()] == ["key"]


async def _write_and_fail(backend: PersistenceBackend, key: str) -> None:
    async with backend.open_writer(key) as writer:
        await writer.write(b"half")
        raise ZeroDivisionError
