"""Streams of a backend that has none: a value read from memory in chunks, and chunks spooled until they are a value."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from persistkit.errors import PersistenceError, StorageError
from persistkit.operations import BytesLike, check_size, check_value

__all__ = ["BufferedReader", "SpooledWriter", "spooled_writer"]

_SPOOL_BYTES: Final = 8 * 1024 * 1024


class BufferedReader:
    """A value in memory, read in chunks.

    Example:
        >>> import asyncio
        >>> asyncio.run(BufferedReader(b"value").read(3))
        b'val'
    """

    def __init__(self, value: bytes) -> None:
        self._rest = memoryview(value)
        self.size = len(value)

    async def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, the whole rest when negative, ``b""`` at the end."""
        end = len(self._rest) if size < 0 else size
        chunk = bytes(self._rest[:end])
        self._rest = self._rest[end:]
        return chunk


class SpooledWriter:
    """Chunks of a value, kept in memory, or in an unnamed temp file above 8 MiB."""

    # Any: the stubs of aiofiles take its spooled file for a reader.
    def __init__(self, key: str, spool: Any, limit_bytes: int | None) -> None:
        self._key = key
        self._spool = spool
        self._limit_bytes = limit_bytes
        self._size_bytes = 0

    async def write(self, chunk: BytesLike) -> None:
        """Append ``chunk``; refused as soon as the value is larger than the engine takes."""
        chunk = check_value(self._key, chunk)
        self._size_bytes += len(chunk)
        check_size(self._key, self._size_bytes, self._limit_bytes)
        with _refusals(self._key):
            await self._spool.write(chunk)

    async def value(self) -> bytes:
        """Return all chunks as one value."""
        with _refusals(self._key):
            await self._spool.seek(0)
            value: bytes = await self._spool.read()
            return value


@asynccontextmanager
async def spooled_writer(
    key: str, save: Callable[[str, bytes], Awaitable[None]], limit_bytes: int | None
) -> AsyncIterator[SpooledWriter]:
    """Spool the chunks written in the block, and ``save`` them as one value when it ends well."""
    from tempfile import SpooledTemporaryFile

    from aiofiles.tempfile.temptypes import AsyncSpooledTemporaryFile

    # Made here and not in a thread, which would leave it open behind a caller that is cancelled meanwhile.
    file: Any = SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - closed below, in a thread when on disk
    spool: Any = AsyncSpooledTemporaryFile(file, None, None)
    try:
        writer = SpooledWriter(key, spool, limit_bytes)
        yield writer
        await save(key, await writer.value())
    finally:
        await spool.close()


@contextmanager
def _refusals(key: str) -> Iterator[None]:
    try:
        yield
    except PersistenceError:
        raise
    except OSError as error:
        raise StorageError(
            f"save {key!r}: its chunks could not be kept in a temp file: {error.strerror or error}", errno=error.errno
        ) from error
