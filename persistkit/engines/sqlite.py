"""SQLPersistenceBackend: values in one table, of a SQLite file or a PostgreSQL server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from errno import ETIMEDOUT
from importlib import import_module
from itertools import islice
from pathlib import Path
from time import time_ns
from typing import Any, Final

from persistkit.backend import Entry, PersistenceBackend
from persistkit.backends.addresses import hidden, server_url
from persistkit.backends.cancellation import settled
from persistkit.backends.connections import PerLoop
from persistkit.errors import BatchError, StorageError
from persistkit.operations import BytesLike, Items, check_size, check_timeout, in_parts

_MISSING: Final = 'SQL databases need more packages: pip install "persistkit[sql]"'

try:
    import sqlalchemy as sa

    from persistkit.backends.sql_engine import SQLEngine, SQLSession
    from persistkit.backends.sql_table import SQLTable
except ImportError as error:
    raise ImportError(_MISSING) from error

__all__ = ["SQLPersistenceBackend"]


def __dir__() -> list[str]:
    return __all__


_PAGE: Final = 20_000
_STATEMENT_ROWS: Final = 5_000
_STATEMENT_BYTES: Final = 32 * 1024 * 1024
_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DRIVERS: Final = {"sqlite": "aiosqlite", "postgresql": "psycopg"}
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
        ImportError: the packages of the extra ``sql`` are not installed.
        StorageError: the SQLite file does not exist, and ``create`` is False.
        ValueError: the address is neither SQLite's nor PostgreSQL's, the table's name is not a plain word, or the
            timeout is not above zero.

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
        check_timeout(timeout_seconds)
        self._point_at(_url(address), create, table, timeout_seconds)
        self._see_file()

    def _point_at(self, url: sa.URL, create: bool, table: str, timeout_seconds: float) -> None:
        self._url = url
        self._create = create
        self._timeout_seconds = timeout_seconds
        self._table = SQLTable(table, url.get_backend_name())
        try:
            import_module(_DRIVERS[self._table.dialect])
        except ImportError as error:
            raise ImportError(_MISSING) from error
        self.max_value_bytes = _LIMITS[self._table.dialect]
        self._engines: PerLoop[SQLEngine] = PerLoop(self._open, SQLEngine.aclose)

    def _see_file(self) -> None:
        if self._table.dialect != "sqlite":
            return
        file = Path(str(self._url.database))
        if not self._create and not file.exists():
            raise StorageError(f"open {self!r}: there is no such file; pass create=True to make it")
        if file.is_dir():
            raise StorageError(f"open {self!r}: this is a directory; name a file in it, or open the path as it is")
        if not file.parent.is_dir():
            raise StorageError(f"open {self!r}: there is no directory {str(file.parent)!r}; make it first")

    def __repr__(self) -> str:
        return f"SQLPersistenceBackend({self._shown()!r})"

    def __getstate__(self) -> tuple[str, bool, str, float]:
        query = {name: value for name, value in self._url.query.items() if "password" not in name}
        url = self._url.set(query=query)._replace(password=None)
        return url.render_as_string(), self._create, self._table.name, self._timeout_seconds

    def __setstate__(self, state: tuple[str, bool, str, float]) -> None:
        # Nothing is looked for here: an error while a worker unpickles leaves a pool waiting for ever.
        address, create, table, timeout_seconds = state
        self._point_at(sa.make_url(address), create, table, timeout_seconds)

    def _shown(self) -> str:
        if self._table.dialect == "sqlite":
            return f"sqlite:///{self._url.database}"
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
                await session.rows(self._table.upsert, row)

        await settled(work())

    async def load(self, key: str) -> bytes | None:
        """Return the value stored under ``key``, or None when there is none."""
        async with self._session(f"load {key!r}") as session:
            found = await session.rows(self._table.select_value, (key.encode(),))
        return found[0][0] if found else None

    async def delete(self, key: str) -> None:
        """Remove the value stored under ``key`` in one committed statement."""

        async def work() -> None:
            async with self._session(f"delete {key!r}") as session:
                await session.rows(self._table.delete, (key.encode(),))

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

        async def statements(session: SQLSession) -> None:
            for part in in_parts(dict(sorted(pending.items())), _STATEMENT_ROWS, _STATEMENT_BYTES):
                await session.many(self._table.upsert, [_row(key, value) for key, value in part.items()])

        await self._transaction("batch_save", list(pending), statements)

    async def batch_load(self, keys: Iterable[str]) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, None where there is none."""
        ordered = [key.encode() for key in keys]
        loaded: dict[bytes, bytes] = {}
        asked = iter(dict.fromkeys(ordered))
        try:
            async with self._session(f"load a batch of {len(ordered):,} keys") as session:
                while part := list(islice(asked, _STATEMENT_ROWS)):
                    loaded.update(await session.rows(*self._table.select_values(part)))
        except StorageError as error:
            raise BatchError(str(error), {key.decode(): error for key in ordered}) from error
        return [loaded.get(key) for key in ordered]

    async def batch_delete(self, keys: Iterable[str]) -> None:
        """Remove the values of ``keys`` in one transaction: all of them, or nothing."""
        pending = list(dict.fromkeys(keys))

        async def statements(session: SQLSession) -> None:
            await session.many(self._table.delete, [(key.encode(),) for key in sorted(pending)])

        await self._transaction("batch_delete", pending, statements)

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Iterate in the order of the keys' bytes, page by page; no page is a snapshot of the next one."""
        async for page in self._pages("key, size, modified", prefix):
            for key, size, modified in page:
                yield Entry(key.decode(), size, _EPOCH + modified * _MICROSECOND)

    async def list_keys(self, prefix: str = "") -> list[str]:
        """Return the keys that start with ``prefix``, sorted by their bytes."""
        return [key.decode() async for page in self._pages("key", prefix) for (key,) in page]

    async def exists(self, key: str) -> bool:
        """Tell whether a value is stored under ``key``, without reading it."""
        async with self._session(f"look for {key!r}") as session:
            return bool(await session.rows(self._table.select_one, (key.encode(),)))

    async def key_count(self) -> int:
        """Return how many values are stored."""
        async with self._session("count the keys") as session:
            ((count,),) = await session.rows(self._table.count)
        return int(count)

    async def change_token(self) -> object | None:
        """Return what moves with every commit that could change the table; other tables' commits move it too.

        SQLite counts the commits of other connections, and the rows changed by the one this loop keeps. PostgreSQL
        tells its snapshot: equal snapshots see the same rows. It moves with every writing transaction of the server;
        the token of a standby is None, for its snapshots do not tell. Writers pay nothing for either.
        """
        async with self._session("look for changes") as session:
            (seen,) = await session.rows(self._table.seen)
        return None if seen == (None,) else (session.identity, *seen)

    async def aclose(self) -> None:
        """Close the connections of the running event loop; those of other loops are closed when their loops end."""
        await self._engines.aclose()

    async def _pages(self, columns: str, prefix: str) -> AsyncIterator[list[Any]]:
        # Text that is not valid Unicode starts no key, and compares as bytes all the same.
        last, end = prefix.encode(errors="surrogatepass"), _after(prefix.encode(errors="surrogatepass"))
        inclusive = True
        while True:
            async with self._session(f"list keys starting with {prefix!r}") as session:
                page = await session.page(*self._table.select_page(columns, last, end, _PAGE, inclusive=inclusive))
            if page:
                yield page
            if len(page) < _PAGE:
                return
            last, inclusive = page[-1][0], False

    async def _transaction(self, operation: str, keys: list[str], statements: Callable[[SQLSession], Any]) -> None:
        if not keys:
            return

        async def work() -> None:
            async with self._session(f"{operation} of {len(keys):,} keys") as session:
                await session.rows(self._table.begin)
                await statements(session)
                await session.rows("COMMIT")

        try:
            await settled(work())
        except StorageError as error:
            raise BatchError(f"{error}; nothing of the batch was carried out", dict.fromkeys(keys, error)) from error

    @asynccontextmanager
    async def _session(self, tried: str) -> AsyncIterator[SQLSession]:
        engine = self._engines.get()
        try:
            async with engine.session() as session:
                yield session
        except engine.errors as error:
            if isinstance(error, StorageError):
                raise
            late = ETIMEDOUT if isinstance(error, TimeoutError) else None
            raise StorageError(f"{tried} in {self!r}: {self._reason(error)}", errno=late) from error

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout_seconds:g} s; look whether the server is up and reachable"
        query = self._url.normalized_query
        secrets = [value for name in query if "password" in name for value in query[name]]
        reason = hidden(str(getattr(error, "orig", None) or error).strip(), [self._url.password, *secrets])
        return "the file is not a database; name another" if reason == "file is not a database" else reason

    def _open(self) -> SQLEngine:
        # SQLite would make an empty file in the place of one that is gone.
        self._see_file()
        return SQLEngine(self._url, self._table, create=self._create, timeout_seconds=self._timeout_seconds)


