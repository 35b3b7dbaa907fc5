"""Contenders: persistkit, the bare loop it is measured against, and its neighbours, behind one set of operations."""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiofiles
import aiofiles.os
import diskcache
from key_value.aio.stores.disk import DiskStore
from obstore.store import LocalStore as ObjectStore
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore as ArrayStore

from persistkit import FilePersistenceBackend, to_frame

__all__ = ["AIOFILES", "CONTENDERS", "PERSISTKIT", "YARDSTICK", "Contender", "Operations"]

T = TypeVar("T")
R = TypeVar("R")

YARDSTICK = "bare loop"
PERSISTKIT = "persistkit"
AIOFILES = "aiofiles"

# As many single operations in flight as persistkit's own default for batches.
_IN_FLIGHT = 64
# diskcache puts large values in files beside its database and never syncs those: durable values stay in the database.
_NO_FILES_BESIDE = 2**31


@dataclass(frozen=True, slots=True)
class Operations:
    """What one contender offers on one directory; None where it has no such operation."""

    save: Callable[[str, bytes], object] | None = None
    load: Callable[[str], Any] | None = None
    await_save: Callable[[str, bytes], Awaitable[object]] | None = None
    await_load: Callable[[str], Awaitable[Any]] | None = None
    batch_save: Callable[[dict[str, bytes]], Awaitable[object]] | None = None
    batch_load: Callable[[list[str]], Awaitable[Sequence[Any]]] | None = None
    list_keys: Callable[[], Awaitable[Sequence[object]]] | None = None
    to_frame: Callable[[], Awaitable[Any]] | None = None


@dataclass(frozen=True, slots=True)
class Contender:
    """A name in the table, and how to open it on a directory: ``open(directory, fsync)``.

    ``syncs`` tells whether the contender leaves the choice of fsync; without it, it runs with fsync off only.
    """

    name: str
    open: Callable[[Path, bool], AbstractContextManager[Operations]]
    syncs: bool


async def gathered(work: Callable[[T], Awaitable[R]], arguments: Sequence[T]) -> list[R]:
    """Return the results of ``work`` on every argument, in order, a bounded number in flight."""
    results: list[Any] = [None] * len(arguments)
    waiting = iter(enumerate(arguments))

    async def drain() -> None:
        for position, argument in waiting:
            results[position] = await work(argument)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(_IN_FLIGHT, len(arguments))):
            tasks.create_task(drain())
    return results


