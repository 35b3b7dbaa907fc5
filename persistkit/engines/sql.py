"""SQLEngine: what SQLite and PostgreSQL share, one table of keys and values, and the connections to it."""

# ruff: noqa: S608 - the only name put into a statement is the table's, a plain word

from __future__ import annotations

import os
import re
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat, starmap
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, TypeVar
from weakref import WeakSet

from persistkit.arguments import MAX_KEY_BYTES, BytesLike, check_timeout, key_of
from persistkit.batches import chunked, paged
from persistkit.engine import Engine
from persistkit.engines.read_only import refusal
from persistkit.entry import Entry, sorted_out
from persistkit.errors import BatchError, StorageError

if TYPE_CHECKING:
    from persistkit.engines.sqlite_read_only import ReadOnlyDatabase

__all__ = ["SQLEngine", "entry_of"]

T = TypeVar("T")
Connection: TypeAlias = Any  # the connections of both drivers are much alike, and have no type in common

_SCHEMA_VERSION: Final = 1
_PAGE_ROWS: Final = 20_000
_STATEMENT_ROWS: Final = 5_000
_STATEMENT_BYTES: Final = 32 * 1024 * 1024
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_PAUSES_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02)
_LATEST: Final = 2**63 // 1000 - 1  # the last microsecond that pandas can show


