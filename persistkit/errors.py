"""Every error persistkit raises, under one base class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from persistkit.transfer import CopyReport

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
    "TransferError",
    "ValueTooLargeError",
]


class PersistenceError(Exception):
    """Base of every error of persistkit.

    The text starts with what was tried, names the key and the place; where it does not tell all of a cause, the cause
    is kept as ``__cause__``. A notebook shows the lines of its own code only, unless ``%xmode Verbose`` asks for all.
    """

    def _render_traceback_(self) -> list[str]:
        # IPython calls this in place of its own formatter. The lines of this package do not help who mistyped a key.
        from IPython.core.getipython import get_ipython

        formatter = get_ipython().InteractiveTB  # type: ignore[union-attr]
        if formatter.mode == "Verbose":
            lines: list[str] = formatter.structured_traceback(type(self), self, self.__traceback__, tb_offset=1)
            return lines
        cause, context, suppressed = self.__cause__, self.__context__, self.__suppress_context__
        try:
            self.__cause__ = self.__context__ = None
            shown = _outside(self.__traceback__)
            return list(formatter.structured_traceback(type(self), self, shown, tb_offset=1))
        finally:
            self.__cause__, self.__context__, self.__suppress_context__ = cause, context, suppressed


def _outside(trace: TracebackType | None, called: bool = False) -> TracebackType | None:
    """Return the entries of a traceback down to the call of this package, and those of a notebook that it called."""
    if trace is None:
        return None
    name = str(trace.tb_frame.f_globals.get("__name__"))
    called = called or name.partition(".")[0] == "persistkit"
    rest = _outside(trace.tb_next, called)
    if called and name != "__main__":
        return rest
    return TracebackType(rest, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)


class InvalidKeyError(PersistenceError, ValueError):
    """The key cannot be a key: not text, too long, or with a character no engine stores. Nothing was touched."""


class KeyCollisionError(PersistenceError):
    """Two keys share one filename, as ``a?>`` and ``a>_`` do, and the other one has it. Nothing was written."""


class ValueTooLargeError(PersistenceError, ValueError):
    """The value is larger than the engine takes. Nothing was sent."""


class StorageError(PersistenceError, OSError):
    """The storage refused, is full, is gone, or did not answer in time.

    Args:
        message: what was tried, where, and what to do next.
        errno: the system's reason, where it gave one; kept as an attribute.
    """

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno

    def __reduce__(self) -> tuple[object, ...]:
        # OSError pickles its positional arguments only, and multiprocessing would lose errno. A subclass may take
        # others; an error that cannot be unpickled would hang a pool.
        return partial(StorageError, errno=self.errno), (str(self),)


class ReadOnlyError(PersistenceError):
    """The store was opened read only. Nothing was written."""


class MissingKeyError(PersistenceError, KeyError):
    """Nothing is stored under the key: the ``KeyError`` of a store.

    The key that may be meant is a note (``__notes__``): Python, IPython and pytest show it below the text when they
    print the error for a person. The text itself is made without I/O, so a program may log it at every miss.

    Args:
        key: what was asked for; kept as ``args[0]``.
        near: looks for a key like it; called once, when the notes are read.
    """

    def __init__(self, key: str, near: Callable[[], str | None] | None = None) -> None:
        super().__init__(key)
        self._near = near
        self._notes: list[str] | None = None

    def __str__(self) -> str:
        return f"{self.args[0]}: not in this store; keys() lists what is there"

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]  # made when it is first read
        if self._notes is None:
            try:
                near = None if self._near is None else self._near()
            except Exception:  # a hint must not stand in the way of the error it is for
                near = None
            self._notes = [] if near is None else [f"Did you mean {near!r}?"]
        return self._notes

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args


class ListingNotSupportedError(PersistenceError):
    """The backend cannot list its keys: it overrides no ``entries``."""


class BatchError(PersistenceError):
    """Some items of a batch failed; every other one was carried out, except in a database, where none was.

    Args:
        message: how many failed, and the first of them.
        failures: key -> the error of that key; kept as an attribute.
    """

    def __init__(self, message: str, failures: Mapping[str, Exception]) -> None:
        super().__init__(message)
        self.failures = dict(failures)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.failures)


class TransferError(PersistenceError):
    """A copy was carried out, and some of its values failed.

    Args:
        message: where it went, and the text of the report.
        report: what was copied, and why each of the others was not; kept as an attribute.
    """

    def __init__(self, message: str, report: CopyReport) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.report)


class FormatError(PersistenceError, ValueError):
    """A value cannot be turned into bytes and back unchanged, or stored bytes are damaged."""
