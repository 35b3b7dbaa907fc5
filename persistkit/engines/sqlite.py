"""SQLiteEngine: values in one table of a SQLite file."""

# ruff: noqa: S608 - the only name put into a statement is the table's, a plain word

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, suppress
from errno import ENOENT, ETIMEDOUT
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar
from weakref import WeakSet

from persistkit.engines.sql import SQLEngine, moment
from persistkit.engines.sqlite_read_only import BUSY, ReadOnlyDatabase, connect
from persistkit.entry import Entry
from persistkit.errors import StorageError
from persistkit.locking import HAVE_LOCKS, KeyLocks

__all__ = ["SQLiteEngine"]

T = TypeVar("T")


class SQLiteEngine(SQLEngine):
    """Values in one table of a SQLite file, for one machine.

    Promises, beyond ``Engine`` and ``SQLEngine``:

    * A save that returned is written through to the disk (WAL, ``synchronous=FULL``).
    * The system frees a ``lock`` when its holder dies; the first one makes the file ``<file>-locks`` for all of them.
    * Opened read only, neither the file nor its folder changes by one byte (``ReadOnlyDatabase``). A file without the
      table is never changed without ``create=True``.

    One connection serves all threads. It is closed before a fork, and parent and child open their own: SQLite would
    take the parent's locks for the child's, and lose what the child commits.

    Args:
        address: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.
        create: make the file and the tables if they do not exist.
        read_only: change nothing.
        table: the name of the table; stores with different tables share a file.
        timeout_seconds: how long to wait for other processes that are writing the file.

    Raises:
        StorageError: the file does not exist, and ``create`` is False.
        ValueError: the address names no file, the table's name is not a plain word, or the timeout is not above zero.

    Example:
        >>> import tempfile
        >>> engine = SQLiteEngine(f"sqlite:///{tempfile.mkdtemp()}/state.db", create=True)
        >>> engine.save("session:1", b"state")
        >>> engine.list_keys("session:")
        ['session:1']
    """

    mark = "?"
    refusals = (sqlite3.Error, OSError)
    begin = "BEGIN IMMEDIATE"
    # Other programs may write text, whose length SQLite counts in characters.
    value_column = "CAST(value AS BLOB)"
    size_column = "iif(typeof(value) = 'blob', length(value), length(CAST(value AS BLOB)))"
    modified_column = "iif(typeof(modified) = 'integer', modified, NULL)"
    concurrency = 1
    max_value_bytes = 1_000_000_000 - 8_192

    def __init__(
        self,
        address: str,
        *,
        create: bool = False,
        read_only: bool = False,
        table: str = "persistkit",
        timeout_seconds: float = 30.0,
    ) -> None:
        scheme, _, path = address.partition(":///")
        if scheme != "sqlite" or path in {"", ":memory:"}:
            raise ValueError("a SQLite address names a file, sqlite:///state.db; for values in memory open memory:")
        if "?" in path:
            raise ValueError("a SQLite address, sqlite:///state.db, takes no options after a ?; write them as keywords")
        self._path = Path(path).expanduser().absolute()
        super().__init__(table, create=create, read_only=read_only, timeout_seconds=timeout_seconds)
        self._see_file()

    def _forget(self) -> None:
        super()._forget()
        self._reader = ReadOnlyDatabase(self._path, timeout_seconds=self._timeout_seconds)
        if self._read_only:
            self._read_by = self._read_unchanged
        _engines.add(self)

    def _new_turn(self) -> AbstractContextManager[object]:
        return Lock()

    def __repr__(self) -> str:
        return f"SQLiteEngine({f'sqlite:///{self._path}'!r})"

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_reader": None, "_opened": None}

    def __del__(self) -> None:
        with suppress(AttributeError):  # the arguments were refused
            self.close()

    def close(self) -> None:
        """Close the connection; the next operation opens one anew."""
        self._reader.close()
        super().close()

    def _entries(self, prefix: str) -> Iterator[Entry]:
        yield from super()._entries(prefix)
        if not prefix:
            # A key that is text or a number, of another program: below all bytes.
            statement = f"SELECT {self.size_column}, {self.modified_column} FROM \"{self.table}\" WHERE key < x''"
            for size, modified in self._read("list keys that are not bytes", statement):
                yield Entry(None, size, moment(modified))

    def _read_range(self, key: str, start: int, size: int) -> bytes | None:
        number = f"iif(typeof(value) IN ('blob', 'text'), NULL, {self.value_column})"
        statement = f'SELECT rowid, {number} FROM "{self.table}" WHERE key = ?'

        def read(connection: sqlite3.Connection) -> bytes | None:
            connection.execute("BEGIN")  # or else the row could be another key's by the time it is opened
            row, part = connection.execute(statement, (key.encode(),)).fetchone() or (None, None)
            if part is not None:
                part = part[start : start + size]
            elif row is not None:
                with connection.blobopen(self.table, "value", row, readonly=True) as blob:
                    blob.seek(min(start, len(blob)))
                    part = blob.read(min(size, len(blob)))
            connection.execute("COMMIT")
            return part

        return self._run(f"read a part of {key!r}", read)

    def _select_many(self, columns: str, keys: list[bytes]) -> tuple[str, list[bytes]]:
        marks = ", ".join("?" * len(keys))
        return f'SELECT {columns} FROM "{self.table}" WHERE key IN ({marks})', keys

    def _lock_attempts(self, key: str) -> Generator[bool, None, None]:
        self._refuse_if_read_only(f"lock {key!r}")
        self._run(f"lock {key!r}", lambda _: None)  # which makes the file
        path = str(self._path.resolve())
        try:
            locks = KeyLocks(f"{path}-locks", path)
            yield from locks.attempts(f"{self.table}\0{key}") if HAVE_LOCKS else super()._lock_attempts(key)
        except StorageError:
            raise
        except OSError as error:
            raise self._failure(f"lock {key!r}", error)[0] from error

    def _change_token(self) -> object:
        def look(connection: sqlite3.Connection) -> object:
            # Commits of other connections, and rows changed by this one; both counts are this connection's.
            statement = "SELECT data_version, total_changes() FROM pragma_data_version"
            return self._opened, *connection.execute(statement).fetchone()

        return self._reader.change_token() if self._read_only else self._run("look for changes", look)

    def _read_unchanged(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what ``work`` returns of the file as it is; the first time look for the table."""
        if not self._is_seen:
            self._check_version(self._reader.run(self._version))
            self._is_seen = True
        return self._reader.run(work)

    def _failure(self, tried: str, error: sqlite3.Error | OSError, *_: object) -> tuple[StorageError, bool]:
        reason, number = str(error), getattr(error, "errno", None)
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in BUSY:
            reason, number = f"another process kept it locked for {self._timeout_seconds:g} s", ETIMEDOUT
        elif code == sqlite3.SQLITE_NOTADB:
            reason += "; name another"
        elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) and not self._read_only:
            reason += "; to write, file and folder must be writable; to read, open it with read_only=True"
        failure = StorageError(f"{tried} in {self!r}: {reason}", errno=number)
        failure.__cause__ = error
        return failure, code in BUSY

    def _connect(self) -> sqlite3.Connection:
        self._see_file()
        if not self._create:
            self._read_unchanged(self._version)
        connection = connect(str(self._path), "mode=rwc" if self._create else "mode=rw")
        try:
            version = self._version(connection)
            if version is not None:
                self._check_version(version)
            if connection.execute("PRAGMA journal_mode=WAL").fetchone() != ("wal",):
                raise StorageError("SQLite keeps no write-ahead log here; put the file on a local disk")
            connection.execute("PRAGMA synchronous=FULL")
            if version is None:
                for statement in (self.begin, *self._making("BLOB")):
                    connection.execute(statement)
        except BaseException:
            connection.close()
            raise
        self._opened = object()
        return connection

    def _see_file(self) -> None:
        try:
            if self._path.is_dir():
                raise StorageError(f"open {self!r}: this is a directory; name a file in it, or open the path as it is")
            if not self._create and not self._path.exists():
                raise StorageError(f"open {self!r}: there is no such file; pass create=True to make it", errno=ENOENT)
            if not self._path.parent.is_dir():
                raise StorageError(f"open {self!r}: there is no directory {str(self._path.parent)!r}; make it first")
        except StorageError:
            raise
        except OSError as error:
            raise self._failure("look for the file", error)[0] from error

    def _version(self, connection: sqlite3.Connection) -> int | None:
        there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE"
        if connection.execute(there, (self._versions.strip('"'),)).fetchone() is None:
            return None
        version: int | None = connection.execute(self._select_version).fetchone()[0]
        return version


# SQLite must not be used, nor closed, on both sides of a fork: a child that opens the same file takes over what the
# parent's memory says of its locks, does not ask for any, and the log can be deleted under its commits.
_engines: Final[WeakSet[SQLiteEngine]] = WeakSet()
_at_fork: Final[list[AbstractContextManager[object]]] = []
_forking: Final = Lock()


def _before_fork() -> None:
    _forking.acquire()
    for engine in list(_engines):
        turn = engine._turn
        turn.__enter__()
        _at_fork.append(turn)
        SQLEngine.close(engine)  # what reads only holds no locks


def _after_fork() -> None:
    while _at_fork:
        _at_fork.pop().__exit__(None, None, None)
    _forking.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