def sync_directory(directory: str) -> None:
    """Make the renames in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def bare_save(root: str, name: str, value: bytes, *, fsync: bool) -> None:
    """Make the system calls of one atomic save, and nothing else."""
    temp = f"{root}/.{name}.tmp"
    descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    os.write(descriptor, value)
    if fsync:
        os.fsync(descriptor)
    os.close(descriptor)
    os.replace(temp, f"{root}/{name}")


def bare_load(root: str, name: str) -> bytes:
    """Make the system calls of one load, and nothing else."""
    descriptor = os.open(f"{root}/{name}", os.O_RDONLY)
    value = os.read(descriptor, os.fstat(descriptor).st_size)
    os.close(descriptor)
    return value


@contextmanager
def open_bare(directory: Path, fsync: bool) -> Iterator[Operations]:
    """The yardstick: the same system calls one after the other, no checks, no hashed names."""
    root = str(directory)

    def save(key: str, value: bytes) -> None:
        bare_save(root, key, value, fsync=fsync)
        if fsync:
            sync_directory(root)

    async def list_keys() -> list[str]:
        return os.listdir(root)

    yield Operations(save=save, load=lambda key: bare_load(root, key), list_keys=list_keys)


@contextmanager
def open_persistkit(directory: Path, fsync: bool) -> Iterator[Operations]:
    """Files by persistkit: the engine in plain calls, its backend awaited."""
    backend = FilePersistenceBackend(directory, fsync=fsync)
    engine = backend.engine

    async def listed() -> Any:
        return to_frame(engine)

    yield Operations(
        save=engine.save,
        load=engine.load,
        await_save=backend.save,
        await_load=backend.load,
        batch_save=backend.batch_save,
        batch_load=backend.batch_load,
        list_keys=backend.list_keys,
        to_frame=listed,
    )


@contextmanager
def open_aiofiles(directory: Path, fsync: bool) -> Iterator[Operations]:
    """The usual way with aiofiles: every call awaited, each in a thread."""
    root = str(directory)

    async def save(key: str, value: bytes) -> None:
        temp = f"{root}/.{key}.tmp"
        async with aiofiles.open(temp, "xb") as file:
            await file.write(value)
            if fsync:
                await file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
        await aiofiles.os.replace(temp, f"{root}/{key}")
        if fsync:
            await asyncio.to_thread(sync_directory, root)

    async def load(key: str) -> bytes:
        async with aiofiles.open(f"{root}/{key}", "rb") as file:
            return await file.read()

    yield Operations(
        await_save=save,
        await_load=load,
        batch_save=lambda items: gathered(lambda item: save(*item), list(items.items())),
        batch_load=lambda keys: gathered(load, keys),
        list_keys=lambda: aiofiles.os.listdir(root),
    )


@contextmanager
def open_obstore(directory: Path, fsync: bool) -> Iterator[Operations]:  # noqa: ARG001 - obstore never syncs
    """The LocalStore of obstore; its batches are its awaited calls, gathered."""
    store = ObjectStore(directory)

    async def load(key: str) -> object:
        return await (await store.get_async(key)).bytes_async()

    async def list_keys() -> list[str]:
        return [found["path"] for page in store.list() for found in page]

    yield Operations(
        save=store.put,
        load=lambda key: store.get(key).bytes(),
        await_save=store.put_async,
        await_load=load,
        batch_save=lambda items: gathered(lambda item: store.put_async(*item), list(items.items())),
        batch_load=lambda keys: gathered(load, keys),
        list_keys=list_keys,
    )


def open_cache(directory: Path, fsync: bool) -> diskcache.Cache:
    """Return a diskcache that evicts nothing, and syncs every commit or none."""
    durable = {"sqlite_synchronous": 2, "disk_min_file_size": _NO_FILES_BESIDE}
    settings = durable if fsync else {"sqlite_synchronous": 0}
    return diskcache.Cache(str(directory), eviction_policy="none", size_limit=2**40, **settings)


@contextmanager
def open_diskcache(directory: Path, fsync: bool) -> Iterator[Operations]:
    """The diskcache package, which has no await; a batch is one transaction."""
    with closing(open_cache(directory, fsync)) as cache:

        async def batch_save(items: dict[str, bytes]) -> None:
            with cache.transact():
                for key, value in items.items():
                    cache.set(key, value)

        async def batch_load(keys: list[str]) -> list[Any]:
            with cache.transact():
                return [cache.get(key) for key in keys]

        async def list_keys() -> list[Any]:
            return list(cache.iterkeys())

        yield Operations(
            save=cache.set, load=cache.get, batch_save=batch_save, batch_load=batch_load, list_keys=list_keys
        )


@contextmanager
def open_key_value(directory: Path, fsync: bool) -> Iterator[Operations]:
    """py-key-value's DiskStore; it stores JSON only, so bytes go in as base64, and it cannot list."""
    with closing(open_cache(directory, fsync)) as cache:
        store = DiskStore(disk_cache=cache)

        def packed(value: bytes) -> dict[str, str]:
            return {"data": base64.b64encode(value).decode()}

        async def load(key: str) -> bytes:
            found = await store.get(key)
            return base64.b64decode(found["data"]) if found else b""

        async def batch_load(keys: list[str]) -> list[bytes]:
            return [base64.b64decode(found["data"]) if found else b"" for found in await store.get_many(keys)]

        yield Operations(
            await_save=lambda key, value: store.put(key, packed(value)),
            await_load=load,
            batch_save=lambda items: store.put_many(list(items), [packed(value) for value in items.values()]),
            batch_load=batch_load,
        )


@contextmanager
def open_zarr(directory: Path, fsync: bool) -> Iterator[Operations]:  # noqa: ARG001 - zarr never syncs
    """The LocalStore of zarr; its batches are its awaited calls, gathered."""
    store = ArrayStore(directory)
    buffer = default_buffer_prototype().buffer

    async def load(key: str) -> bytes:
        found = await store.get(key)
        return found.to_bytes() if found else b""

    def load_blocking(key: str) -> bytes:
        found = store.get_sync(key)
        return found.to_bytes() if found else b""

    async def list_keys() -> list[str]:
        return [key async for key in store.list()]

    yield Operations(
        save=lambda key, value: store.set_sync(key, buffer.from_bytes(value)),
        load=load_blocking,
        await_save=lambda key, value: store.set(key, buffer.from_bytes(value)),
        await_load=load,
        batch_save=lambda items: gathered(
            lambda item: store.set(item[0], buffer.from_bytes(item[1])), list(items.items())
        ),
        batch_load=lambda keys: gathered(load, keys),
        list_keys=list_keys,
    )


@contextmanager
def open_sqlite(directory: Path, fsync: bool) -> Iterator[Operations]:
    """The standard sqlite3: batches only, each in one transaction."""
    with closing(sqlite3.connect(directory / "values.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'OFF'}")
        connection.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")

        async def batch_save(items: dict[str, bytes]) -> None:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", items.items())

        async def batch_load(keys: list[str]) -> list[bytes]:
            look = "SELECT value FROM entries WHERE key = ?"
            return [connection.execute(look, (key,)).fetchone()[0] for key in keys]

        async def list_keys() -> list[str]:
            return [key for (key,) in connection.execute("SELECT key FROM entries ORDER BY key")]

        yield Operations(batch_save=batch_save, batch_load=batch_load, list_keys=list_keys)


CONTENDERS = (
    Contender(YARDSTICK, open_bare, syncs=True),
    Contender(PERSISTKIT, open_persistkit, syncs=True),
    Contender(AIOFILES, open_aiofiles, syncs=True),
    Contender("obstore", open_obstore, syncs=False),
    Contender("diskcache", open_diskcache, syncs=True),
    Contender("py-key-value", open_key_value, syncs=True),
    Contender("zarr", open_zarr, syncs=False),
    Contender("sqlite3", open_sqlite, syncs=True),
)
