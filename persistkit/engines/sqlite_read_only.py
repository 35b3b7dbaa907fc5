"""ReadOnlyDatabase: a SQLite file of any program, read without changing a byte of it or of its folder."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from errno import ENOENT
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple, TypeVar

from persistkit.errors import StorageError

__all__ = ["ReadOnlyDatabase", "connect"]

T = TypeVar("T")

# Two changes within one tick of the kernel's clock (10 ms at most) leave the same time.
_TICK_NANOSECONDS: Final = 20_000_000
_text: Final = partial(str, encoding="utf-8", errors="surrogateescape")


class _State(NamedTuple):
    """What lies there: inode, size and time of the file and of what SQLite keeps beside it; None for what does not."""

    path: str
    file: tuple[int, int, int]
    wal: tuple[int, int, int] | None
    shm: tuple[int, int, int] | None
    journal: tuple[int, int, int] | None

    def is_young(self) -> bool:
        """Tell whether a change now could leave the same times."""
        newest = max(seen[2] for seen in (self.file, self.wal, self.journal) if seen is not None)
        return abs(time.time_ns() - newest) < _TICK_NANOSECONDS


class _Opened(NamedTuple):
    connection: sqlite3.Connection
    state: _State
    is_locking: bool
    is_kept: bool


class ReadOnlyDatabase:
    """A SQLite file of any program, opened by what lies there, so that reading changes nothing.

    ``mode=ro`` alone makes ``-wal`` and ``-shm`` beside a file that was closed in WAL mode, and leaves them. So:

    * in WAL mode and closed: as a file that nobody changes (``immutable``); opened anew when somebody did.
    * ``-wal`` and ``-shm``: through the shared memory of a live writer, or of one that was killed, which is only read.
    * ``-wal`` alone: without locks, the log's index in memory; never beside a live writer, it would read torn pages.
    * in rollback mode: with ``mode=ro`` and its locks.

    What is read without locks counts only if nothing was changed meanwhile. A connection that could hold up the end of
    a writer is closed after each read. Safe for threads.

    Two changes cannot be excluded: when the last writer closes between the look at its files and the opening, SQLite
    may make an empty ``-wal``; and beside a writer of the same process it uses that writer's ``-shm``, and notes a
    reader there while the read lasts.

    Args:
        path: of the file. The programs that write it may come and go.
        check: is called with each new connection; what it raises is raised by ``run``.
    """

    def __init__(self, path: Path, check: Callable[[sqlite3.Connection], object]) -> None:
        self._path = str(path)
        self._check = check
        self._lock = Lock()
        self._opened: _Opened | None = None

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what ``work`` returns of a connection.

        Raises:
            StorageError: there is no file.
            sqlite3.Error: it cannot be read; with the code ``SQLITE_BUSY`` where that passes, because it is locked or
                was changed meanwhile.
        """
        before, opened = self._look(), None
        try:
            with self._lock:
                is_kept = False  # after an error a transaction may be open
                try:
                    if self._opened is None or self._opened.state != before:
                        self._close()
                        self._opened = opened = _open(before)
                        self._check(opened.connection)
                    opened = self._opened
                    answer = work(opened.connection)
                    is_kept = opened.is_kept
                finally:
                    if not is_kept:
                        self._close()
            if opened.is_locking or (not before.is_young() and self._look() == before):
                return answer
        except Exception as error:
            # Under locks what is not there is not there, however much is written; opening may fail in passing.
            is_sure = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR
            if (opened is not None and opened.is_locking and is_sure) or self._look() == before:
                raise
        changed = sqlite3.OperationalError("it was changed")
        changed.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise changed

    def change_token(self) -> object:
        """Return what moves with every commit of any program."""
        state = self._look()
        return (state._replace(shm=None), time.monotonic_ns() if state.is_young() else None)

    def close(self) -> None:
        """Close the connection; the next read opens one anew."""
        with self._lock:
            self._close()

    def _look(self) -> _State:
        path = self._path
        if os.path.islink(path):  # noqa: PTH114 - the other files lie beside what the link leads to
            path = os.path.realpath(path)
        file, *others = (_identity(path + suffix) for suffix in ("", "-wal", "-shm", "-journal"))
        if file is None:
            raise StorageError("there is no such file", errno=ENOENT)
        return _State(path, file, *others)

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.connection.close()
            self._opened = None


def connect(path: str, options: str) -> sqlite3.Connection:
    """Connect to a file, with options of SQLite's URIs; in autocommit, and a lock that is held is an error at once.

    Text comes as it is: what other programs call so need not be UTF-8.
    """
    address = f"{Path(path).as_uri()}?{options}"
    connection = sqlite3.connect(address, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
    connection.text_factory = _text
    return connection


def _open(state: _State) -> _Opened:
    if not state.file[1]:  # SQLite would delete a -wal beside an empty file
        return _Opened(sqlite3.connect(":memory:"), state, is_locking=False, is_kept=False)
    if state.wal is not None and state.shm is not None:
        return _Opened(connect(state.path, "mode=ro&readonly_shm=1"), state, is_locking=True, is_kept=False)
    if state.wal is not None and state.wal[1]:
        connection = connect(state.path, "mode=ro&vfs=unix-none")
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        return _Opened(connection, state, is_locking=False, is_kept=False)
    is_closed = _is_in_wal_mode(state.path)
    connection = connect(state.path, "immutable=1" if is_closed else "mode=ro")
    return _Opened(connection, state, is_locking=not is_closed, is_kept=not state.is_young())


def _is_in_wal_mode(path: str) -> bool:
    # SQLite tells: to open the file here, and close it again, would end the locks of every other connection that this
    # process has to it. Without locks it refuses WAL mode before it makes a file, and names a hot journal.
    with closing(connect(path, "mode=ro&nolock=1")) as connection:
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_CANTOPEN:
                raise
            return True
    return False


def _identity(path: str) -> tuple[int, int, int] | None:
    try:
        seen = os.stat(path)  # noqa: PTH116 - many times for each read, and a Path costs more than the call
    except FileNotFoundError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns
