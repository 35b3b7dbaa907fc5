"""Every error persistkit raises, under one base class."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = [
    "BatchError",
    "FormatError",
    "InvalidKeyError",
    "KeyCollisionError",
    "ListingNotSupportedError",
    "MissingKeyError",
    "PersistenceError",
    "ReadOnlyError",
    "StorageError",
    "ValueTooLargeError",
]


def __dir__() -> list[str]:
    return __all__


class PersistenceError(Exception):
    """Base of every error of persistkit.

    The text starts with what was tried, names the key and the place; the cause is kept as ``__cause__``.

    Example:
        >>> import persistkit
        >>> try:
        ...     persistkit.open("no such directory")
        ... except PersistenceError as error:
        ...     print(type(error).__name__)
        StorageError
    """


class InvalidKeyError(PersistenceError, ValueError):
    r"""The key cannot be a key: not text, too long, or with a character no backend stores. Nothing was touched.

    Example:
        >>> import persistkit
        >>> persistkit.open("memory:")["a\0b"] = 1
        Traceback (most recent call last):
        persistkit.errors.InvalidKeyError: a key must not contain NUL: 'a\x00b'
    """


class KeyCollisionError(PersistenceError):
    """Two keys share one filename and the other one holds it. Nothing was written.

    Example:
        >>> import persistkit, tempfile
        >>> store = persistkit.open(tempfile.mkdtemp())
        >>> store["a?>"] = 1
        >>> try:
        ...     store["a>_"] = 2
        ... except KeyCollisionError:
        ...     print(list(store))
        ['a?>']
    """


class ValueTooLargeError(PersistenceError, ValueError):
    """The value is larger than the backend takes. Nothing was sent.

    Example:
        >>> from persistkit.backends import open_backend
        >>> open_backend("redis://host").max_value_bytes
        536870912
    """


class StorageError(PersistenceError, OSError):
    """The storage refused, is full, is gone, or did not answer in time.

    Args:
        message: what was tried, where, and what to do next.
        errno: the system's reason, where it gave one; kept as an attribute.

    Example:
        >>> import errno, persistkit
        >>> try:
        ...     persistkit.FilePersistenceBackend("no such directory")
        ... except StorageError as error:
        ...     error.errno == errno.ENOENT
        True
    """

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno

    def __reduce__(self) -> tuple[object, ...]:
        # OSError pickles its positional arguments only, and multiprocessing would lose errno.
        return _storage_error, (str(self), self.errno)


def _storage_error(message: str, errno: int | None) -> StorageError:
    return StorageError(message, errno=errno)


class ReadOnlyError(PersistenceError):
    """The store was opened read only. Nothing was written.

    Example:
        >>> import persistkit
        >>> try:
        ...     persistkit.open("memory:", read_only=True)["run/1"] = 1
        ... except ReadOnlyError as error:
        ...     print(str(error).partition("; ")[2])
        to write, open it without read_only=True
    """


class MissingKeyError(PersistenceError, KeyError):
    """Nothing is stored under the key: the ``KeyError`` of a store.

    Args:
        key: what was asked for; kept as ``args[0]``.
        near: looks for a key like it. Asked when the text is, not when a caller only wants to know: ``get`` of a
            large store would list it at every miss.

    Example:
        >>> import persistkit
        >>> store = persistkit.open("memory:")
        >>> store["run/1"] = 1
        >>> store["run/2"]
        Traceback (most recent call last):
        persistkit.errors.MissingKeyError: run/2: not in this store; did you mean 'run/1'?
    """

    def __init__(self, key: str, near: Callable[[], str | None] | None = None) -> None:
        super().__init__(key)
        self._near = near

    def __str__(self) -> str:
        try:
            near = None if self._near is None else self._near()
        except PersistenceError:  # the hint is not worth a second error
            near = None
        advice = "keys() lists what is there" if near is None else f"did you mean {near!r}?"
        return f"{self.args[0]}: not in this store; {advice}"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args


class ListingNotSupportedError(PersistenceError):
    """The backend cannot list its keys: it overrides no ``entries``.

    Example:
        >>> from persistkit import BlockingBackend, PersistenceBackend
        >>> class ThreeMethods(PersistenceBackend):
        ...     async def save(self, key, value): ...
        ...     async def load(self, key): ...
        ...     async def delete(self, key): ...
        >>> BlockingBackend(ThreeMethods()).list_keys("run/")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        persistkit.errors.ListingNotSupportedError: list keys starting with 'run/': ThreeMethods cannot list its ...
    """


class BatchError(PersistenceError):
    """Some items of a batch failed; every other one was carried out, except in a database, where none was.

    Args:
        message: how many failed, and the first of them.
        failures: key -> the error of that key; kept as an attribute.

    Example:
        >>> failures = {"run/1": StorageError("save 'run/1': the disk is full")}
        >>> try:
        ...     raise BatchError("1 of 2 keys failed", failures)
        ... except BatchError as error:
        ...     list(error.failures)
        ['run/1']
    """

    def __init__(self, message: str, failures: Mapping[str, Exception]) -> None:
        super().__init__(message)
        self.failures = dict(failures)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.failures)


class FormatError(PersistenceError, ValueError):
    """A value cannot be turned into bytes and back unchanged, or stored bytes are damaged.

    Example:
        >>> import persistkit
        >>> persistkit.open("memory:")["run/1"] = {"loss": float("nan")}
        Traceback (most recent call last):
        persistkit.errors.FormatError: store 'run/1': $.loss: JSON has no nan; store None, or a NumPy array
    """
