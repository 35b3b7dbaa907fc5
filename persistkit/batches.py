"""Batches: every item is attempted, and one error tells all failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from errno import EHOSTUNREACH, ETIMEDOUT
from typing import Final

from persistkit.errors import BatchError, StorageError

__all__ = ["UNANSWERED", "attempt_each", "raise_failures"]

# A StorageError with one of these means that the server did not answer: the next key would wait as long.
UNANSWERED: Final = frozenset({EHOSTUNREACH, ETIMEDOUT})


def attempt_each(operation: str, keys: Iterable[str], work: Callable[[str], object]) -> None:
    """Run ``work`` on every key, and raise one error for all failures.

    When the storage stops answering, the keys that are left fail without being tried.

    Raises:
        BatchError: some keys failed.
    """
    failures: dict[str, Exception] = {}
    unanswered: StorageError | None = None
    attempted = 0
    for key in keys:
        attempted += 1
        if unanswered is not None:
            failures[key] = StorageError(
                f"{operation} {key!r}: not tried, because of: {unanswered}", errno=unanswered.errno
            )
            continue
        try:
            work(key)
        except Exception as error:
            failures[key] = error
            if isinstance(error, StorageError) and error.errno in UNANSWERED:
                unanswered = error
    raise_failures(operation, attempted, failures)


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
