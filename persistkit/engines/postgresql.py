"""PostgreSQLEngine: values in one table of a PostgreSQL server."""

# ruff: noqa: S608 - the only name put into a statement is the table's, a plain word

from __future__ import annotations

import select
import time
from collections.abc import Generator
from contextlib import AbstractContextManager
from errno import EHOSTUNREACH, ETIMEDOUT
from threading import BoundedSemaphore
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote

from persistkit.engines import shown_address
from persistkit.engines.addresses import cause_without, hidden, server_url
from persistkit.engines.sql import SQLEngine
from persistkit.errors import StorageError
from persistkit.locking import lock_number, not_in_children

try:
    import psycopg
    from psycopg import pq, waiting
    from psycopg.conninfo import conninfo_to_dict
except ImportError as error:
    raise ImportError('PostgreSQL needs one more package: pip install "persistkit[postgresql]"') from error

__all__ = ["PostgreSQLEngine"]

T = TypeVar("T")

_CONNECTIONS: Final = 8
_INTERVAL_SECONDS: Final = 0.1


class PostgreSQLEngine(SQLEngine):
    """Values in one table of a PostgreSQL server, for a team.

    Promises, beyond ``Engine`` and ``SQLEngine``:

    * A save that returned is committed, and survives what the server's ``synchronous_commit`` says.
    * A request that was interrupted or got no answer in time may still be committed, whole.

    At most eight connections, opened as they are needed, and one more for each ``lock``, which the server frees when
    that connection ends; a forked child opens its own.

    Args:
        address: ``postgresql://user@host:5432/database``, with options of libpq after a ``?``. A password is better
            left to ``PGPASSWORD`` or ``~/.pgpass``; it is never shown, and never pickled.
        create: make the tables if they do not exist.
        read_only: change nothing.
        table: the name of the table; stores with different tables share a database.
        timeout_seconds: how long the server may be silent, and how long to wait for a connection.

    Raises:
        ImportError: the package of the extra ``postgresql`` is not installed.
        ValueError: the address is not PostgreSQL's, the table's name is not a plain word, or the timeout is not above
            zero.

    Example:
        >>> PostgreSQLEngine("postgresql://me:secret@localhost/state")
        PostgreSQLEngine('postgresql://me@localhost/state')
    """

    mark = "%b"
    locked = " ORDER BY key FOR UPDATE"
    in_rows = "= ANY(ARRAY({}))"  # without the array all rows are read
    bytes_type = "BYTEA"
    is_there = "SELECT to_regclass(quote_ident(%s)) IS NOT NULL"
    # Two sessions that create one table at the same time fail on each other's catalogue rows. Any number, the same in
    # every process.
    making_alone = ("SELECT pg_advisory_xact_lock(7310579411218433)",)
    refusals = (psycopg.Error, OSError)
    max_value_bytes = 1024**3 - 8_192

    def _located(self, address: str) -> str:
        self._options = _options_of(address)
        return shown_address(address)

    def _new_turn(self) -> AbstractContextManager[object]:
        return _Turns(_CONNECTIONS, self._timeout_seconds)

    def __getstate__(self) -> dict[str, object]:
        options = {name: value for name, value in self._options.items() if not _is_secret(name)}
        return {**super().__getstate__(), "_options": options}

    def _read_range(self, key: str, start: int, size: int) -> bytes | None:
        statement = f'SELECT substring(value FROM %b FOR %b) FROM "{self.table}" WHERE key = %b'
        # PostgreSQL counts from 1, in 32 bits.
        part = (min(start, self.max_value_bytes) + 1, min(size, self.max_value_bytes))
        found = self._read(f"read a part of {key!r}", statement, (*part, key.encode()))
        return found[0][0] if found else None

    def _among(self, keys: list[bytes]) -> tuple[str, tuple[list[bytes]]]:
        return "= ANY(%b)", (keys,)

    def _change_token(self) -> object | None:
        # Equal snapshots see the same rows. Any writing transaction of the server moves it; a standby's does not tell.
        statement = "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_snapshot()::text END"
        return self._read("look for changes", statement)[0][0] or None

    def _lock_attempts(self, key: str) -> Generator[bool, None, None]:
        tried = f"lock {key!r}"
        self._refuse_if_read_only(tried)
        number = lock_number(f"{self.table}\0{key}") - 2**63  # PostgreSQL knows no unsigned ones
        own = object.__new__(PostgreSQLEngine)  # with one connection, with which the lock ends
        own.__dict__ |= self.__dict__
        own._forget()
        holder: _Connection = own._run(tried, lambda connection: connection)

        def attempt(connection: _Connection) -> bool:
            if connection is not holder:
                raise StorageError("the server has closed the connection", errno=EHOSTUNREACH)
            ((is_locked,),) = connection.execute("SELECT pg_try_advisory_lock(%b)", (number,)).fetchall()
            return bool(is_locked)

        with not_in_children(holder.fileno(), holder.close):
            while not own._run(tried, attempt):
                yield False
            yield True

    def _forget(self) -> None:
        super()._forget()
        self._idle = _Idle()

    def _failure(self, tried: str, error: psycopg.Error | OSError, *_: object) -> tuple[StorageError, float]:
        secrets = [value for name, value in self._options.items() if _is_secret(name)]
        number = None
        if isinstance(error, StorageError):
            reason, number = str(error), error.errno
        elif isinstance(error, (TimeoutError, psycopg.errors.ConnectionTimeout)):
            reason = f"no answer within {self._timeout_seconds:g} s; look whether the server is up and reachable"
            number = ETIMEDOUT
        else:
            told = error.diag.message_primary if isinstance(error, psycopg.Error) else None
            reason = hidden((told or str(error)).strip(), secrets)
            # Without a state it is not the server that speaks, or it does not let us in.
            if isinstance(error, psycopg.OperationalError) and error.sqlstate is None and "FATAL:" not in reason:
                number = EHOSTUNREACH
        failure = StorageError(f"{tried} in {self!r}: {reason}", errno=number)
        failure.__cause__ = cause_without(error, secrets)
        return failure, 0.0

    def _connect(self) -> _Connection:
        options = {"connect_timeout": max(2, round(self._timeout_seconds)), **self._options}
        connection = _Connection.connect("", autocommit=True, cursor_factory=_BinaryCursor, **options)
        connection.timeout_seconds = self._timeout_seconds
        connection.poll = select.poll()
        connection.poll.register(connection.fileno(), select.POLLIN)
        try:
            # Left to itself the planner sorts the whole table for each page of a listing.
            connection.execute("SET enable_sort = off")
            if self._read_only:
                connection.execute("SET default_transaction_read_only = on")
            self._see_table(connection)
        except BaseException:
            connection.close()
            raise
        return connection


