"""Progress: how far work in batches is, and how large its next batch should be."""

from __future__ import annotations

from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["Progress"]

SHOWN_AFTER_SECONDS: Final = 1.0

_FIRST_BATCH: Final = 64
_LARGEST_BATCH: Final = 500
_QUICK_SECONDS: Final = 0.25


class Progress:
    """A bar that shows when the work takes longer than a second, and is gone when it ends.

    Batches grow as long as they are quick: many at a time where the storage is near, an early bar where it is slow.

    Args:
        total: number of items, None where it cannot be known.
        doing: what the bar says.

    Example:
        >>> with Progress(100, "loading") as progress:
        ...     progress.done(progress.batch)
        ...     progress.batch
        128
    """

    def __init__(self, total: int | None, doing: str) -> None:
        self.batch = _FIRST_BATCH
        self._total = total
        self._doing = doing
        self._done = 0
        self._bar: Any = None  # tqdm has several bars, and no complete type
        self._began = self._last = monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def done(self, count: int) -> None:
        """Say that a batch of ``count`` items has been worked on."""
        now = monotonic()
        if now - self._last < _QUICK_SECONDS:
            self.batch = min(2 * self.batch, _LARGEST_BATCH)
        self._last = now
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif now - self._began >= SHOWN_AFTER_SECONDS:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=self._total, initial=self._done, desc=self._doing, unit=" keys", leave=False)