class SQLEngine(Engine):
    """Values in one table of a database, and the connections to it.

    Promises, beyond ``Engine``:

    * A batch is one transaction: all of it is stored or deleted, or, when anything fails, nothing. Its ``BatchError``
      then names every key, and says when the commit itself failed, which may be carried out all the same.
    * ``add``, ``replace`` and ``delete_unchanged`` are atomic among all programs that use the database.
    * Keys are stored as bytes and ordered as bytes. A row of another program whose key cannot be a key is listed with
      key None; sizes are those of the values, and times that cannot be are None.
    * The tables, ``table`` and ``<table>_version``, are made once, however many processes begin at the same time.

    Readers and writers hold the whole value in memory. Connections are kept for the next operation.
    """

    batch_is_transaction = True
    keeps_times = True
    is_closed_at_fork: ClassVar[bool] = False  # before a fork, which waits for connections in use
    refusals: ClassVar[tuple[type[Exception], ...]]  # the errors of the driver
    # What differs in SQL.
    mark: ClassVar[str]  # the placeholder for bytes and numbers
    begin: ClassVar[str] = "BEGIN"  # a transaction that writes
    value_column: ClassVar[str] = "value"  # as bytes, however another program stored it
    size_column: ClassVar[str] = "length(value)"  # found without reading the value
    modified_column: ClassVar[str] = "modified"  # as a number, or NULL
    locked: ClassVar[str] = ""  # ends a SELECT in a transaction: nobody changes its rows before the COMMIT
    in_rows: ClassVar[str] = "IN ({})"  # a key is one of a SELECT
    bytes_type: ClassVar[str]  # of the columns of keys and values
    is_there: ClassVar[str]  # the statement that tells whether there is a table of a name
    making_alone: ClassVar[tuple[str, ...]] = ()  # keeps others from making the tables at the same time

    def __init__(
        self,
        address: str,
        *,
        create: bool = False,
        read_only: bool = False,
        table: str = "persistkit",
        timeout_seconds: float = 30.0,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,50}", table):
            raise ValueError(f"a table's name is at most 51 letters, digits and underscores, not {table!r}")
        if create and table.lower().endswith("_version"):
            raise ValueError(f"a table cannot be named {table!r}: another table may keep its version there")
        check_timeout(timeout_seconds)
        self.table = table
        self._create = create
        self._read_only = read_only
        self._timeout_seconds = timeout_seconds
        self.place = self._located(address)
        self._columns = f"key, {self.size_column}, {self.modified_column}"
        mark = self.mark
        self._insert = f'INSERT INTO "{table}" (key, size, modified, value) VALUES ({mark}, {mark}, {mark}, {mark}) '
        self._upsert = self._insert + (
            "ON CONFLICT (key) DO UPDATE SET size = excluded.size, modified = excluded.modified, value = excluded.value"
        )
        self._select_one = f'SELECT {self.value_column} FROM "{table}" WHERE key = {mark}'
        self._forget()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place!r})"

    @abstractmethod
    def _located(self, address: str) -> str:
        """Take the address apart, and return it as it may be shown."""

    def _forget(self) -> None:
        """Begin without connections: those of a parent process are not ours to use or to close."""
        self._idle: list[Connection] = []
        self._turn = self._new_turn()
        self._reader: ReadOnlyDatabase | None = None
        _engines.add(self)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_idle": None, "_turn": None, "_reader": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        # Nothing is looked for here: an error while a worker unpickles leaves a pool waiting for ever.
        self.__dict__ |= state
        self._forget()

    def close(self) -> None:
        """Close the connections that are not in use; the next operation opens one anew."""
        if self._reader is not None:
            self._reader.close()
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _see_table(self, connection: Connection) -> None:
        """Refuse a table that is not there, unless it is to be made, and one that a later persistkit made."""
        versions = f'"{self.table}_version"'
        ((is_there,),) = connection.execute(self.is_there, (f"{self.table}_version",)).fetchall()
        if not is_there:
            if not self._create:
                advice = "" if self._read_only else "; pass create=True to make it"
                raise StorageError(f"there is no table {self.table!r}{advice}")
            # The value comes last: SQLite reads a row from its start, and a listing stops before the value's pages.
            columns = "key {0} NOT NULL, size BIGINT NOT NULL, modified BIGINT NOT NULL, value {0} NOT NULL"
            for statement in (
                self.begin,
                *self.making_alone,
                f'CREATE TABLE IF NOT EXISTS "{self.table}" ({columns.format(self.bytes_type)}, PRIMARY KEY (key))',
                f"CREATE TABLE IF NOT EXISTS {versions} (version INTEGER NOT NULL, PRIMARY KEY (version))",
                f"INSERT INTO {versions} SELECT {_SCHEMA_VERSION} WHERE NOT EXISTS (SELECT * FROM {versions})",
                "COMMIT",
            ):
                connection.execute(statement)
        ((version,),) = connection.execute(f"SELECT max(version) FROM {versions}").fetchall()
        if version != _SCHEMA_VERSION:
            raise StorageError(
                f"the table {self.table!r} has version {version}, and this persistkit knows {_SCHEMA_VERSION}; "
                "install a newer persistkit, or name another table"
            )

    @abstractmethod
    def _new_turn(self) -> AbstractContextManager[object]:
        """Return what is held while a connection is in use: it says how many may be."""

    @abstractmethod
    def _connect(self) -> Connection:
        """Open a connection, and see that the table is there."""

    @abstractmethod
    def _failure(self, tried: str, error: Any, connection: Connection | None) -> tuple[StorageError, float]:
        """Return the error to raise for one of the driver, and for how many seconds to try again before."""

    def _run(self, tried: str, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` makes of a connection; an error says what was ``tried``."""
        waits, began = None, 0.0
        while True:
            connection = None
            try:
                if self._reader is not None:
                    return self._reader.run(work)
                with self._turn:
                    try:
                        connection = self._idle.pop()
                    except IndexError:
                        connection = self._connect()
                    try:
                        return work(connection)
                    finally:
                        if connection.in_transaction:
                            connection.close()  # which rolls back
                        else:
                            self._idle.append(connection)
            except self.refusals as error:
                failure, seconds = self._failure(tried, error, connection)
            if waits is None:
                waits, began = chain(_PAUSES_SECONDS, repeat(_PAUSES_SECONDS[-1])), time.monotonic()
            if time.monotonic() - began >= seconds:
                raise failure  # outside of the except block: the driver's error is its cause only if it may be
            # The driver's own waiting would not end by Ctrl-C, and would keep other threads from reading.
            time.sleep(next(waits))

    @abstractmethod
    def _among(self, keys: list[bytes]) -> tuple[str, Sequence[object]]:
        """Return the condition that a key is one of several, without the column's name, and its parameters."""

    def _select_many(self, columns: str, keys: list[str]) -> tuple[str, Sequence[object]]:
        condition, parameters = self._among([key.encode() for key in keys])
        return f'SELECT {columns} FROM "{self.table}" WHERE key {condition}', parameters

    def _read(self, tried: str, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        return self._run(tried, lambda connection: connection.execute(statement, parameters).fetchall())

    def _write(self, tried: str, statement: str, parameters: Sequence[object]) -> bool:
        """Execute a statement that writes; tell whether it changed a row."""
        self._refuse_if_read_only(tried)
        return bool(self._run(tried, lambda connection: connection.execute(statement, parameters).rowcount))

    def _refuse_if_read_only(self, tried: str) -> None:
        if self._read_only:
            raise refusal(tried, repr(self))

    def _save(self, key: str, value: BytesLike) -> None:
        self._write(f"save {key!r}", self._upsert, _row(key, value))

    def _load(self, key: str) -> bytes | None:
        name = (key.encode(),)
        found = self._run(f"load {key!r}", lambda connection: connection.execute(self._select_one, name).fetchone())
        return None if found is None else found[0]

    _load_buffer = _load

    def _delete(self, key: str) -> None:
        self._write(f"delete {key!r}", f'DELETE FROM "{self.table}" WHERE key = {self.mark}', (key.encode(),))

    def _exists(self, key: str) -> bool:
        return bool(self._read(f"look for {key!r}", *self._select_many("1", [key])))

    def _key_count(self) -> int:
        return int(self._read("count the keys", f'SELECT count(*) FROM "{self.table}"')[0][0])

    def _add(self, key: str, value: BytesLike) -> bool:
        return self._write(f"add {key!r}", self._insert + "ON CONFLICT (key) DO NOTHING", _row(key, value))

    def _replace(self, key: str, value: BytesLike, expected: BytesLike) -> bool:
        mark = self.mark
        row = f"size = {mark}, modified = {mark}, value = {mark}"
        statement = f'UPDATE "{self.table}" SET {row} WHERE key = {mark} AND {self.value_column} = {mark}'
        return self._write(f"replace {key!r}", statement, (*_row(key, value)[1:], key.encode(), bytes(expected)))

    def _rename(self, key: str, new_key: str) -> bool:
        mark, free = self.mark, f'NOT EXISTS (SELECT 1 FROM "{self.table}" WHERE key = {self.mark})'
        statement = f'UPDATE "{self.table}" SET key = {mark} WHERE key = {mark} AND {free}'
        return self._write(f"rename {key!r}", statement, (new_key.encode(), key.encode(), new_key.encode()))

    def _batch_save(self, items: dict[str, BytesLike]) -> None:
        self._batch_save_at(items, {})

    def _batch_save_at(self, items: dict[str, BytesLike], times: Mapping[str, datetime]) -> None:
        def save(connection: Connection) -> None:
            # In one order: batches that cross would lock each other out.
            for chunk in chunked(dict(sorted(items.items())), _STATEMENT_ROWS, _STATEMENT_BYTES):
                connection.cursor().executemany(self._upsert, [_row(*item, times) for item in chunk.items()])

        self._transact(f"save a batch of {len(items):,} keys", list(items), save)

    def _batch_delete(self, keys: list[str]) -> None:
        tried = f"delete a batch of {len(keys):,} keys"
        self._transact(tried, keys, lambda connection: self._delete_many(connection, keys))

    def _delete_unchanged(self, seen: dict[str, Entry]) -> dict[str, str]:
        kept: dict[str, str] = {}

        def delete(connection: Connection) -> None:
            kept.clear()
            for chunk in paged(sorted(seen), _STATEMENT_ROWS):
                statement, parameters = self._select_many(self._columns, chunk)
                rows = connection.execute(statement + self.locked, parameters).fetchall()
                same, changed = sorted_out(seen, starmap(entry_of, rows))
                self._delete_many(connection, same)
                kept.update(changed)

        self._transact(f"delete {len(seen):,} keys", list(seen), delete)
        return kept

    def _delete_many(self, connection: Connection, keys: list[str]) -> None:
        for chunk in paged(sorted(keys), _STATEMENT_ROWS):
            statement, parameters = self._select_many("key", chunk)
            condition = self.in_rows.format(statement + self.locked)
            connection.execute(f'DELETE FROM "{self.table}" WHERE key {condition}', parameters)

    def _transact(self, tried: str, keys: list[str], work: Callable[[Connection], None]) -> None:
        is_sent = False

        def run(connection: Connection) -> None:
            nonlocal is_sent
            is_sent = False
            connection.execute(self.begin)
            work(connection)
            is_sent = True
            connection.execute("COMMIT")

        self._refuse_if_read_only(tried)
        try:
            self._run(tried, run)
        except StorageError as error:
            # Who gets no answer to a COMMIT cannot know.
            outcome = "all of the batch or nothing" if is_sent else "nothing of the batch"
            raise BatchError(f"{error}; {outcome} was carried out", dict.fromkeys(keys, error)) from error

    def _batch_load(self, keys: list[str]) -> list[bytes | None]:
        loaded = dict(self._read_many(f"load a batch of {len(keys):,} keys", f"key, {self.value_column}", keys))
        return [loaded.get(key.encode()) for key in keys]

    def _existing(self, keys: list[str]) -> set[str]:
        return {key.decode() for (key,) in self._read_many(f"look for {len(keys):,} keys", "key", keys)}

    def _read_many(self, tried: str, columns: str, keys: list[str]) -> Iterator[Any]:
        try:
            for chunk in paged(dict.fromkeys(keys), _STATEMENT_ROWS):
                yield from self._read(tried, *self._select_many(columns, chunk))
        except StorageError as error:
            raise BatchError(str(error), dict.fromkeys(keys, error)) from error

    def _entries(self, prefix: str) -> Iterator[Entry]:
        # The size is asked of the value, because other programs may write another one into the column.
        for page in self._pages(self._columns, prefix):
            for entry in starmap(entry_of, page):
                if entry.key is not None or not prefix:
                    yield entry

    def _list_keys(self, prefix: str) -> list[str]:
        return [key for page in self._pages("key", prefix) for key in _keys(page)]

    def _pages(self, columns: str, prefix: str) -> Iterator[list[Any]]:
        """Iterate over rows in the order of the keys' bytes; no page is a snapshot of the next one."""
        # Text that is not valid Unicode starts no key, and compares as bytes all the same.
        last = prefix.encode(errors="surrogatepass")
        compare, end = ">=", ""
        parameters: tuple[bytes, ...] = ()
        if prefix:
            # The smallest bytes above all that start with the prefix: UTF-8 has no byte 255, so one more fits.
            end, parameters = f"AND key < {self.mark}", (last[:-1] + bytes([last[-1] + 1]),)
        while True:
            rows = f'"{self.table}" WHERE key {compare} {self.mark} {end} ORDER BY key LIMIT {_PAGE_ROWS}'
            statement = f"SELECT {columns} FROM {rows}"
            page = self._read(f"list keys starting with {prefix!r}", statement, (last, *parameters))
            yield page
            if len(page) < _PAGE_ROWS:
                return
            last, compare = page[-1][0], ">"


def _row(key: str, value: BytesLike, times: Mapping[str, datetime] | None = None) -> tuple[bytes, int, int, bytes]:
    modified = (times[key] - _EPOCH) // _MICROSECOND if times and key in times else time.time_ns() // 1000
    return key.encode(), len(value), modified, bytes(value)


def entry_of(raw: bytes, size: int, modified: object) -> Entry:
    """Return what a row tells; key or time are None where another program wrote what cannot be one."""
    if isinstance(modified, int) and 0 <= modified <= _LATEST:
        return Entry(key_of(raw), size, _EPOCH + modified * _MICROSECOND)
    return Entry(key_of(raw), size, None)


def _keys(page: list[tuple[bytes]]) -> list[str]:
    # Decoded as one text, which takes a third of the time; where that is in doubt, one by one.
    with suppress(UnicodeDecodeError):
        keys = b"\0".join([raw for (raw,) in page]).decode().split("\0")
        if len(keys) == len(page) and max(map(len, keys)) <= MAX_KEY_BYTES // 4:
            return keys
    return [key for (raw,) in page if (key := key_of(raw)) is not None]


_engines: Final[WeakSet[SQLEngine]] = WeakSet()
_closed_at_fork: Final[list[SQLEngine]] = []
_forking: Final = Lock()


def _before_fork() -> None:
    _forking.acquire()
    for engine in list(_engines):
        if engine.is_closed_at_fork and engine._reader is None:
            engine._turn.__enter__()
            _closed_at_fork.append(engine)
            engine.close()


def _after_in_parent() -> None:
    while _closed_at_fork:
        _closed_at_fork.pop()._turn.__exit__(None, None, None)
    _forking.release()


def _after_in_child() -> None:
    _closed_at_fork.clear()
    for engine in list(_engines):
        engine._forget()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
