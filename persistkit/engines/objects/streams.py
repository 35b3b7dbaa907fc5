"""Object streams: one object read in ranges, one object written in parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from persistkit.operations import BytesLike, check_value

__all__ = ["PART_BYTES", "ObjectReader", "ObjectWriter"]


def __dir__() -> list[str]:
    return __all__


PART_BYTES: Final = 8 * 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024


class ObjectReader:
    """The ranges of one object, one request for each chunk."""

    def __init__(self, read_range: Callable[[int, int], Awaitable[bytes]], size: int) -> None:
        self._range = read_range
        self._position = 0
        self.size = size

    async def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, the whole rest when negative, ``b""`` at the end."""
        rest = self.size - self._position
        wanted = rest if size < 0 else min(size, rest)
        if not wanted:
            return b""
        chunk = await self._range(self._position, wanted)
        self._position += len(chunk)
        return chunk


class _Aborted(Exception):  # noqa: N818 - a signal to the upload, nobody else sees it
    """Ends an upload that must not become an object."""


class ObjectWriter:
    """Collects chunks to pieces worth a hop, and hands them on while more come: the upload makes parts of them."""

    def __init__(self, key: str, upload: Callable[[AsyncIterator[bytes]], Awaitable[None]]) -> None:
        self._key = key
        self._upload = upload
        self._collected = bytearray()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._task: asyncio.Task[None] | None = None
        self._aborted = False

    async def write(self, chunk: BytesLike) -> None:
        """Append ``chunk``; from a full part on, pieces are handed to the upload."""
        chunk = check_value(self._key, chunk)
        for start in range(0, len(chunk), _PIECE_BYTES):
            self._collected += memoryview(chunk)[start : start + _PIECE_BYTES]
            if len(self._collected) >= (PART_BYTES if self._task is None else _PIECE_BYTES):
                if self._task is None:
                    self._task = asyncio.ensure_future(self._run())
                piece = bytes(self._collected)
                self._collected.clear()
                await self._give(piece)

    async def finish(self) -> bytes | None:
        """End the upload; return everything instead when it is so little that no upload has begun."""
        if self._task is None:
            return bytes(self._collected)
        await self._give(bytes(self._collected))
        await self._give(None)
        await self._task
        return None

    async def abort(self) -> None:
        """End the upload without an object."""
        if self._task is None:
            return
        self._aborted = True
        if not self._task.done():
            await self._give(None, failing=False)
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()

    async def _run(self) -> None:
        await self._upload(self._given())

    async def _given(self) -> AsyncIterator[bytes]:
        while (part := await self._pieces.get()) is not None:
            yield part
        if self._aborted:
            raise _Aborted

    async def _give(self, part: bytes | None, *, failing: bool = True) -> None:
        """Hand a part to the upload, unless the upload has failed."""
        assert self._task is not None  # noqa: S101 - for the type checker: only called once it runs
        putting = asyncio.ensure_future(self._pieces.put(part))
        await asyncio.wait([putting, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not putting.done():
            putting.cancel()
            if failing:
                await self._task
