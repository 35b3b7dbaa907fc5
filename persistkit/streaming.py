"""Streaming: a value as a file object, and parts of it."""

from __future__ import annotations

import io
from abc import ABC
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import IO, ClassVar, Final

from persistkit.arguments import BytesLike, check_key
from persistkit.trace import traced

__all__ = ["Streaming"]

_FARTHEST: Final = 2**50  # beyond every value, and what every engine can count to


class Streaming(ABC):
    """The part of an engine for values that are not loaded or saved in one piece; the defaults do it in one piece."""

    max_value_bytes: int | None = None
    keeps_times: ClassVar[bool] = False
    _save: Callable[[str, BytesLike], None]
    _batch_save_at: Callable[[dict[str, BytesLike], Mapping[str, datetime]], None]
    _load: Callable[[str], bytes | None]

    def _read_range(self, key: str, start: int, size: int) -> bytes | None:
        value = self._load(key)
        return None if value is None else value[start : start + size]

    def _open_reader(self, key: str) -> io.BufferedIOBase | None:
        value = self._load(key)
        return None if value is None else io.BytesIO(value)

    def _open_writer(self, key: str) -> AbstractContextManager[IO[bytes]]:
        return self._open_writer_at(key, None)

    @contextmanager
    def _open_writer_at(self, key: str, time: datetime | None) -> Iterator[IO[bytes]]:
        from persistkit.streams import SpooledWriter  # here, because few write streams, and tempfile imports much

        with SpooledWriter(key, self.max_value_bytes) as writer:
            yield writer
            if time is None:
                self._save(key, writer.content())
            else:
                self._batch_save_at({key: writer.content()}, {key: time})

    def read_range(self, key: str, start: int, size: int) -> bytes | None:
        """Return at most ``size`` bytes of the value from position ``start`` on; None when there is no value.

        Shorter than ``size`` at the end of the value, empty beyond it.

        Raises:
            ValueError: ``start`` or ``size`` is negative.
            StorageError: the storage refused, is gone or did not answer.
        """
        check_key(key)
        if start < 0 or size < 0:
            raise ValueError(f"a range starts at 0 or later and has 0 bytes or more, not start {start} and size {size}")
        with traced("read_range", key, size):
            return self._read_range(key, min(start, _FARTHEST), min(size, _FARTHEST))

    def open_reader(self, key: str) -> io.BufferedIOBase | None:
        """Open the value of ``key`` as a readable, seekable file object; None when there is none. Close it after use.

        Raises:
            StorageError: the storage refused, is gone or did not answer; reading raises it too.
        """
        check_key(key)
        with traced("open_reader", key):
            return self._open_reader(key)

    def open_writer(self, key: str, *, time: datetime | None = None) -> AbstractContextManager[IO[bytes]]:
        """Return a context manager of a writable file object: ``with engine.open_writer(key) as file``.

        The value appears, whole, when the block ends; an exception in the block discards it and leaves what was
        stored. The default keeps what is written, on disk above 8 MiB, and saves it as one value at the end. ``time``
        is when the value was saved, as in ``Engine.batch_save``.

        Raises:
            KeyCollisionError: another key owns the place of this one.
            ValueTooLargeError: the value grew larger than the engine takes.
            StorageError: the storage refused, is full, is gone or did not answer.
        """
        check_key(key)
        return self._open_writer_at(key, time) if time and self.keeps_times else self._open_writer(key)
