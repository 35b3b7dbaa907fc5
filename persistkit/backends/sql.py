"""SQLPersistenceBackend: values in one table, of a SQLite file or a PostgreSQL server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from os import dup
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from socket import SHUT_RDWR, socket
from time import monotonic, time_ns
from typing import Any, Final
from uuid import uuid4

from persistkit.backend import Entry, PersistenceBackend
from persistkit.connections import PerLoop, settled
from persistkit.errors import BatchError, StorageError
from persistkit.filenames import filename_for
from persistkit.operations import BytesLike, Items, check_size

try:
    import sqlalchemy as sa
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
except ImportError as error:
    raise ImportError('SQL databases need more packages: pip install "persistkit[sql]"') from error

__all__ = ["SQLPersistenceBackend"]


def __dir__() -> list[str]:
    return __all__


_SCHEMA_VERSION: Final = 1
_PAGE: Final = 20_000
_STATEMENT_ROWS: Final = 500
_STATEMENT_BYTES: Final = 32 * 1024 * 1024
_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Any number, the same in every process that makes the tables at the same time.
_ADVISORY_LOCK: Final = 7_310_579_411_218_433
_SECRET: Final = ("password", "sslpassword")
_SEEN: Final = {
    "sqlite": "SELECT data_version, total_changes() FROM pragma_data_version",
    "postgresql": "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_snapshot()::text END",
}
_LIMITS: Final = {"sqlite": 1_000_000_000 - 8_192, "postgresql": 1024**3 - 8_192}


class SQLPersistenceBackend(PersistenceBackend):
    """Values in one table: of a SQLite file for one machine, of a PostgreSQL server for a team.

    Promises, beyond ``PersistenceBackend``:

    * A save that returned is committed, and survives what the database's commit survives: SQLite writes its log
      through to the disk (WAL, ``synchronous=FULL``), PostgreSQL as its ``synchronous_commit`` says.
    * A batch is one transaction: all of it is stored or deleted, or, when anything fails, nothing. Its ``BatchError``
      then names every key.
    * Cancelling waits until the statement that has begun has ended.
    * Keys are stored as bytes and ordered as bytes: no collation, no letter case, no pattern has a say.

    Readers and writers hold the whole value in memory. Several processes may share a database; the tables are made
    once, however many of them begin at the same time.

    Args:
        address: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``postgresql://user@host:5432/database``. A
            password is better left to ``PGPASSWORD`` or ``~/.pgpass``; it is never shown, and never pickled.
        create: make the file and the tables if they do not exist.
        table: the name of the table; stores with different tables share a database.
        timeout_seconds: how long to wait for the server's answer to one statement, for a connection, or for another
            process that is writing the same SQLite file.

    Raises:
        StorageError: the SQLite file does not exist, and ``create`` is False.
        ValueError: the address is neither SQLite's nor PostgreSQL's, or the table's name is not a plain word.

    Example:
        >>> import asyncio, tempfile
        >>> backend = SQLPersistenceBackend(f"sqlite:///{tempfile.mkdtemp()}/state.db", create=True)
        >>> async def main() -> list[str]:
        ...     async with backend:
        ...         await backend.save("session:1", b"state")
        ...         return await backend.list_keys("session:")
        >>> asyncio.run(main())
        ['session:1']
    """

    def __init__(
        self, address: str, *, create: bool = False, table: str = "persistkit", timeout_seconds: float = 30.0
    ) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,50}", table):
            raise ValueError(f"a table's name is at most 51 letters, digits and underscores, not {table!r}")
        self._point_at(_url(address), create, table, timeout_seconds)
        self._see_file()

    def _point_at(self, url: sa.URL, create: bool, table: str, timeout_seconds: float) -> None:
        self._url = url
        self._create = create
        self._timeout_seconds = timeout_seconds
        self._table = _Table(table, url.get_backend_name())
        self.max_value_bytes = _LIMITS[self._table.dialect]
        self._engines: PerLoop[_Engine] = PerLoop(self._open, _Engine.aclose)

    def _see_file(self) -> None:
        if self._table.dialect == "sqlite" and not self._create and not Path(str(self._url.database)).is_file():
            raise StorageError(f"open {self!r}: there is no such file; pass create=True to make it")

    def __repr__(self) -> str:
        return f"SQLPersistenceBackend({self._shown()!r})"

    def __getstate__(self) -> tuple[str, bool, str, float]:
        query = {name: value for name, value in self._url.query.items() if name not in _SECRET}
        url = self._url.set(query=query)._replace(password=None)
        return url.render_as_string(), self._create, self._table.name, self._timeout_seconds

    def __setstate__(self, state: tuple[str, bool, str, float]) -> None:
        # Nothing is looked for here: an error while a worker unpickles leaves a pool waiting for ever.
        address, create, table, timeout_seconds = state
        self._point_at(sa.make_url(address), create, table, timeout_seconds)

    def _shown(self) -> str:
        # The query may hold a password too.
        url = sa.URL.create(
            self._table.dialect, self._url.username, None, self._url.host, self._url.port, self._url.database
        )
        return url.render_as_string()

    async def save(self, key: str, value: BytesLike) -> None:
        """Store ``value`` under ``key`` in one committed statement."""
        row = _row(key, value)

        async def work() -> None:
            async with self._session(f"save {key!r}") as session:
                await session.run(self._table.upsert, row)

        await settled(work())

    async def load(self, key: str) -> bytes | None:
        """Return the value stored under ``key``, or None when there is none."""
        async with self._session(f"load {key!r}") as session:
            for (value,) in await session.run(self._table.select_value, {"key": key.encode()}):
                return bytes(value)
        return None

    async def delete(self, key: str) -> None:
        """Remove the value stored under ``key`` in one committed statement."""

        async def work() -> None:
            async with self._session(f"delete {key!r}") as session:
                await session.run(self._table.delete, {"keys": [key.encode()]})

        await settled(work())

    async def batch_save(self, items: Items) -> None:
        """Store every value in one transaction: all of them, or nothing.

        Raises:
            InvalidKeyError: one of the keys cannot be a key; nothing was stored.
            TypeError: one of the values is not bytes-like; nothing was stored.
            ValueTooLargeError: one of the values is larger than the database takes; nothing was stored.
            BatchError: the transaction failed; nothing was stored, and ``failures`` names every key.
        """
        pending = dict(items)
        for key, value in pending.items():
            check_size(key, len(value), self.max_value_bytes)

        async def statements(session: _Session) -> None:
            for part in _parts(pending):
                await session.run(self._table.upsert, [_row(key, value) for key, value in part])

        await self._transaction("batch_save", list(pending), statements)

    async def batch_load(self, keys: Iterable[str]) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, None where there is none."""
        ordered = [key.encode() for key in keys]
        loaded: dict[bytes, bytes] = {}
        asked = iter(dict.fromkeys(ordered))
        try:
            async with self._session(f"load a batch of {len(ordered):,} keys") as session:
                while part := list(islice(asked, _STATEMENT_ROWS)):
                    rows = await session.run(self._table.select_values, {"keys": part})
                    loaded.update((bytes(key), bytes(value)) for key, value in rows)
        except StorageError as error:
            raise BatchError(str(error), {key.decode(): error for key in ordered}) from error
        return [loaded.get(key) for key in ordered]

    async def batch_delete(self, keys: Iterable[str]) -> None:
        """Remove the values of ``keys`` in one transaction: all of them, or nothing."""
        pending = list(dict.fromkeys(keys))

        async def statements(session: _Session) -> None:
            asked = iter(pending)
            while part := list(islice(asked, _STATEMENT_ROWS)):
                await session.run(self._table.delete, {"keys": [key.encode() for key in part]})

        await self._transaction("batch_delete", pending, statements)

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Iterate in the order of the keys' bytes, page by page; no page is a snapshot of the next one."""
        async for page in self._pages(self._table.select_entries, prefix):
            for key, size, modified in page:
                text = bytes(key).decode()
                yield Entry(text, size, _EPOCH + modified * _MICROSECOND, filename_for(text))

    async def list_keys(self, prefix: str = "") -> list[str]:
        """Return the keys that start with ``prefix``, sorted by their bytes."""
        return [row[0].decode() async for page in self._pages(self._table.select_keys, prefix) for row in page]

    async def exists(self, key: str) -> bool:
        """Tell whether a value is stored under ``key``, without reading it."""
        async with self._session(f"look for {key!r}") as session:
            return bool(await session.run(self._table.select_one, {"key": key.encode()}))

    async def key_count(self) -> int:
        """Return how many values are stored."""
        async with self._session("count the keys") as session:
            rows = await session.run(self._table.count)
        return int(rows[0][0])

    async def change_token(self) -> object | None:
        """Return what moves with every commit that could change the table; other tables' commits move it too.

        SQLite counts the commits of other connections, and the rows changed by the one this loop keeps. PostgreSQL
        tells its snapshot: equal snapshots see the same rows. It moves with every writing transaction of the server;
        the token of a standby is None, for its snapshots do not tell. Writers pay nothing for either.
        """
        async with self._session("look for changes") as session:
            ((*seen,),) = await session.run(self._table.seen)
            seen += session.identity
        return None if None in seen else tuple(seen)

    async def aclose(self) -> None:
        """Close the connections of the running event loop; those of other loops are closed when their loops end."""
        await self._engines.aclose()

    async def _pages(self, select: sa.Select[Any], prefix: str) -> AsyncIterator[Sequence[Sequence[Any]]]:
        # Text that is not valid Unicode starts no key, and compares as bytes all the same.
        last, end = prefix.encode(errors="surrogatepass"), _after(prefix.encode(errors="surrogatepass"))
        inclusive = True
        while True:
            async with self._session(f"list keys starting with {prefix!r}") as session:
                statement = select.where(self._table.after(last, end, inclusive=inclusive))
                page = await session.run(statement)
            if page:
                yield page
            if len(page) < _PAGE:
                return
            last, inclusive = bytes(page[-1][0]), False

    async def _transaction(self, operation: str, keys: list[str], statements: Callable[[_Session], Any]) -> None:
        if not keys:
            return

        async def work() -> None:
            async with self._session(f"{operation} of {len(keys):,} keys") as session:
                await session.command(self._table.begin)
                await statements(session)
                await session.command("COMMIT")

        try:
            await settled(work())
        except StorageError as error:
            raise BatchError(f"{error}; nothing of the batch was carried out", dict.fromkeys(keys, error)) from error

    @asynccontextmanager
    async def _session(self, tried: str) -> AsyncIterator[_Session]:
        engine = self._engines.get()
        try:
            await engine.prepare()
            async with engine.connected() as connection:
                yield _Session(connection, engine.wait_seconds)
        except (sa.exc.SQLAlchemyError, OSError) as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"{tried} in {self!r}: {self._reason(error)}") from error

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout_seconds:g} s; look whether the server is up and reachable"
        reason = str(getattr(error, "orig", None) or error).strip()
        secrets = [self._url.password, *self._url.query.values()]
        for secret in secrets:
            if secret:
                reason = reason.replace(str(secret), "***")
        return reason

    def _open(self) -> _Engine:
        # SQLite would make an empty file in the place of one that is gone.
        self._see_file()
        return _Engine(self._url, self._table, create=self._create, timeout_seconds=self._timeout_seconds)