def _url(address: str) -> sa.URL:
    try:
        url = sa.make_url(address)
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError("an address is sqlite:///state.db or postgresql://host:5432/database") from None
    dialect = {"postgres": "postgresql"}.get(url.drivername, url.drivername).partition("+")[0]
    if dialect == "postgresql":
        server_url(address)
        return url.set(drivername="postgresql+psycopg")
    if dialect != "sqlite":
        raise ValueError(f"an address begins with sqlite:/// or postgresql://, not {url.drivername}://")
    # As it is: SQLAlchemy 2.1 would take %20 in it for a space, and 2.0 does not.
    path = address.partition(":///")[2]
    if path in {"", ":memory:"}:
        raise ValueError("a SQLite address names a file, sqlite:///state.db; for values in memory open memory:")
    if "?" in address:
        raise ValueError("a SQLite address, sqlite:///state.db, takes no options after a ?; write them as keywords")
    return url.set(drivername="sqlite+aiosqlite", database=str(Path(path).expanduser().absolute()))


def _row(key: str, value: BytesLike) -> tuple[bytes, int, int, bytes]:
    return key.encode(), len(value), time_ns() // 1000, bytes(value)


def _after(prefix: bytes) -> bytes | None:
    """Return the smallest bytes above all that start with ``prefix``; UTF-8 has no byte 255, so one more fits."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else None
