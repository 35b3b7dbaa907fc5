"""Batches: every item is attempted, and one error tells all failures."""

from __future__ import annotations

import time
from _thread import start_new_thread
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from errno import EHOSTUNREACH, ETIMEDOUT
from itertools import islice
from math import inf
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from persistkit.arguments import BytesLike
from persistkit.errors import BatchError, StorageError

__all__ = [
    "UNANSWERED",
    "Batch",
    "attempt_chunks",
    "attempt_each",
    "chunked",
    "failures_of",
    "grouped",
    "paged",
    "raise_failures",
    "repeat_until_done",
]

Chunk = TypeVar("Chunk", bound=Collection[str])
Item = TypeVar("Item")

# A StorageError with one of these means that the server did not answer: the next key would wait as long.
UNANSWERED: Final = frozenset({EHOSTUNREACH, ETIMEDOUT})


def attempt_each(
    operation: str, keys: Iterable[str], work: Callable[[str], object], threads: int = 0, grace_seconds: float = inf
) -> None:
    """Run ``work`` on every key, each given once, as ``failures_of``; raise one ``BatchError`` for all failures."""
    listed = list(keys)
    raise_failures(operation, len(listed), failures_of(operation, listed, work, threads, grace_seconds))


def failures_of(
    operation: str, keys: list[str], work: Callable[[str], object], threads: int = 0, grace_seconds: float = inf
) -> dict[str, Exception]:
    """Run ``work`` on every key; return the failures by key.

    When the storage stops answering, the keys that are left fail without being tried. With ``threads``, so many work
    at once; after an interrupt none begins another key, and those that have begun are waited for ``grace_seconds``.
    """
    pending = iter(keys)
    batch = Batch(operation)

    def attempt() -> None:
        for key in pending:
            if batch.begins([key]):
                try:
                    work(key)
                except Exception as error:
                    batch.failed({key: error})

    if threads and len(keys) > 1:
        _run_together(attempt, min(threads, len(keys)), pending, grace_seconds)
    else:
        attempt()
    return {key: batch.failures[key] for key in keys if key in batch.failures}


def attempt_chunks(operation: str, chunks: Iterable[Chunk], work: Callable[[Chunk], dict[str, Exception]]) -> None:
    """Run ``work`` on every chunk of keys, as ``attempt_each`` does; it returns the failures it knows by key."""
    batch = Batch(operation)
    for chunk in chunks:
        if batch.begins(chunk):
            try:
                batch.failed(work(chunk))
            except StorageError as error:
                batch.failed(dict.fromkeys(chunk, error))
    batch.end()


def _run_together(work: Callable[[], None], threads: int, pending: Iterator[str], grace_seconds: float) -> None:
    # Counted in lists, because an interrupt may lose what a queue has just given.
    begun: list[None] = []
    ended: list[None] = []
    news: SimpleQueue[None] = SimpleQueue()

    def run() -> None:
        begun.append(None)
        try:
            work()
        finally:
            ended.append(None)
            news.put(None)

    def wait(count: int, limit_seconds: float) -> None:
        deadline = time.monotonic() + limit_seconds
        while len(ended) < count and time.monotonic() < deadline:
            with suppress(Empty):
                news.get(timeout=0.1)

    try:
        started = 0
        with suppress(RuntimeError):  # no thread starts while the interpreter ends, or where there are too many
            for _ in range(threads):
                start_new_thread(run, ())
                started += 1
        if not started:
            work()
        wait(started, inf)
    except BaseException:
        deadline = time.monotonic() + grace_seconds

        def end() -> None:
            for _ in pending:
                pass
            wait(len(begun), deadline - time.monotonic())

        repeat_until_done(end)
        raise


def repeat_until_done(work: Callable[[], object]) -> None:
    """Run ``work``, which cleans up and may be run again, from its start until no interrupt comes between."""
    while True:
        try:
            work()
        except KeyboardInterrupt:
            continue
        return


class Batch:
    """What has failed so far of a batch, and whether the storage has stopped answering.

    Attributes:
        failures: key -> its error.
    """

    def __init__(self, operation: str) -> None:
        self.failures: dict[str, Exception] = {}
        self._operation = operation
        self._attempted = 0
        self._unanswered: StorageError | None = None

    def begins(self, keys: Collection[str]) -> bool:
        """Tell whether these keys are to be tried; when the storage has stopped answering, they fail instead."""
        self._attempted += len(keys)
        reason = self._unanswered
        if reason is None:
            return True
        for key in keys:
            self.failures[key] = StorageError(
                f"{self._operation} {key!r}: not tried, because of: {reason}", errno=reason.errno
            )
        return False

    def failed(self, failures: Mapping[str, Exception]) -> None:
        """Note failures, and whether one of them means that the storage does not answer."""
        self.failures.update(failures)
        for error in failures.values():
            if isinstance(error, StorageError) and error.errno in UNANSWERED:
                self._unanswered = error

    def end(self) -> None:
        """Raise the one error of the batch when something failed."""
        raise_failures(self._operation, self._attempted, self.failures)


def paged(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Split items into lists of at most ``most``."""
    pending = iter(items)
    while page := list(islice(pending, most)):
        yield page


def grouped(items: Iterable[Item], size_of: Callable[[Item], int], most: int, most_size: int) -> Iterator[list[Item]]:
    """Split items into lists of at most ``most`` and together ``most_size``; a larger item comes alone.

    Example:
        >>> list(grouped(["12", "3", "4567"], len, most=5, most_size=3))
        [['12', '3'], ['4567']]
    """
    group: list[Item] = []
    size = 0
    for item in items:
        added = size_of(item)
        if group and (len(group) == most or size + added > most_size):
            yield group
            group, size = [], 0
        group.append(item)
        size += added
    if group:
        yield group


def chunked(items: Mapping[str, BytesLike], most: int, most_bytes: int) -> Iterator[dict[str, BytesLike]]:
    """Split the values of a batch as ``grouped`` does, by their bytes."""
    return map(dict, grouped(items.items(), lambda item: len(item[1]), most, most_bytes))


def raise_failures(operation: str, attempted: int, failures: dict[str, Exception]) -> None:
    """Raise the one error of a batch when some of its items failed."""
    if not failures:
        return
    key, error = next(iter(failures.items()))
    raise BatchError(
        f"{operation}: {len(failures):,} of {attempted:,} keys failed, the others were carried out; "
        f"the first: {key!r}: {error}",
        failures,
    ) from error
