"""SQLiteEngine: values in one table of a SQLite file."""

# ruff: noqa: S608 - the only name put into a statement is the table's, a plain word

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from errno import ENOENT, ETIMEDOUT
from itertools import starmap
from pathlib import Path
from threading import Lock
from typing import Final

from persistkit.engines.sql import SQLEngine, entry_of
from persistkit.engines.sqlite_read_only import ReadOnlyDatabase, connect
from persistkit.entry import Entry
from persistkit.errors import StorageError
from persistkit.locking import HAVE_LOCKS, KeyLocks

__all__ = ["SQLiteEngine"]

# Somebody else is writing, or starting: it passes.
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
# What a reader meets while a writer opens or closes the file, and what stays where the file cannot be read.
_STARTING: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR})
_STARTING_SECONDS: Final = 0.1
_HOT_JOURNAL: Final = 776  # SQLITE_READONLY_ROLLBACK


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
    bytes_type = "BLOB"
    is_there = "SELECT EXISTS (SELECT * FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE)"
    # A child that opens the same file takes over what the parent's memory says of its locks, does not ask for any, and
    # the log can be deleted under its commits.
    is_closed_at_fork = True
    concurrency = 1
    max_value_bytes = 1_000_000_000 - 8_192

    def _located(self, address: str) -> str:
        scheme, _, path = address.partition(":///")
        if scheme != "sqlite" or path in {"", ":memory:"}:
            raise ValueError("a SQLite address names a file, sqlite:///state.db; for values in memory open memory:")
        self._path = Path(path).expanduser().absolute()
        if "?" in path and not os.path.exists(self._path):  # noqa: PTH110 - it never raises
            raise ValueError("a SQLite address, sqlite:///state.db, takes no options after a ?; write them as keywords")
        self.place = f"sqlite:///{self._path}"
        with self._told("look for the file"):
            self._see_file()
        return self.place

    def _forget(self) -> None:
        super()._forget()
        if self._read_only:
            self._reader = ReadOnlyDatabase(self._path, self._see_table)

    def _new_turn(self) -> AbstractContextManager[object]:
        return Lock()

    def __del__(self) -> None:
        with suppress(AttributeError):  # the arguments were refused
            self.close()

    def _entries(self, prefix: str) -> Iterator[Entry]:
        yield from super()._entries(prefix)
        if not prefix:
            # A key that is text or a number, of another program: below all bytes.
            columns = f"x'ff', {self.size_column}, {self.modified_column}"
            statement = f"SELECT {columns} FROM \"{self.table}\" WHERE key < x''"
            yield from starmap(entry_of, self._read("list keys that are not bytes", statement))

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

    def _among(self, keys: list[bytes]) -> tuple[str, list[bytes]]:
        return f"IN ({', '.join('?' * len(keys))})", keys

    def _lock_attempts(self, key: str) -> Generator[bool, None, None]:
        self._refuse_if_read_only(f"lock {key!r}")
        self._run(f"lock {key!r}", lambda _: None)  # which makes the file
        path = str(self._path.resolve())
        with self._told(f"lock {key!r}"):
            locks = KeyLocks(f"{path}-locks", path)
            yield from locks.attempts(f"{self.table}\0{key}") if HAVE_LOCKS else super()._lock_attempts(key)

    def _change_token(self) -> object:
        def look(connection: sqlite3.Connection) -> object:
            # Commits of other connections, and rows changed by this one; both counts are this connection's.
            statement = "SELECT data_version, total_changes() FROM pragma_data_version"
            return connection, *connection.execute(statement).fetchone()

        if self._reader is None:
            return self._run("look for changes", look)
        with self._told("look for changes"):
            return self._reader.change_token()

    @contextmanager
    def _told(self, tried: str) -> Iterator[None]:
        """Tell errors of the system as ``_run`` does."""
        try:
            yield
        except OSError as error:
            failure, _ = self._failure(tried, error)
            raise failure from failure.__cause__

    def _failure(
        self, tried: str, error: sqlite3.Error | OSError, connection: object = None
    ) -> tuple[StorageError, float]:
        reason, number, seconds = str(error), getattr(error, "errno", None), 0.0
        code: int = getattr(error, "sqlite_errorcode", None) or 0
        kind = code & 0xFF
        if kind in _BUSY:
            seconds = self._timeout_seconds
            reason, number = f"another process kept it locked, or changed it, for {seconds:g} s", ETIMEDOUT
        elif code == _HOT_JOURNAL:
            reason = (
                "its writer ended within a transaction; let it, or the sqlite3 program, open the file and finish the "
                "rollback"
            )
        elif kind in _STARTING:
            seconds = _STARTING_SECONDS if connection is None else 0.0
            if kind != sqlite3.SQLITE_IOERR and not self._read_only:
                reason += "; to write, file and folder must be writable; to read, open it with read_only=True"
        elif kind == sqlite3.SQLITE_NOTADB:
            reason += "; name another"
        failure = StorageError(f"{tried} in {self!r}: {reason}", errno=number)
        failure.__cause__ = None if isinstance(error, StorageError) else error  # which says the same
        return failure, seconds

    def _connect(self) -> sqlite3.Connection:
        self._see_file()
        if not self._create:
            with closing(ReadOnlyDatabase(self._path, self._see_table)) as unchanged:
                unchanged.run(lambda _: None)
        connection = connect(str(self._path), "mode=rwc" if self._create else "mode=rw")
        try:
            self._see_table(connection)
            if connection.execute("PRAGMA journal_mode=WAL").fetchone() != ("wal",):
                raise StorageError("SQLite keeps no write-ahead log here; put the file on a local disk")
            connection.execute("PRAGMA synchronous=FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _see_file(self) -> None:
        if self._path.is_dir():
            raise StorageError("this is a directory; name a file in it, or open the path as it is")
        if not self._create and not self._path.exists():
            raise StorageError("there is no such file; pass create=True to make it", errno=ENOENT)
        if not self._path.parent.is_dir():
            raise StorageError(f"there is no directory {str(self._path.parent)!r}; make it first")
