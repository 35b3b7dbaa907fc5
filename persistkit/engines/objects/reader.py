"""ObjectReader: one object as a file, each read one request for a range."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

__all__ = ["ObjectReader"]


class ObjectReader(io.RawIOBase):
    """The ranges of one object, read where the position is."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        super().__init__()
        self._read_range = read_range
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it has positions."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, which may be beyond the end."""
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        position = origins[whence] + offset
        if position < 0:
            raise ValueError(f"a position is 0 or later, not {position}")
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:  # Any: every writable buffer
        """Fill a buffer, by one request."""
        part = self._read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def readall(self) -> bytes:
        """Return the whole rest, by one request."""
        return self._read(self._size)

    def _read(self, most: int) -> bytes:
        wanted = min(most, self._size - self._position)
        if wanted <= 0:
            return b""
        part = self._read_range(self._position, wanted)
        self._position += len(part)
        return part
