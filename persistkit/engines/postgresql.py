"""SQLEngine: the connections of one event loop to a SQLite file or a PostgreSQL server."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from os import dup
from selectors import EVENT_READ, DefaultSelector
from socket import SHUT_RDWR, socket
from time import monotonic
from typing import Any, Final, Protocol
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from persistkit.backends.cancellation import settled
from persistkit.backends.sql_table import SCHEMA_VERSION, SQLTable
from persistkit.errors import StorageError

__all__ = ["SQLEngine", "SQLSession"]


def __dir__() -> list[str]:
    return __all__


_CONNECTIONS: Final = 8
# Any number, the same in every process that makes the tables at the same time.
_ADVISORY_LOCK: Final = 7_310_579_411_218_433


class SQLSession(Protocol):
    """One connection, for the statements of one operation."""

    identity: str

    async def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        """Execute one statement and return its rows, as tuples."""

    async def page(self, statement: str, parameters: Sequence[object]) -> list[Any]:
        """Execute one statement of a listing, by the order of the keys' index, and return its rows."""

    async def many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Execute one statement for each row of parameters."""

    async def close(self) -> None:
        """End the connection, and roll back what it has not committed."""


class SQLEngine:
    """SQLAlchemy's pool for one event loop, and whether the tables were seen through it.

    Args:
        url: of the database, with its asynchronous driver.
        table: the table that must be there, or is made.
        create: make the table if it does not exist.
        timeout_seconds: for each answer of a server, for a connection, and for another process's lock on SQLite.
    """

    def __init__(self, url: sa.URL, table: SQLTable, *, create: bool, timeout_seconds: float) -> None:
        self._table = table
        self._create = create
        self._timeout_seconds = timeout_seconds
        self._prepared = False
        self._preparing = asyncio.Lock()
        # SQLite waits by itself for other writers; a cut wait would leave its thread at work.
        self._wait_seconds = None if table.dialect == "sqlite" else timeout_seconds
        self._embedded = table.dialect == "sqlite"
        self._pool = _sqlite(url, timeout_seconds) if self._embedded else _postgresql(url, timeout_seconds)
        self.errors = _errors_of(table.dialect)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[SQLSession]:
        """Take a connection from the pool for the block; one that failed is closed instead of given back."""
        if not self._prepared:
            await self._prepare()
        async with asyncio.timeout(self._wait_seconds):
            pooled = await self._pool.raw_connection()
        session: SQLSession = (
            _SQLiteSession(pooled) if self._embedded else _PostgreSQLSession(pooled, self._timeout_seconds)
        )
        try:
            yield session
        except BaseException:
            pooled.detach()
            await settled(session.close())
            raise
        pooled.close()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.dispose()

    async def _prepare(self) -> None:
        """Make the tables, or see that they are there and of a version this code knows."""
        async with AsyncExitStack() as held:
            # The turn is a part of the wait: else each of many first callers would wait anew for a server that hangs.
            async with asyncio.timeout(self._wait_seconds):
                await held.enter_async_context(self._preparing)
                if self._prepared:
                    return
                connection = await self._pool.connect()
            try:
                driver: Any = (await connection.get_raw_connection()).driver_connection  # Any: either driver's
                async with _answered(driver, self._wait_seconds):
                    await self._look(connection)
            except BaseException:
                # With it goes a transaction that did not come to its COMMIT.
                await settled(connection.invalidate())
                raise
            finally:
                await settled(connection.close())
            self._prepared = True

    async def _look(self, connection: AsyncConnection) -> None:
        if self._embedded:
            await _use_wal(connection, self._timeout_seconds)
        there = await connection.run_sync(lambda sync: sa.inspect(sync).has_table(self._table.versions.name))
        if not there:
            if not self._create:
                raise StorageError(f"the database has no table {self._table.name!r}; pass create=True to make it")
            await self._make(connection)
        version = (await connection.execute(sa.select(sa.func.max(self._table.versions.c.version)))).scalar()
        if version != SCHEMA_VERSION:
            raise StorageError(
                f"the table {self._table.name!r} has version {version}, and this persistkit knows {SCHEMA_VERSION}; "
                "install a newer persistkit"
            )

    async def _make(self, connection: AsyncConnection) -> None:
        await connection.exec_driver_sql(self._table.begin)
        if not self._embedded:
            # Two sessions that create one table at the same time fail on each other's catalogue rows.
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        await connection.run_sync(self._table.metadata.create_all, checkfirst=True)
        there = sa.select(sa.literal(SCHEMA_VERSION)).where(~sa.exists(sa.select(self._table.versions)))
        await connection.execute(self._table.versions.insert().from_select(["version"], there))
        await connection.exec_driver_sql("COMMIT")


class _SQLiteSession:
    """A connection of aiosqlite: one hop to its thread for each statement."""

    def __init__(self, pooled: Any) -> None:  # Any: SQLAlchemy's face of a driver has no type
        self._driver = pooled.driver_connection
        # Counts of changes mean something for the connection that tells them only.
        self.identity: str = pooled.info.setdefault("identity", uuid4().hex)

    async def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        found: list[Any] = await self._driver.execute_fetchall(statement, parameters)
        return found

    page = rows

    async def many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        await self._driver.executemany(statement, rows)

    async def close(self) -> None:
        await self._driver.close()


class _PostgreSQLSession:
    """A connection of psycopg, with a limit of time for each statement."""

    # Snapshots are the server's, whichever connection tells them.
    identity = ""

    def __init__(self, pooled: Any, wait_seconds: float) -> None:  # Any: as above
        self._driver = pooled.driver_connection
        self._wait_seconds = wait_seconds

    async def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        async with _answered(self._driver, self._wait_seconds):
            # In binary: as text a value is twice its size, and above 512 MiB the server cannot send it.
            cursor = await self._driver.execute(statement, parameters, binary=True)
            return [] if cursor.description is None else await cursor.fetchall()

    async def page(self, statement: str, parameters: Sequence[object]) -> list[Any]:
        # Left to itself the planner sorts the whole table for each page.
        await self.rows("BEGIN")
        await self.rows("SET LOCAL enable_sort = off")
        found = await self.rows(statement, parameters)
        await self.rows("COMMIT")
        return found

    async def many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        async with _answered(self._driver, self._wait_seconds), self._driver.cursor() as cursor:
            await cursor.executemany(statement, rows)

    async def close(self) -> None:
        await self._driver.close()


def _sqlite(url: sa.URL, timeout_seconds: float) -> AsyncEngine:
    # One connection: SQLite takes one writer at a time, and its busy waiting is no queue.
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        pool_size=1,
        max_overflow=0,
        pool_timeout=None,
        pool_reset_on_return=None,
        connect_args={"timeout": timeout_seconds},
    )

    @sa.event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: object) -> None:  # Any: SQLAlchemy's face of aiosqlite has no type
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    return engine


async def _use_wal(connection: AsyncConnection, timeout_seconds: float) -> None:
    """Switch the file to its write-ahead log, once: it is the one step the busy timeout does not wait for."""
    deadline = monotonic() + timeout_seconds
    while (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() != "wal":
        try:
            await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        except sa.exc.OperationalError:
            if monotonic() > deadline:
                raise
            await asyncio.sleep(0.01)


def _postgresql(url: sa.URL, timeout_seconds: float) -> AsyncEngine:
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=timeout_seconds,
        pool_reset_on_return=None,
        connect_args={"connect_timeout": max(2, round(timeout_seconds))},
    )

    @sa.event.listens_for(engine.sync_engine, "checkout")
    def see(connection: Any, _record: object, _pooled: object) -> None:  # Any: as above
        # What a server says to an idle connection is goodbye: no question is needed to find out.
        with DefaultSelector() as selector:
            selector.register(connection.driver_connection.fileno(), EVENT_READ)
            if selector.select(0):
                raise sa.exc.DisconnectionError("the server closed the connection")

    return engine


@asynccontextmanager
async def _answered(driver: Any, seconds: float | None) -> AsyncIterator[None]:
    """Cut psycopg's connection when no answer comes in time, and raise ``TimeoutError``. Any: its types are optional.

    Cancelling instead would make psycopg ask the same server, on a new connection, to cancel the statement, and wait
    for it twice five seconds.
    """
    if seconds is None:
        yield
        return
    late = False

    def cut() -> None:
        nonlocal late
        late = True
        with socket(fileno=dup(driver.fileno())) as own:
            own.shutdown(SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(seconds, cut)
    try:
        yield
    except Exception as error:
        if late:
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()


def _errors_of(dialect: str) -> tuple[type[Exception], ...]:
    if dialect == "sqlite":
        return (sa.exc.SQLAlchemyError, OSError, sqlite3.Error)
    import psycopg

    return (sa.exc.SQLAlchemyError, OSError, psycopg.Error)