class _Session:
    """One connection of the pool, for the statements of one operation."""

    def __init__(self, connection: AsyncConnection, wait_seconds: float | None) -> None:
        self._connection = connection
        self._wait_seconds = wait_seconds

    @property
    def identity(self) -> tuple[str, ...]:
        """Tell connections apart whose counts mean something for themselves only."""
        opened: str | None = self._connection.info.get("opened")
        return () if opened is None else (opened,)

    async def run(self, statement: sa.Executable, parameters: Any = None) -> Sequence[Sequence[Any]]:
        """Execute one statement and return its rows. Any: what SQLAlchemy takes, one row's or many rows' values."""
        async with _answered(self._connection, self._wait_seconds):
            result = await self._connection.execute(statement, parameters)
            return result.all() if result.returns_rows else ()

    async def command(self, text: str) -> None:
        """Execute ``BEGIN`` or ``COMMIT``."""
        async with _answered(self._connection, self._wait_seconds):
            await self._connection.exec_driver_sql(text)


class _Engine:
    """SQLAlchemy's engine for one event loop, and whether the tables were seen through it."""

    def __init__(self, url: sa.URL, table: _Table, *, create: bool, timeout_seconds: float) -> None:
        self._table = table
        self._create = create
        self._timeout_seconds = timeout_seconds
        self._prepared = False
        self._preparing = asyncio.Lock()
        # SQLite waits by itself for other writers; a cut wait would leave its thread at work.
        self.wait_seconds = None if table.dialect == "sqlite" else timeout_seconds
        self.pool = _sqlite(url, timeout_seconds) if table.dialect == "sqlite" else _postgresql(url, timeout_seconds)

    async def prepare(self) -> None:
        """Make the tables, or see that they are there and of a version this code knows."""
        async with self._preparing:
            if self._prepared:
                return
            async with self.connected() as connection, _answered(connection, self.wait_seconds):
                await self._prepare(connection)
            self._prepared = True

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection of the pool; a transaction that did not come to its COMMIT is rolled back."""
        async with asyncio.timeout(self.wait_seconds):
            connection = await self.pool.connect()
        try:
            yield connection
        finally:
            await connection.close()

    async def _prepare(self, connection: AsyncConnection) -> None:
        if self._table.dialect == "sqlite":
            await _use_wal(connection, self._timeout_seconds)
        there = await connection.run_sync(lambda sync: sa.inspect(sync).has_table(self._table.versions.name))
        if not there:
            if not self._create:
                raise StorageError(f"the database has no table {self._table.name!r}; pass create=True to make it")
            await self._make(connection)
        version = (await connection.execute(sa.select(sa.func.max(self._table.versions.c.version)))).scalar()
        if version != _SCHEMA_VERSION:
            raise StorageError(
                f"the table {self._table.name!r} has version {version}, and this persistkit knows {_SCHEMA_VERSION}; "
                "install a newer persistkit"
            )

    async def _make(self, connection: AsyncConnection) -> None:
        await connection.exec_driver_sql(self._table.begin)
        if self._table.dialect == "postgresql":
            # Two sessions that create one table at the same time fail on each other's catalogue rows.
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        await connection.run_sync(self._table.metadata.create_all, checkfirst=True)
        await connection.execute(self._table.insert_version, {"version": _SCHEMA_VERSION})
        await connection.exec_driver_sql("COMMIT")

    async def aclose(self) -> None:
        """Close every connection."""
        await self.pool.dispose()


class _Table:
    """The table, and the statements on it, for one dialect."""

    def __init__(self, name: str, dialect: str) -> None:
        self.name = name
        self.dialect = dialect
        self.begin = "BEGIN IMMEDIATE" if dialect == "sqlite" else "BEGIN"
        self.metadata = sa.MetaData()
        # The value comes last: SQLite reads a row from its start, and a listing stops before the value's pages.
        self.rows = sa.Table(
            name,
            self.metadata,
            sa.Column("key", sa.LargeBinary, primary_key=True),
            sa.Column("size", sa.BigInteger, nullable=False),
            sa.Column("modified", sa.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
            sa.Column("value", sa.LargeBinary, nullable=False),
        )
        self.versions = sa.Table(
            f"{name}_version", self.metadata, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False)
        )
        insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
        columns = self.rows.c
        new: Any = insert(self.rows)  # Any: the two dialects' inserts share no type that has this method
        replaced = {column: new.excluded[column] for column in ("size", "modified", "value")}
        self.upsert: sa.Executable = new.on_conflict_do_update(index_elements=["key"], set_=replaced)
        version: Any = insert(self.versions)
        self.insert_version: sa.Executable = version.on_conflict_do_nothing()
        several = columns.key.in_(sa.bindparam("keys", expanding=True))
        self.delete = sa.delete(self.rows).where(several)
        self.select_value = sa.select(columns.value).where(columns.key == sa.bindparam("key"))
        self.select_one = sa.select(sa.literal(1)).where(columns.key == sa.bindparam("key"))
        self.select_values = sa.select(columns.key, columns.value).where(several)
        self.select_keys = sa.select(columns.key).order_by(columns.key).limit(_PAGE)
        self.select_entries = self.select_keys.add_columns(columns.size, columns.modified)
        self.seen = sa.text(_SEEN[dialect])
        self.count = sa.select(sa.func.count()).select_from(self.rows)

    def after(self, last: bytes, end: bytes | None, *, inclusive: bool) -> sa.ColumnElement[bool]:
        """Return the condition that a key comes after ``last`` and before ``end``."""
        key = self.rows.c.key
        begins = key >= last if inclusive else key > last
        return begins if end is None else begins & (key < end)


def _url(address: str) -> sa.URL:
    try:
        url = sa.make_url(address)
    except sa.exc.ArgumentError:
        raise ValueError("the address is not a database's; write sqlite:///state.db or postgresql://...") from None
    dialect = {"postgres": "postgresql"}.get(url.drivername, url.drivername).partition("+")[0]
    if dialect == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if dialect != "sqlite":
        raise ValueError(f"an address begins with sqlite:/// or postgresql://, not {url.drivername}://")
    if url.database in {None, "", ":memory:"}:
        raise ValueError("a SQLite address names a file, sqlite:///state.db; for values in memory open memory:")
    return url.set(drivername="sqlite+aiosqlite", database=str(Path(str(url.database)).expanduser().absolute()))


def _sqlite(url: sa.URL, timeout_seconds: float) -> AsyncEngine:
    # One connection: SQLite takes one writer at a time, and its busy waiting is no queue.
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        pool_size=1,
        max_overflow=0,
        pool_timeout=None,
        connect_args={"timeout": timeout_seconds},
    )

    @sa.event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, record: Any) -> None:  # Any: SQLAlchemy's face of aiosqlite has no type
        record.info["opened"] = uuid4().hex
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
    import psycopg
    from psycopg.pq import Format

    class BinaryCursor(psycopg.AsyncCursor[Any]):
        """Takes results in binary: as text a value is twice its size, and above 512 MiB the server cannot send it."""

        def __init__(self, connection: psycopg.AsyncConnection[Any], **options: Any) -> None:
            super().__init__(connection, **options)
            self.format = Format.BINARY

    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        pool_timeout=timeout_seconds,
        pool_pre_ping=False,
        connect_args={"connect_timeout": max(2, round(timeout_seconds)), "cursor_factory": BinaryCursor},
    )

    @sa.event.listens_for(engine.sync_engine, "checkin")
    def returned(_connection: object, record: Any) -> None:  # Any: SQLAlchemy's record of a pooled connection
        record.info["idle"] = True

    @sa.event.listens_for(engine.sync_engine, "checkout")
    def taken(_connection: object, record: Any, _proxy: object) -> None:
        # Who has asked nothing has nothing to read, but the end of a connection that died meanwhile; a ping would cost
        # every operation a round trip.
        if record.info.pop("idle", False) and _is_readable(record.driver_connection.fileno()):
            raise sa.exc.DisconnectionError("the server closed the connection")

    return engine


def _is_readable(descriptor: int) -> bool:
    with DefaultSelector() as selector:
        selector.register(descriptor, EVENT_READ)
        return bool(selector.select(0))


@asynccontextmanager
async def _answered(connection: AsyncConnection, seconds: float | None) -> AsyncIterator[None]:
    """Cut the connection when no answer comes in time, and raise ``TimeoutError``.

    Cancelling instead would make psycopg ask the same server, on a new connection, to cancel the statement, and wait
    for it twice five seconds.
    """
    if seconds is None:
        yield
        return
    driver: Any = (await connection.get_raw_connection()).driver_connection  # Any: psycopg's, by its own types optional
    late = False

    def cut() -> None:
        nonlocal late
        late = True
        with socket(fileno=dup(driver.fileno())) as own:
            own.shutdown(SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(seconds, cut)
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        if late:
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()


def _row(key: str, value: BytesLike) -> dict[str, object]:
    return {"key": key.encode(), "size": len(value), "modified": time_ns() // 1000, "value": bytes(value)}


def _parts(items: dict[str, BytesLike]) -> Iterator[list[tuple[str, BytesLike]]]:
    part: list[tuple[str, BytesLike]] = []
    size = 0
    for key, value in items.items():
        if part and (len(part) == _STATEMENT_ROWS or size + len(value) > _STATEMENT_BYTES):
            yield part
            part, size = [], 0
        part.append((key, value))
        size += len(value)
    if part:
        yield part


def _after(prefix: bytes) -> bytes | None:
    """Return the smallest bytes above all that start with ``prefix``; UTF-8 has no byte 255, so one more fits."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else None
