"""Progress: how far work in batches is, and how large its next batch should be; reading in such batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from persistkit.engine import Engine

__all__ = ["BATCH_BYTES", "BATCH_KEYS", "Progress", "load_in_batches"]

BATCH_KEYS: Final = 500
BATCH_BYTES: Final = 32 * 1024 * 1024
SHOWN_AFTER_SECONDS: Final = 1.0

_FIRST_BATCH: Final = 64
# More are hardly faster on any engine, and how large values are shows only when they are there.
_MOST_READ: Final = 128
_QUICK_SECONDS: Final = 0.25


class Progress:
    """A bar that shows when the work takes longer than a second, and is gone when it ends.

    Batches double as long as they are quick, up to 500 keys: an early bar where the storage is slow. After a large
    value they shrink to as many of its size as make 32 MiB.

    Args:
        total: number of items, None where it cannot be known.
        doing: what the bar says.
        shown: whether to show it at all.
    """

    def __init__(self, total: int | None, doing: str, *, shown: bool = True) -> None:
        self.batch = _FIRST_BATCH
        self._total = total
        self._doing = doing
        self._shown = shown
        self._done = 0
        self._bar: Any = None  # tqdm has several bars, and no complete type
        self._began = self._last = monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def done(self, count: int, largest_bytes: int = 0) -> None:
        """Say that a batch of ``count`` items, the largest of so many bytes, has been worked on."""
        now = monotonic()
        if now - self._last < _QUICK_SECONDS:
            self.batch = min(2 * self.batch, BATCH_KEYS)
        if largest_bytes:
            self.batch = min(self.batch, max(1, BATCH_BYTES // largest_bytes))
        self._last = now
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._shown and now - self._began >= SHOWN_AFTER_SECONDS:
            from tqdm.auto import tqdm

            bar = type("Bar", (tqdm,), {"monitor_interval": 0})  # its thread would wake bars that stand still
            self._bar = bar(total=self._total, initial=self._done, desc=self._doing, unit=" keys", leave=False)


def load_in_batches(
    engine: Engine, keys: Sequence[str], progress: Progress | None = None
) -> Iterator[tuple[str, bytes | None]]:
    """Yield every key with its stored bytes, None where there is none, in order; one batch is in memory at a time."""
    progress = progress or Progress(len(keys), "loading", shown=False)
    start = 0
    while batch := keys[start : start + min(progress.batch, _MOST_READ)]:
        values = engine.batch_load(batch)
        start += len(batch)
        progress.done(len(batch), max(map(len, filter(None, values)), default=0))
        yield from zip(batch, values, strict=True)
        del values  # not both this batch and the next
