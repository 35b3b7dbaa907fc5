"""Trace: one debug record on the logger ``persistkit`` for each operation; values never reach the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import Final, TypeVar

__all__ = ["SILENT", "Trace", "logger", "traced", "traced_iteration"]

T = TypeVar("T")
V = TypeVar("V", bound=Sized | None)

logger = logging.getLogger("persistkit")


class Trace:
    """Times one operation and writes one debug record when it ends."""

    __slots__ = ("_key", "_operation", "_started", "size_bytes")

    def __init__(self, operation: str, key: str | None, size_bytes: int | None = None) -> None:
        self._operation = operation
        self._key = key
        self.size_bytes = size_bytes

    def __enter__(self) -> Trace:
        self._started = time.perf_counter()
        return self

    def sized(self, value: V) -> V:
        """Return ``value``, and note its size if there is one."""
        if value is not None:
            self.size_bytes = len(value)
        return value

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        told = {
            "operation": self._operation,
            "key": self._key,
            "size_bytes": self.size_bytes,
            "milliseconds": (time.perf_counter() - self._started) * 1000,
        }
        outcome = "" if kind is None else f" failed: {kind.__name__}"
        logger.debug("%s key=%r bytes=%s ms=%.3f%s", *told.values(), outcome, extra=told)


SILENT: Final = nullcontext(None)


def traced(
    operation: str, key: str | None = None, size_bytes: int | None = None
) -> AbstractContextManager[Trace | None]:
    """Trace a ``with`` block as one operation when the logger ``persistkit`` is at DEBUG; free otherwise."""
    return Trace(operation, key, size_bytes) if logger.isEnabledFor(logging.DEBUG) else SILENT


def traced_iteration(operation: str, key: str, iterator: Iterator[T]) -> Iterator[T]:
    """Trace a whole iteration as one operation when the logger ``persistkit`` is at DEBUG."""
    return _traced_iteration(operation, key, iterator) if logger.isEnabledFor(logging.DEBUG) else iterator


def _traced_iteration(operation: str, key: str, iterator: Iterator[T]) -> Iterator[T]:
    with traced(operation, key):
        yield from iterator
