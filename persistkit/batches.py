"""Batches: every item is attempted, and one error tells all failures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from errno import EHOSTUNREACH, ETIMEDOUT
from itertools import islice
from typing import Final, TypeVar

from persistkit.errors import BatchError, StorageError

__all__ = ["UNANSWERED", "attempt_chunks", "attempt_each", "paged", "raise_failures", "untried"]

Chunk = TypeVar("Chunk", bound=Collection[str])

# A StorageError with one of these means that the server did not answer: the next key would wait as long.
UNANSWERED: Final = frozenset({EHOSTUNREACH, ETIMEDOUT})


def attempt_each(
    operation: str,
    keys: Iterable[str],
    work: Callable[[str], object],
    together: Callable[[Callable[[], None]], None] | None = None,
) -> None:
    """Run ``work`` on every key, and raise one error for all failures.

    When the storage stops answering, the keys that are left fail without being tried.

    Args:
        operation: what the error says was tried.
        keys: each of them once.
        work: is called with each key.
        together: runs what it is given in several threads at once, which share the keys, and returns when all have
            ended; None for the calling thread alone.

    Raises:
        BatchError: some keys failed.
    """
    listed = list(keys)
    pending = iter(listed)
    failures: dict[str, Exception] = {}
    unanswered: list[StorageError] = []

    def attempt() -> None:
        for key in pending:
            if unanswered:
                failures[key] = untried(operation, key, unanswered[0])
                continue
            try:
                work(key)
            except Exception as error:
                failures[key] = error
                if isinstance(error, StorageError) and error.errno in UNANSWERED:
                    unanswered.append(error)

    if together is None:
        attempt()
    else:
        try:
            together(attempt)
        finally:
            for _ in pending:  # after an interrupt no thread begins another key
                pass
    raise_failures(operation, len(listed), {key: failures[key] for key in listed if key in failures})


def attempt_chunks(operation: str, chunks: Iterable[Chunk], work: Callable[[Chunk], dict[str, Exception]]) -> None:
    """Run ``work`` on every chunk of keys, as ``attempt_each`` does; it returns the failures it knows by key.

    Raises:
        BatchError: some keys failed.
    """
    failures: dict[str, Exception] = {}
    unanswered: StorageError | None = None
    attempted = 0
    for chunk in chunks:
        attempted += len(chunk)
        if unanswered is not None:
            failures |= {key: untried(operation, key, unanswered) for key in chunk}
            continue
        try:
            failures |= work(chunk)
        except StorageError as error:
            failures |= dict.fromkeys(chunk, error)
            unanswered = error if error.errno in UNANSWERED else None
    raise_failures(operation, attempted, failures)


def paged(keys: Iterable[str], most: int) -> Iterator[list[str]]:
    """Split keys into lists of at most ``most``."""
    pending = iter(keys)
    while page := list(islice(pending, most)):
        yield page


def raise_failures(operation: str, attempted: int, failures: dict[str, Exception]) -> None:
    """Raise the one error of a batch when some of its items failed.

    Raises:
        BatchError: ``failures`` is not empty.
    """
    if not failures:
        return
    key, error = next(iter(failures.items()))
    raise BatchError(
        f"{operation}: {len(failures):,} of {attempted:,} keys failed, the others were carried out; "
        f"the first: {key!r}: {error}",
        failures,
    ) from error


def untried(operation: str, key: str, reason: StorageError) -> StorageError:
    """Return the error of a key that was not tried because the storage had stopped answering."""
    return StorageError(f"{operation} {key!r}: not tried, because of: {reason}", errno=reason.errno)
