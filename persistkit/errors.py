"""Every error persistkit raises, under one base class."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "BatchError",
    "FormatError",
    "InvalidKeyError",
    "KeyCollisionError",
    "ListingNotSupportedError",
    "PersistenceError",
    "ReadOnlyError",
    "StorageError",
    "ValueTooLargeError",
]


class PersistenceError(Exception):
    """Base of every error of persistkit.

    The text starts with what was tried, names the key and the place; the cause is kept as ``__cause__``.
    """


class InvalidKeyError(PersistenceError, ValueError):
    """The key cannot be a key: not text, too long, or with a character no backend stores. Nothing was touched."""


class KeyCollisionError(PersistenceError):
    """Two keys share one filename and the other one holds it. Nothing was written."""


class ValueTooLargeError(PersistenceError, ValueError):
    """The value is larger than the backend takes. Nothing was sent."""


class StorageError(PersistenceError, OSError):
    """The storage refused, is full, is gone, or did not answer in time; ``errno`` keeps the system's reason."""

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno

    def __reduce__(self) -> tuple[object, ...]:
        # OSError pickles its positional arguments only, and multiprocessing would lose errno.
        return _storage_error, (str(self), self.errno)


def _storage_error(message: str, errno: int | None) -> StorageError:
    return StorageError(message, errno=errno)


class ReadOnlyError(PersistenceError):
    """The store was opened read only. Nothing was written."""


class ListingNotSupportedError(PersistenceError):
    """The backend cannot list its keys."""


class BatchError(PersistenceError):
    """Some items of a batch failed; every other one was carried out.

    Attributes:
        failures: key -> the error of that key.
    """

    def __init__(self, message: str, failures: Mapping[str, Exception]) -> None:
        super().__init__(message)
        self.failures = dict(failures)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.failures)


class FormatError(PersistenceError, ValueError):
    """A value cannot be turned into bytes and back unchanged, or stored bytes are damaged."""