class _Idle(list[Any]):
    """Idle connections, without those that the server has closed meanwhile."""

    def pop(self, *_: Any) -> _Connection:
        """Return the connection that was used last; IndexError if there is none."""
        while True:
            connection: _Connection = super().pop()
            if connection.is_quiet():
                return connection
            connection.close()


class _Turns(BoundedSemaphore):
    """As many turns as there may be connections; each is waited for as long as for an answer."""

    def __init__(self, count: int, timeout_seconds: float) -> None:
        super().__init__(count)
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> bool:  # type: ignore[override]  # it has a limit of time
        if not self.acquire(timeout=self._timeout_seconds):
            raise TimeoutError
        return True


class _BinaryCursor(psycopg.Cursor[Any]):
    """A cursor whose answers come in binary: as text a value is twice its size, and above 512 MiB cannot be sent."""

    def __init__(self, connection: psycopg.Connection[Any], *, row_factory: Any = None) -> None:
        super().__init__(connection, row_factory=row_factory)
        self.format = pq.Format.BINARY


class _Connection(psycopg.Connection[Any]):
    """A connection that closes itself when it is interrupted, or when the server is silent for too long."""

    timeout_seconds: float
    poll: select.poll

    def wait(self, gen: Generator[Any, Any, T], *_: object, **__: object) -> T:
        """Wait until ``gen`` has its answer. Interrupted, psycopg would ask the server, which may hang, to cancel."""
        try:
            return waiting.wait(self._limited(gen), self.pgconn.socket, _INTERVAL_SECONDS)
        except psycopg.Error:
            raise
        except BaseException:
            self.close()
            raise

    def _limited(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        deadline = time.monotonic() + self.timeout_seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    deadline = now + self.timeout_seconds
                elif now > deadline:
                    raise TimeoutError
                wanted = gen.send(ready)
        except StopIteration as stop:
            answer: T = stop.value
            return answer

    @property
    def in_transaction(self) -> bool:
        """Whether it cannot be used for another operation: something went wrong."""
        return self.pgconn.transaction_status != pq.TransactionStatus.IDLE

    def is_quiet(self) -> bool:
        """Tell whether nothing came while it was idle: a readable idle connection means that the server closed it."""
        return not self.closed and not self.poll.poll(0)

    def __del__(self, *_: object) -> None:
        """Say nothing: the socket is closed with it, unless it is a parent's."""


def _options_of(address: str) -> dict[str, Any]:
    """Return the parameters of libpq that an address gives. Any: it takes text and numbers."""
    url = server_url(address)
    if url.scheme not in ("postgresql", "postgres"):
        raise ValueError(f"a PostgreSQL address is postgresql://host:5432/database, not {url.scheme}://...")
    try:
        return dict(conninfo_to_dict(address))
    except psycopg.Error as error:
        secrets = [url.password, unquote(url.password or ""), *(value for _, value in parse_qsl(url.query))]
        reason = hidden(str(error).strip(), secrets)
    raise ValueError(f"open {shown_address(address)!r}: {reason}")


def _is_secret(name: str) -> bool:
    return "password" in name or "secret" in name or name.startswith("scram")
