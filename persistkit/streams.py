"""Streams: what is written to an engine that has no streams of its own, kept until it is one value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import UnsupportedOperation
from tempfile import SpooledTemporaryFile
from typing import Final

from persistkit.arguments import BytesLike, check_size, check_value
from persistkit.errors import PersistenceError, StorageError

__all__ = ["SpooledWriter"]

_SPOOL_BYTES: Final = 8 * 1024 * 1024


class SpooledWriter(SpooledTemporaryFile[bytes]):
    """The bytes of a value as they are written, in memory, or in an unnamed temporary file above 8 MiB."""

    def __init__(self, key: str, limit_bytes: int | None) -> None:
        super().__init__(max_size=_SPOOL_BYTES)
        self._key = key
        self._limit_bytes = limit_bytes

    def write(self, chunk: BytesLike) -> int:  # type: ignore[override]  # narrower: no other buffers
        """Append ``chunk``; refused as soon as the value is larger than the engine takes."""
        chunk = check_value(self._key, chunk)
        check_size(self._key, self.tell() + len(chunk), self._limit_bytes)
        with self._refusals():
            return super().write(chunk)

    def seek(self, *place: int) -> int:
        """Go to another position, after everything was written."""
        with self._refusals():
            return super().seek(*place)

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend what is written; the size after it."""
        with self._refusals():
            super().truncate(self.tell() if size is None else size)
        return self.tell() if size is None else size

    def close(self) -> None:
        """Drop what is written; what could not be kept was reported before."""
        with suppress(OSError):
            super().close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def content(self) -> bytes:
        """Return everything written, as one value."""
        self.seek(0)
        with self._refusals():
            return self.read()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except (PersistenceError, UnsupportedOperation):
            raise
        except OSError as error:
            raise StorageError(
                f"save {self._key!r}: what was written could not be kept in a temporary file: "
                f"{error.strerror or error}",
                errno=error.errno,
            ) from error
