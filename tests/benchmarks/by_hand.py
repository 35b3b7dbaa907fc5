"""By hand: what a careful program does with each engine's own client, to measure persistkit against."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from time import time_ns
from typing import Any, TypeVar

import obstore
import psycopg
from contenders import gathered
from obstore.store import S3Store
from redis.asyncio import Redis

from persistkit.filenames import filename_for, keys_for

__all__ = ["Client", "Row", "by_obstore", "by_psycopg", "by_redis", "by_sqlite3"]

T = TypeVar("T")
Row = tuple[str, int, datetime | None]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COLUMNS = "(key {binary} PRIMARY KEY, size BIGINT NOT NULL, modified BIGINT NOT NULL, value {binary} NOT NULL)"
_UPSERT = (
    "INSERT INTO by_hand VALUES ({0}, {0}, {0}, {0}) ON CONFLICT (key) DO UPDATE "
    "SET size = excluded.size, modified = excluded.modified, value = excluded.value"
)
_LIST = "SELECT key, size, modified FROM by_hand ORDER BY key"
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Client:
    """The operations that are compared; ``rows`` lists key, size and time of everything."""

    save: Callable[[str, bytes], Awaitable[object]]
    load: Callable[[str], Awaitable[bytes | None]]
    batch_save: Callable[[Mapping[str, bytes]], Awaitable[object]]
    batch_load: Callable[[Sequence[str]], Awaitable[Sequence[bytes | None]]]
    list_keys: Callable[[], Awaitable[Sequence[str]]]
    rows: Callable[[], Awaitable[Sequence[Row]]]


@asynccontextmanager
async def by_sqlite3(path: Path) -> AsyncIterator[Client]:
    """Use the standard library's client, with the same durability, in one hop to a thread for each operation."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            f"CREATE TABLE by_hand {_COLUMNS.format(binary='BLOB')}",
        ):
            connection.execute(statement)
        upsert = _UPSERT.format("?")

        def save(key: str, value: bytes) -> None:
            connection.execute(upsert, _row(key, value))

        def load(key: str) -> bytes | None:
            found = connection.execute("SELECT value FROM by_hand WHERE key = ?", (key.encode(),)).fetchone()
            return None if found is None else found[0]

        def batch_save(items: Mapping[str, bytes]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(upsert, [_row(key, value) for key, value in items.items()])
            connection.execute("COMMIT")

        yield Client(
            lambda key, value: asyncio.to_thread(save, key, value),
            lambda key: asyncio.to_thread(load, key),
            lambda items: asyncio.to_thread(batch_save, items),
            lambda keys: asyncio.to_thread(lambda: [load(key) for key in keys]),
            lambda: asyncio.to_thread(
                lambda: [key.decode() for (key,) in connection.execute("SELECT key FROM by_hand ORDER BY key")]
            ),
            lambda: asyncio.to_thread(lambda: _rows(connection.execute(_LIST))),
        )


@asynccontextmanager
async def by_psycopg(address: str) -> AsyncIterator[Client]:
    """Use psycopg's asynchronous client with binary parameters and results."""
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        await connection.execute("DROP TABLE IF EXISTS by_hand")
        await connection.execute(f"CREATE TABLE by_hand {_COLUMNS.format(binary='BYTEA')}")
        upsert: Any = _UPSERT.format("%b")  # Any: psycopg takes literal text only

        async def fetched(query: Any, parameters: Any = None) -> list[Any]:
            return await (await connection.execute(query, parameters, binary=True)).fetchall()

        async def load(key: str) -> bytes | None:
            found = await fetched("SELECT value FROM by_hand WHERE key = %b", (key.encode(),))
            return found[0][0] if found else None

        async def batch_save(items: Mapping[str, bytes]) -> None:
            async with connection.transaction(), connection.cursor() as cursor:
                await cursor.executemany(upsert, [_row(key, value) for key, value in items.items()])

        async def batch_load(keys: Sequence[str]) -> list[bytes | None]:
            names = [key.encode() for key in keys]
            found = dict(await fetched("SELECT key, value FROM by_hand WHERE key = ANY(%b)", (names,)))
            return [found.get(name) for name in names]

        async def list_keys() -> list[str]:
            return [key.decode() for (key,) in await fetched("SELECT key FROM by_hand ORDER BY key")]

        async def rows() -> list[Row]:
            return _rows(await fetched(_LIST))

        yield Client(
            lambda key, value: connection.execute(upsert, _row(key, value)),
            load,
            batch_save,
            batch_load,
            list_keys,
            rows,
        )


@asynccontextmanager
async def by_redis(address: str) -> AsyncIterator[Client]:
    """Use redis-py's asynchronous client, with pipelines of a thousand commands."""
    client: Any  # Any: redis-py annotates every answer as a union of all
    async with Redis.from_url(address.replace("valkey://", "redis://")) as client:

        async def batch_save(items: Mapping[str, bytes]) -> None:
            for part in _parts(items):
                async with client.pipeline(transaction=False) as pipeline:
                    for key in part:
                        pipeline.set(f"by_hand:{key}", items[key])
                    await pipeline.execute()

        async def batch_load(keys: Sequence[str]) -> list[bytes | None]:
            return [value for part in _parts(keys) for value in await client.mget([f"by_hand:{key}" for key in part])]

        async def list_keys() -> list[str]:
            names = [name async for name in client.scan_iter(match="by_hand:*", count=_PAGE)]
            return sorted(name[8:].decode() for name in set(names))

        async def rows() -> list[Row]:
            found: list[Row] = []
            for part in _parts(await list_keys()):
                async with client.pipeline(transaction=False) as pipeline:
                    for key in part:
                        pipeline.strlen(f"by_hand:{key}")
                    found += [(key, size, None) for key, size in zip(part, await pipeline.execute(), strict=True)]
            return found

        yield Client(
            lambda key, value: client.set(f"by_hand:{key}", value),
            lambda key: client.get(f"by_hand:{key}"),
            batch_save,
            batch_load,
            list_keys,
            rows,
        )


@asynccontextmanager
async def by_obstore(store: S3Store) -> AsyncIterator[Client]:
    """Use obstore's asynchronous functions, 64 requests in flight; its listing's filenames are read as keys."""

    async def save(key: str, value: bytes) -> None:
        await obstore.put_async(store, filename_for(key), value)

    async def load(key: str) -> bytes | None:
        return bytes(await (await obstore.get_async(store, filename_for(key))).bytes_async())

    async def listed() -> Sequence[Any]:
        return await obstore.list(store).collect_async()

    async def batch_save(items: Mapping[str, bytes]) -> None:
        await gathered(lambda item: save(*item), list(items.items()))

    async def batch_load(keys: Sequence[str]) -> list[bytes | None]:
        return await gathered(load, keys)

    async def list_keys() -> list[str]:
        return sorted(key for key, _, _ in await rows())

    async def rows() -> list[Row]:
        found = await listed()
        readings = keys_for(one["path"] for one in found)
        return [
            (reading.keys[0], one["size"], one["last_modified"]) for reading, one in zip(readings, found, strict=True)
        ]

    yield Client(save, load, batch_save, batch_load, list_keys, rows)


def _row(key: str, value: bytes) -> tuple[bytes, int, int, bytes]:
    return key.encode(), len(value), time_ns() // 1000, value


def _rows(found: Any) -> list[Row]:  # Any: rows of either database
    return [(key.decode(), size, _EPOCH + modified * _MICROSECOND) for key, size, modified in found]


def _parts(keys: Any) -> Iterator[list[str]]:
    waiting = iter(keys)
    while part := list(islice(waiting, _PAGE)):
        yield part
