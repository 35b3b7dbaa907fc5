"""Streams: the value of one file, read or written in chunks without await."""

from __future__ import annotations

from io import BufferedReader, BufferedWriter
from typing import TYPE_CHECKING

from persistkit.operations import BytesLike, check_value

if TYPE_CHECKING:
    from persistkit.backends.files import Files

__all__ = ["ValueReader", "ValueWriter"]


class ValueReader:
    """An open value, read in chunks."""

    def __init__(self, files: Files, key: str, file: BufferedReader, size: int) -> None:
        self._files = files
        self._key = key
        self._file = file
        self.size = size

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, the whole rest when negative, ``b""`` at the end."""
        with self._files.errors("load", self._key):
            return self._file.read(size)


class ValueWriter:
    """A value being written, in chunks."""

    def __init__(self, files: Files, key: str, file: BufferedWriter) -> None:
        self._files = files
        self._key = key
        self._file = file

    def write(self, chunk: BytesLike) -> None:
        """Append ``chunk``, in the order of its bytes, to the value."""
        chunk = check_value(self._key, chunk)
        with self._files.errors("save", self._key):
            self._file.write(chunk)
